"""Makes the golden files anew: `cd tests/support && python -m golden.make REFERENCE`.

REFERENCE is a folder with values of the published code of SGZ and Zero-DCE (both MIT): golden_losses.npz,
golden_model.npz, golden_zero_dce.npz, golden_training.npz, and their checkpoints. Two kinds of files come of it:

- `losses.npz` holds the published values themselves, without their inputs, which are drawn anew and compared.
- The other published values belong to photographs, or need the published weights, neither of which is kept here. So
  this program checks that the networks, the training and the measures of this project give the published values, and
  only then writes what they give for inputs and weights that can be drawn: `network.npz`, `training.npz`,
  `metrics.json`. A later change that leaves the published values shows on these too.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import golden
from sgllie.metrics.brisque import brisque
from sgllie.metrics.fidelity import psnr, ssim
from sgllie.metrics.niqe import niqe
from sgllie.network import model
from sgllie.network.weights import Weights
from sgllie.train.settings import GuideSettings, LossSettings, TrainSettings
from sgllie.train.train_step import Batch, TrainStep

STEPS = 5
TESTS = golden.FOLDER.parents[1]
PARITY = (
    "network/test_model.py::test_published_sgz",
    "network/test_model.py::test_published_zero_dce",
    "train/test_train_step.py::test_five_steps_follow_the_published_training",
    "metrics/test_metrics.py::test_psnr_and_ssim_agree_with_the_official_values",
    "metrics/test_metrics.py::test_brisque_agrees_with_the_official_values",
    "metrics/test_metrics_niqe.py::test_agrees_with_the_official_values",
)
"""What must hold before anything is written."""


def main(reference: Path) -> None:
    """Check, then write."""
    if pytest.main(["-q", "-p", "no:cacheprovider", *(str(TESTS / test) for test in PARITY)]):
        raise SystemExit("the published values are not met: nothing was written")
    np.savez_compressed(golden.FOLDER / "losses.npz", **losses(reference))
    np.savez_compressed(golden.FOLDER / "network.npz", **networks())
    np.savez_compressed(golden.FOLDER / "training.npz", **training())
    (golden.FOLDER / "metrics.json").write_text(json.dumps(measures(), indent=2) + "\n")


def losses(reference: Path) -> dict[str, np.ndarray]:
    """Return the published losses, and the first values of their inputs; SystemExit if torch draws other inputs."""
    published = dict(np.load(reference / "golden_losses.npz"))
    for name, drawn in golden.loss_inputs().items():
        if not np.allclose(published.pop(name), drawn.numpy(), rtol=0, atol=1e-7):
            raise SystemExit(f"{name} is not drawn as it was")
        published[f"first_{name}"] = drawn.flatten()[:32].numpy()
    return published


def enhance(found: Weights, scale_factor: int, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the enhanced image and the factor map of an image, float32 H x W x C."""
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        both = model.EnhancementModel(model.network_from(found), scale_factor)(x)
    enhanced, factor = (result[0].permute(1, 2, 0).numpy() for result in both)
    return enhanced, factor


def networks() -> dict[str, np.ndarray]:
    """Return what the networks make of drawn weights and images."""
    results = {}
    for architecture, conv_type, scale_factor in golden.NETWORKS:
        image = golden.dark_image(*((25, 34) if architecture == "sgz" else (13, 16)))
        both = enhance(golden.golden_weights(architecture, conv_type), scale_factor, image)
        for name, result in zip(("enhanced", "factor"), both, strict=True):
            results[f"{architecture}_{conv_type}_{scale_factor}_{name}"] = result
    return results


def training() -> dict[str, np.ndarray]:
    """Return the terms of five steps of the published recipe from drawn weights, and the weights after them."""
    train_step = TrainStep(recipe(), total_steps=STEPS)
    drawn = golden.golden_weights("sgz", "dsc")
    train_step.network.load_state_dict({name: torch.from_numpy(value) for name, value in drawn.tensors.items()})
    terms = [list(train_step.step(Batch(torch.from_numpy(golden.training_batch()))).values()) for _ in range(STEPS)]
    state = {f"after/{name}": value.numpy() for name, value in train_step.network.state_dict().items()}
    return {"terms": np.array(terms), **state}


def recipe() -> TrainSettings:
    """Return the published recipe without its guide."""
    return TrainSettings("photographs", "run", loss=LossSettings(semantic=0), guide=GuideSettings(name="none"))


def measures() -> dict[str, float]:
    """Return measures of a drawn texture, with noise and without."""
    image = golden.texture()
    other = golden.noisy(image)
    pairs = {"psnr": psnr(other, image), "ssim": ssim(other, image)}
    return pairs | {"brisque": brisque(image), "brisque_noisy": brisque(other), "niqe": niqe(image)}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
