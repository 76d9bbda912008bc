"""What an image is like by itself: how bright, how varied, how colourful, how much of it is lost at the ends."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.metrics.colour import LUMA, check_image, largest_channel, luma, to_255


def brightness(image: NDArray) -> float:
    """Return the mean BT.601 luma of the gamma-encoded pixels, 0 (black) to 1 (white)."""
    check_image(image, "brightness")
    # Luma is linear: weighing the means of the channels is many times faster than the mean of the weighted pixels.
    means = np.array(cv2.mean(image)[: 3 if image.ndim == 3 else 1])
    return float((means * LUMA).sum() / np.iinfo(image.dtype).max)


def contrast(image: NDArray) -> float:
    """Return RMS contrast: the standard deviation of BT.601 luma on the scale 0..1; 0 if flat, at most 0.5."""
    check_image(image, "contrast")
    return float(luma(image).std() / 255)


def entropy(image: NDArray) -> float:
    """Return the Shannon entropy of the histogram of BT.601 luma in 256 levels, in bits: 0 (flat) to 8."""
    check_image(image, "entropy")
    counts = np.bincount(np.rint(luma(image)).astype(np.intp).ravel())
    shares = counts[counts > 0] / counts.sum()
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def colourfulness(image: NDArray) -> float:
    """Return Hasler and Süsstrunk's measure, 0 (grey) to about 110 (extremely colourful).

    With rg = R - G and yb = (R + G) / 2 - B on the scale 0..255:
    sqrt(var(rg) + var(yb)) + 0.3 sqrt(mean(rg)^2 + mean(yb)^2). Source: "Measuring colourfulness in natural images",
    Human Vision and Electronic Imaging 2003.
    """
    check_image(image, "colourfulness")
    if image.ndim == 2:
        return 0.0
    opponents = cv2.transform(to_255(image), np.array([[1.0, -1.0, 0.0], [0.5, 0.5, -1.0]]))
    mean, deviation = cv2.meanStdDev(opponents)
    return float(np.linalg.norm(deviation) + 0.3 * np.linalg.norm(mean))


def clipped_share(image: NDArray) -> float:
    """Return the share of the pixels (0..1) of which at least one channel is at its highest value: lost highlights.

    This is what `clipped` means wherever it stands alone; `luma_clipped_*` of `sgllie enhance` is the share of the
    pixels whose luma is at its lowest or highest level.
    """
    check_image(image, "clipped share")
    return at_limit(largest_channel(image), np.iinfo(image.dtype).max)


def black_share(image: NDArray) -> float:
    """Return the share of the pixels (0..1) of which every channel is zero: shadows that nothing can bring back."""
    check_image(image, "black share")
    return at_limit(largest_channel(image), 0)


def at_limit(values: NDArray, limit: int) -> float:
    """Return the share of H x W values that equal `limit`."""
    return float(np.count_nonzero(values == limit) / values.size)
