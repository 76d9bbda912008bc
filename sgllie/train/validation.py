"""What a network does to photographs that it was not trained on, and whether it still lives.

Each worker examines its own photographs; `merge` makes one row of all findings, the same for any number of workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgllie.metrics import clipped_share, niqe
from sgllie.network.model import EnhancementModel
from sgllie.train.train_step import Batch, Objective

CONSTANT = 1e-4
"""A factor map that varies by less than this, over places and photographs, is one exposure rule for all of them."""
DEAD = 1e-6
"""A layer whose channels all vary by less than this over all photographs does not answer to its input."""

Range = tuple[NDArray[np.float32], NDArray[np.float32]]


@dataclass(frozen=True)
class Finding:
    """What one batch of `count` photographs showed.

    Attributes:
        count: photographs.
        means: of the batch: the weighted terms, brightness, share of clipped pixels.
        factor: for each channel of the factor map its mean and that of its square.
        niqe: of each enhanced photograph; NaN where it has none (too small, or flat).
        ranges: for each layer the least and the greatest value of each channel, as the next layer sees them.
    """

    count: int
    means: dict[str, float]
    factor: NDArray[np.float64]
    niqe: list[float]
    ranges: dict[str, Range]


@torch.no_grad()
def examine(model: EnhancementModel, objective: Objective, batch: Batch) -> tuple[Finding, NDArray[np.uint8]]:
    """Enhance one batch with a model in evaluation mode; return what was found, and the images as N x H x W x 3."""
    with Activity(model.network) as activity:
        enhanced, factor = model(batch.images)
    pixels = to_pixels(enhanced)
    means = {name: float(value) for name, value in objective(batch, enhanced, factor).items()}
    means["brightness"] = float(enhanced.mean())
    means["clipped"] = clipped_share(pixels.reshape(-1, *pixels.shape[2:]))
    factors = factor.double()
    moments = torch.stack([factors.mean(dim=(0, 2, 3)), factors.square().mean(dim=(0, 2, 3))]).cpu().numpy()
    scores = [naturalness(image) for image in pixels]
    return Finding(len(pixels), means, moments, scores, activity.ranges), pixels


class Activity:
    """Records the range of every channel of the 3x3 layers of a network while it runs."""

    def __init__(self, network: nn.Module) -> None:
        self.layers = {name: layer for name, layer in network.named_children() if name.startswith("e_conv")}
        self.ranges: dict[str, Range] = {}

    def __enter__(self) -> "Activity":
        self.handles = [
            layer.register_forward_hook(lambda _layer, _inputs, output, name=name: self._record(name, output))
            for name, layer in self.layers.items()
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self.handles:
            handle.remove()

    def _record(self, name: str, output: Tensor) -> None:
        seen = output if name == list(self.layers)[-1] else output.relu()
        self.ranges[name] = (seen.amin(dim=(0, 2, 3)).cpu().numpy(), seen.amax(dim=(0, 2, 3)).cpu().numpy())


def merge(findings: Sequence[Finding]) -> dict[str, Any]:
    """Make one row of all findings: means, `loss` (the sum of the terms), `factor_deviation`, `niqe`, `dead_layers`."""
    counts = np.array([finding.count for finding in findings], float)
    row: dict[str, Any] = {
        name: float(np.average([finding.means[name] for finding in findings], weights=counts))
        for name in findings[0].means
    }
    row["loss"] = sum(value for name, value in row.items() if name not in ("brightness", "clipped"))
    mean, square = np.average([finding.factor for finding in findings], axis=0, weights=counts)
    row["factor"] = float(mean.mean())
    row["factor_deviation"] = float(np.sqrt(np.maximum(square - mean**2, 0).max()))
    scores = [score for finding in findings for score in finding.niqe if np.isfinite(score)]
    row["niqe"] = float(np.mean(scores)) if scores else float("nan")
    row["dead_layers"] = dead_layers([finding.ranges for finding in findings])
    return row


def dead_layers(ranges: Sequence[dict[str, Range]]) -> list[str]:
    """Return the layers whose channels have one value each, whatever the photograph."""
    dead = []
    for name in ranges[0]:
        least = np.min([found[name][0] for found in ranges], axis=0)
        greatest = np.max([found[name][1] for found in ranges], axis=0)
        if (greatest - least < DEAD).all():
            dead.append(name)
    return dead


def collapse(row: dict[str, Any]) -> str | None:
    """Say how a network with these findings has collapsed; None if it has not."""
    if not np.isfinite(row["loss"]):
        return "the loss on the validation images is not a finite number"
    if row["factor_deviation"] < CONSTANT:
        return f"the network gives the same factor everywhere in every photograph ({row['factor']:.3f} on average)"
    if row["dead_layers"]:
        return f"layers {', '.join(row['dead_layers'])} are dead: they put out the same values for every photograph"
    return None


def naturalness(image: NDArray[np.uint8]) -> float:
    """Return the NIQE of H x W x 3, or NaN for an image that it is not defined for."""
    try:
        return niqe(image)
    except ValueError:
        return float("nan")


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Round images to 8 bits: N x 3 x H x W in [0, 1] -> N x H x W x 3, uint8."""
    rounded = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(rounded.permute(0, 2, 3, 1).cpu().numpy())
