"""Arrays that metrics are computed on: checked, and on the scale 0..255."""

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# ITU-R BT.601, as MATLAB's rgb2gray has it: the first row of the inverse of its YIQ matrix.
LUMA = np.array([0.298936021293775, 0.587043074451121, 0.114020904255103])
# The same in studio range, 16..235, as MATLAB's rgb2ycbcr has it.
STUDIO_LUMA = np.array([65.481, 128.553, 24.966]) / 255
STUDIO_BLACK = 16.0


def check_image(image: NDArray, metric: str) -> None:
    """Raise ValueError for what is not H x W or H x W x 3, uint8 or uint16."""
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"{metric} needs uint8 or uint16 pixels, got {image.dtype}; convert the image first")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3) or 0 in image.shape:
        raise ValueError(f"{metric} needs an H x W or H x W x 3 image, got the shape {image.shape}")


def to_255(image: NDArray) -> FloatArray:
    """Scale uint8 or uint16 to float64 of the same shape in 0..255."""
    return image.astype(np.float64) / (np.iinfo(image.dtype).max // 255)


def luma(image: NDArray, studio_range: bool = False) -> FloatArray:
    """Return BT.601 luma, 0..255, or 16..235 where `studio_range`: H x W (x 3), uint8 or uint16 -> H x W float64.

    A grey image counts as RGB with three equal channels.
    """
    weights, black = (STUDIO_LUMA, STUDIO_BLACK) if studio_range else (LUMA, 0.0)
    if image.ndim == 2:
        return black + to_255(image) * weights.sum()
    return np.asarray(cv2.transform(to_255(image), weights[np.newaxis]), np.float64) + black


def largest_channel(image: NDArray) -> NDArray:
    """Return max(R, G, B): H x W x 3 or H x W -> H x W of the same dtype."""
    if image.ndim == 2:
        return image
    return np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])
