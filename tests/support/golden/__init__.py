"""Golden values: what published code gives, small enough to be kept with the tests.

`make.py` says where each file comes from. No input is kept: all are made here, of random numbers whose streams are
frozen (numpy's `RandomState`) or have not changed for years (torch's generator; `losses.npz` holds some of its values).
"""

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from sgllie.network.architecture import parameter_shapes
from sgllie.network.weights import Weights

FOLDER = Path(__file__).parent

NETWORKS = (("sgz", "dsc", 12), ("sgz", "dsc", 4), ("sgz", "dsc", 1), ("sgz", "dc", 1), ("zero-dce", "tc", 1))
"""Architecture, type of convolution and scale factor of the networks in `network.npz`."""


def load(name: str) -> dict[str, NDArray]:
    """Read all arrays of a golden file."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)


def loss_inputs() -> dict[str, torch.Tensor]:
    """Draw what the golden losses were computed of: two dark and two bright images, factor maps, logits."""
    generator = torch.Generator().manual_seed(7)
    shape = (2, 3, 64, 96)
    return {
        "original": torch.rand(shape, generator=generator) * 0.3,
        "enhanced": torch.rand(shape, generator=generator),
        "factor": torch.tanh(torch.randn(shape, generator=generator)),
        "logits": torch.randn((2, 21, 16, 24), generator=generator) * 2,
    }


def golden_weights(architecture: str, conv_type: str) -> Weights:
    """Draw uniform weights with which signals keep their strength, and factor maps reach far to both sides."""
    random = np.random.RandomState(11)
    tensors = {}
    for name, shape in parameter_shapes(architecture, conv_type).items():
        reach = 0.1 if name.endswith("bias") else np.sqrt(6 / np.prod(shape[1:]))
        tensors[name] = ((2 * random.random_sample(shape) - 1) * reach).astype(np.float32)
    return Weights(architecture, conv_type, tensors)


def dark_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Draw dark noise over a gradient from left to right: H x W x 3, RGB."""
    noise = np.random.RandomState(seed).randint(0, 256, (height, width, 3))
    return (noise * (20 + 100 * np.arange(width)[:, None] // width) // 255).astype(np.uint8)


def training_batch() -> NDArray[np.float32]:
    """Draw the batch of the golden training: two dark images, 2 x 3 x 48 x 64 in [0, 1]."""
    images = np.stack([dark_image(48, 64, seed) for seed in (1, 2)])
    return (images.transpose(0, 3, 1, 2) / np.float32(255)).astype(np.float32)


def texture(height: int = 200, width: int = 300, seed: int = 0) -> NDArray[np.uint8]:
    """Draw smooth texture at two scales, with integers alone: H x W x 3, RGB."""
    total = np.zeros((height, width, 3), np.int64)
    for side in (3, 9):
        noise = np.random.RandomState(seed + side).randint(-128, 128, (height + side, width + side, 3))
        sums = noise.cumsum(axis=0).cumsum(axis=1)
        box = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
        total += box * 2 // side
    return np.clip(total + 128, 0, 255).astype(np.uint8)


def noisy(image: NDArray[np.uint8], amplitude: int = 20) -> NDArray[np.uint8]:
    """Add uniform noise to an image."""
    noise = np.random.RandomState(99).randint(-amplitude, amplitude + 1, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)
