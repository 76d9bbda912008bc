"""Statistics of the brightness of an image, all read off one histogram of its luma."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie import kernels


class Luminance(NamedTuple):
    """Brightness of one image. Luma is Rec. 601, 0.299 R + 0.587 G + 0.114 B, of the encoded values; black 0, white 1.

    Attributes:
        mean: of all pixels.
        p5: a twentieth of the pixels is at most this bright.
        p50: the median.
        p95: a twentieth of the pixels is at least this bright.
        contrast: RMS contrast, the standard deviation.
        entropy: of the histogram of 256 levels, in bits.
        clipped: share of pixels that are wholly black or wholly white.
    """

    mean: float
    p5: float
    p50: float
    p95: float
    contrast: float
    entropy: float
    clipped: float


def measure(pixels: NDArray[Any]) -> Luminance:
    """The brightness of an image, H x W x 3 (RGB) or H x W (grey), uint8 or uint16."""
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else np.ascontiguousarray(pixels)
    return Luminance(*kernels.summarise(histogram(luma)))


def histogram(luma: NDArray[Any]) -> NDArray[np.int64]:
    """Counts of each of the 256 or 65,536 levels of an H x W uint8 or uint16 array."""
    if luma.dtype == np.uint16:
        return np.bincount(luma.ravel(), minlength=65536)
    return kernels.count_levels(luma.ravel())
