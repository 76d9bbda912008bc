"""Statistics of the luma of an image, all read off one histogram."""

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.kernel import exact_kernel


class LumaStatistics(NamedTuple):
    """Luma of one image. It is Rec. 601, 0.299 R + 0.587 G + 0.114 B, of the encoded values; black 0, white 1.

    Attributes:
        mean: of all pixels.
        p5: a twentieth of the pixels is at most this bright.
        p50: the median.
        p95: a twentieth of the pixels is at least this bright.
        contrast: RMS contrast, the standard deviation.
        entropy: of the histogram of 256 levels, in bits.
        clipped: share of pixels whose luma is at its lowest or highest level: wholly black or wholly white.
    """

    mean: float
    p5: float
    p50: float
    p95: float
    contrast: float
    entropy: float
    clipped: float


def measure(pixels: NDArray[Any]) -> LumaStatistics:
    """Return the statistics of an image, H x W x 3 (RGB) or H x W (grey), uint8 or uint16."""
    luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else np.ascontiguousarray(pixels)
    return LumaStatistics(*summarise(histogram(luma)))


def histogram(luma: NDArray[Any]) -> NDArray[np.int64]:
    """Return the counts of each of the 256 or 65,536 levels of an H x W uint8 or uint16 array."""
    levels = luma.ravel()
    return count(levels) if levels.dtype == np.uint8 else np.bincount(levels, minlength=65536)


@exact_kernel
def count(luma: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Count how often each of the 256 levels occurs in a contiguous row of pixels.

    Eight pixels are read at a time, and each of them has a table of its own, because equal levels would wait for each
    other's write. The tables stay in the first-level cache, and leave the image in the second.
    """
    whole = len(luma) // 8 * 8
    words = luma[:whole].view(np.uint64)
    tables = np.zeros((8, 256), np.uint32)
    mask, one = np.uint64(255), np.uint32(1)
    for i in range(len(words)):
        for place in range(8):
            tables[place, (words[i] >> np.uint64(8 * place)) & mask] += one
    counts = tables.sum(0).astype(np.int64)
    for level in luma[whole:]:
        counts[level] += 1
    return counts


@exact_kernel
def summarise(counts: NDArray[np.int64]) -> tuple[float, float, float, float, float, float, float]:
    """Return the `LumaStatistics` of a histogram: mean, 5/50/95 percentile, deviation, entropy, clipped share."""
    levels = len(counts)
    peak = levels - 1
    total = counts.sum()
    mean = 0.0
    square = 0.0
    for level in range(levels):
        mean += counts[level] * (level / peak)
        square += counts[level] * (level / peak) ** 2
    mean /= total
    deviation = np.sqrt(max(square / total - mean * mean, 0.0))
    entropy = 0.0
    group = levels // 256
    for start in range(0, levels, group):
        share = counts[start : start + group].sum() / total
        if share > 0:
            entropy -= share * np.log2(share)
    percentiles = np.zeros(3)
    wanted = (0.05, 0.5, 0.95)
    seen, level = 0, -1
    for k in range(3):
        while seen < wanted[k] * total:
            level += 1
            seen += counts[level]
        percentiles[k] = level / peak
    clipped = (counts[0] + counts[peak]) / total
    return mean, percentiles[0], percentiles[1], percentiles[2], deviation, entropy, clipped
