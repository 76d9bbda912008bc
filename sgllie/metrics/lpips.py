"""LPIPS: how different two images look to a network that has learned to see, weighed as people judge it.

Source: Zhang, Isola, Efros, Shechtman and Wang, "The Unreasonable Effectiveness of Deep Features as a Perceptual
Metric", CVPR 2018. How much each channel counts (`lpips_parameters.npz`) is what the authors released; see README.md
beside it. The network is torchvision's AlexNet, which torchvision fetches (233 MB) unless it lies in its cache.
"""

from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import UndefinedError
from sgllie.metrics.fidelity import check_pair

if TYPE_CHECKING:
    import torch

LAYERS = (1, 4, 7, 9, 11)
"""The five rectifiers of AlexNet."""
MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of the channels of photographs in -1..1."""
SMALLEST = 64
TINY = 1e-10


@cache
def network() -> "tuple[torch.nn.Sequential, list[torch.Tensor]]":
    """Load the layers of AlexNet that see, and how much each channel of the five counts.

    Raises:
        OSError: its weights are not in the cache of torchvision (TORCH_HOME/hub/checkpoints), and cannot be fetched.
    """
    import torch
    from torchvision.models import AlexNet_Weights, alexnet

    layers = alexnet(weights=AlexNet_Weights.IMAGENET1K_V1, progress=False).features.eval()
    with resources.files(__package__).joinpath("lpips_parameters.npz").open("rb") as file:
        parameters = np.load(file)
        return layers, [torch.from_numpy(parameters[f"layer{number}"]) for number in range(len(LAYERS))]


def features(image: NDArray) -> "list[torch.Tensor]":
    """Return what the five layers see, at each place of unit length: H x W (x 3) -> five of channels x h x w."""
    import torch

    rgb = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    scaled = (2 * (rgb / np.iinfo(image.dtype).max) - 1 - MEAN) / DEVIATION
    seen = torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1)[None]
    found = []
    for number, layer in enumerate(network()[0]):
        seen = layer(seen)
        if number in LAYERS:
            found.append(seen[0] / (torch.linalg.vector_norm(seen[0], dim=0) + TINY))
    return found


def lpips(image: NDArray, reference: NDArray) -> float:
    """Return Learned Perceptual Image Patch Similarity; lower is better, 0 for equal images, about 0.7 at most.

    Version 0.1 with AlexNet: RGB in -1..1, normalised by channel; the outputs of the five rectifiers, scaled to unit
    length at each place; their squared differences, weighted by channel, summed over channels, averaged over places,
    summed over layers. No resizing.

    Args:
        image: H x W x 3 RGB or H x W grey, uint8 or uint16, at least 64 x 64.
        reference: of the same shape and depth.

    Raises:
        UndefinedError: the image is too small.
        OSError: see `network`.
    """
    import torch

    check_pair(image, reference, "LPIPS")
    if min(image.shape[:2]) < SMALLEST:
        raise UndefinedError(f"LPIPS needs at least 64x64 pixels, got an image of {image.shape[1]}x{image.shape[0]}")
    with torch.inference_mode():
        total = sum(
            (weights @ ((a - b) ** 2).flatten(1)).mean()
            for weights, a, b in zip(network()[1], features(image), features(reference), strict=True)
        )
    return float(total)
