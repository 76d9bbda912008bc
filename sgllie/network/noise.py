"""How much noise an image holds, at each brightness: read off its flat patches.

Most images have places that are flat but for noise, at several brightnesses. Of all 8x8 blocks of about one brightness
the tenth with the least variance is taken to be those; what is clipped, black or white, takes no part. What a plane
explains, a gradient of light, does not count. The blocks lie on the grid of JPEG, so that the seams of its blocks are
no noise either, and where it has quantised noise away, there is none. Noise changes slowly with brightness, and most
towards black, so where the flattest blocks of one brightness still vary much more than others, that is texture.
"""

from math import gcd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgllie.kernel import kernel, kernel_part

BLOCK = 8
MOST_BLOCKS = 1000
"""Blocks that are looked at, spread over the image."""
LEAST_BLOCKS = 12
"""Of one brightness, and at least an eightieth of those that count: fewer tell nothing."""
FLATTEST = 0.1
"""Share of the blocks that is taken for flat."""
FLATTEST_VARIANCE = 0.78
"""What their variance is at most, of that of white noise: the tenth percentile of chi-squared, 61 degrees, over 61."""
TEXTURE = 2.25
"""Variance at one brightness beyond so many times that of the lower quarter of them is texture (1.5 squared)."""
GROWTH = 1.5
"""But towards black noise of the sensor may grow so much from one brightness to the next (see `texture_limited`)."""
ROUNDING = 0.15
"""Variance that is no noise, in steps squared: nearly twice that of numbers rounded to whole steps."""
SAMPLES = 10_000
"""Numbers of an image of 16 bits whose greatest common divisor is taken for its step."""
WHITE = 253.5
"""From this luma on a pixel is clipped; it is below the peak, since a JPEG need not hold white as such."""
EDGES = np.array([0, 1.5, 3, 5, 8, 12, 18, 26, 36, 50, 70, 100, 140, 190, 256], np.float32)
"""Between these levels of 255, blocks are of about one brightness."""
Y, X = (np.indices((BLOCK, BLOCK), np.float32) - np.float32((BLOCK - 1) / 2)).reshape(2, -1)
"""Row and column of each pixel of a block, from its middle."""


class Noise(NamedTuple):
    """The noise of one image.

    Attributes:
        variances: of Rec. 601 luma at each level from 0 to 255, in levels squared: 256 float32.
        chroma: by how much those of B - Y and R - Y are larger: 2 float32, 0 where there is none, as in most JPEGs;
            empty for a grey image.
    """

    variances: NDArray[np.float32]
    chroma: NDArray[np.float32]


def noise_of(image: NDArray[Any]) -> Noise | None:
    """Estimate the noise of an image, H x W x C, uint8 or uint16; None for none, or where too little tells of it."""
    rows, columns = (side // BLOCK for side in image.shape[:2])
    if rows * columns < LEAST_BLOCKS:
        return None
    # No common factor with the columns, or the blocks would lie below each other.
    step = max(rows * columns // MOST_BLOCKS, 1)
    while gcd(step, columns) > 1:
        step += 1
    found = flat_variances(image, np.float32(255 / np.iinfo(image.dtype).max), step, EDGES)
    known = found[:, 0] >= 0
    # Near black most noise is clipped, and stored bars are hardly ever all black: any other brightness tells more.
    known[0] &= not known[1:].any()
    if not known.any():
        return None
    rounding = rounding_of(image)
    lowest = np.sort(found[known], axis=0)[known.sum() // 4]
    if lowest[0] <= rounding:
        return None
    middles = (EDGES[:-1] + EDGES[1:])[known] / 2
    variances = np.interp(np.arange(256), middles, texture_limited(found[known, 0], lowest[0], middles))
    chroma = np.where(lowest[1:] > rounding, lowest[1:] / lowest[0], np.float32(0))
    return Noise(np.maximum(variances - rounding, 0).astype(np.float32), chroma)


def texture_limited(variances: NDArray[Any], lowest: float, levels: NDArray[Any]) -> NDArray[Any]:
    """Return variances of rising levels without those that are texture; `lowest` is one of them.

    Noise of the sensor is the same in all of linear light. In encoded values it has the slope of the sRGB curve, which
    is (level + 14) ** -1.4 down to level 10, and straight below.
    """
    most = TEXTURE * lowest
    bases = np.maximum(levels, 10.3) + 14
    limits = most * np.maximum((bases[variances == lowest][0] / bases) ** 2.8, 1)
    limited = np.minimum(variances, limits)
    for place in reversed(range(len(limited) - 1)):
        limited[place] = min(limited[place], max(GROWTH * limited[place + 1], most))
    return limited


def rounding_of(image: NDArray[Any]) -> float:
    """Return the variance that is no noise, in levels squared, by the steps that the numbers of an image come in.

    16 bits may hold no more than 8, stretched, or 12. Larger steps than those of 8 are what a picture happens to hold.
    """
    if image.dtype == np.uint8:
        return ROUNDING
    step = int(np.gcd.reduce(image.reshape(-1)[:: max(image.size // SAMPLES, 1)]))
    return ROUNDING * (min(step or 257, 257) / 257) ** 2


@kernel
def flat_variances(image: Any, unit: Any, step: int, edges: Any) -> Any:
    """Return the variance of the flattest blocks for each of the brightnesses between `edges`, in levels squared.

    Args:
        image: H x W x C.
        unit: what an integer of it is in levels of 255.
        step: one block in so many is looked at.
        edges: N + 1 rising levels.

    Returns:
        N x C float32: of luma, and with three channels of B - Y and R - Y; -1 where there are too few blocks.
    """
    rows, columns, channels = image.shape[0] // BLOCK, image.shape[1] // BLOCK, image.shape[2]
    blocks = (rows * columns - 1) // step + 1
    variances = np.empty((channels, blocks), np.float32)
    groups = np.empty(blocks, np.int64)
    patch = np.empty((channels, BLOCK * BLOCK), np.float32)
    for block in range(blocks):
        take_block(image, unit, block * step // columns * BLOCK, block * step % columns * BLOCK, patch)
        for channel in range(channels):
            mean, variances[channel, block] = spread(patch[channel], X, Y)
            if channel == 0:
                groups[block] = np.searchsorted(edges, mean, side="right") - 1
        # What is clipped tells nothing of noise: black bars, blown lamps.
        if not 0 < patch[0].max() < WHITE:
            groups[block] = -1
    least = max(LEAST_BLOCKS, (groups >= 0).sum() // 80)
    found = np.full((len(edges) - 1, channels), -1, np.float32)
    for group in range(len(edges) - 1):
        chosen = groups == group
        count = chosen.sum()
        if count >= least:
            for channel in range(channels):
                ordered = np.sort(variances[channel][chosen])
                found[group, channel] = ordered[int(FLATTEST * count)] / np.float32(FLATTEST_VARIANCE)
    return found


@kernel_part
def take_block(image: Any, unit: Any, top: int, left: int, patch: Any) -> None:
    """Fill luma, B - Y and R - Y of one block, C x 64 in levels of 255; of a grey image luma alone."""
    for y in range(BLOCK):
        for x in range(BLOCK):
            place = y * BLOCK + x
            if len(patch) == 1:
                patch[0, place] = unit * np.float32(image[top + y, left + x, 0])
            else:
                r = unit * np.float32(image[top + y, left + x, 0])
                g = unit * np.float32(image[top + y, left + x, 1])
                b = unit * np.float32(image[top + y, left + x, 2])
                luma = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
                patch[0, place] = luma
                patch[1, place] = b - luma
                patch[2, place] = r - luma


@kernel_part
def spread(patch: Any, columns: Any, rows: Any) -> tuple[Any, Any]:
    """Return the mean of a block, and its variance around the plane that fits it best.

    `columns` and `rows` say where each of its pixels lies, from the middle of the block. One loop over plain vectors,
    since that is what is vectorised; levels are taken from the first one, or their squares would lose digits.
    """
    zero, first, size = np.float32(0), patch[0], np.float32(len(patch))
    total, across, down, squares = zero, zero, zero, zero
    for i in range(len(patch)):
        level = patch[i] - first
        total += level
        across += level * columns[i]
        down += level * rows[i]
        squares += level * level
    moment = size * (size - np.float32(1)) / np.float32(12)
    left = squares - total * total / size - (across * across + down * down) / moment
    return first + total / size, max(left, zero) / (size - np.float32(3))
