"""Whether the pixels of an image are ids and no brightness: label maps, instance maps, depth and disparity.

Such maps are stored without loss and hold few values, and most pixels of nearly every value have neighbours of the same
value. Photographs have many values and noise; drawings and scans have smooth edges, whose values form no regions; a
photograph of few levels has neighbours of the next level, where ids border on any other. Depth and disparity have many
values, but where nothing was measured they are zero, and from there they leap. Optical flow has a channel that says
where it is known. docs/figures.md says how often that is right.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgllie.images.codec import DecodedImage

Values = NDArray[Any]
"""The grey levels of an image, uint8 or uint16, or its colours as numbers, uint32: N x H x W, rows that are neighbours
in each of N parts."""

SMALLEST_SIDE = 32
"""Pixels; what is smaller tells too little."""
LOOKS = (3, 24)
"""Pairs of rows, spread over the height, that are looked at before the whole image is."""
MOST_VALUES = 512
FLAT, FLAT_AT_FIRST = 0.9, 0.6
"""Share of the pixels that equal their right and lower neighbours, at least: in the whole image, and in a few rows."""
OWN_FLAT, FLAT_VALUES = 0.5, 0.75
"""Share of its pixels that do so, for a value that forms regions; and share of the values that do, at least."""
FEW_VALUES = 3
"""So few have no order by which a photograph of few levels could be told."""
NEXT, NEXT_BY_CHANCE = 0.5, 1.0
"""Share of the borders, at most, that lie between a level and the next one; and how much is added to it, divided by the
number of values, since of few levels many are next to each other."""
HOLES, LEAP = 0.02, 32
"""Borders between zero and another value, for each pixel, at least; and steps that all but a twentieth of them leap."""
FLOW_LEVEL = 2**14
"""Which optical flow reaches, as KITTI stores it: no motion is 2**15, one pixel 64 more or less."""
BAND_VALUES = 2**18
"""Of an image that are looked at together: they take some 30 bytes each, and an image may have 178 million."""


def ids_in(image: DecodedImage) -> str | None:
    """Return by what an image is told to be a map of ids, in words; None where it may be a photograph.

    Most photographs cost a look at six rows, and a JPEG nothing: ids do not survive loss. Small images count as
    photographs, and grey ones of 2 or 4 bits as scans. Alpha tells nothing: what belongs to no class is often
    transparent, and some maps keep ids there, too.
    """
    has_loss = image.format == "jpeg" or (image.format == "webp" and not image.metadata.lossless)
    pixels = image.pixels
    if has_loss or min(pixels.shape[:2]) < SMALLEST_SIDE:
        return None
    if pixels.ndim == 3 and pixels.dtype == np.uint16:
        return flow(pixels)
    for looks in LOOKS:
        rows = np.linspace(0, len(pixels) - 2, looks + 2)[1:-1].astype(int)
        values = as_values(pixels[np.stack((rows, rows + 1), axis=1)])
        if not (may_be_regions(values) or leaps([values])):
            return None
    return regions(pixels, is_scan=image.mode == "L" and image.bit_depth in (2, 4)) or leaps(bands(pixels))


def bands(pixels: NDArray[Any]) -> Iterator[Values]:
    """Yield the values of an image in bands of rows; each one begins with the last row of the one before."""
    rows = max(BAND_VALUES // pixels.shape[1], 1)
    for start in range(0, len(pixels) - 1, rows):
        yield as_values(pixels[None, start : start + rows + 1])


def as_values(pixels: NDArray[Any]) -> Values:
    """Return grey levels as they are, and colours as numbers of 24 bits; N x H x W."""
    if pixels.ndim == 3:
        return pixels
    red, green, blue = (pixels[..., channel].astype(np.uint32) for channel in range(3))
    return red << 16 | green << 8 | blue


def flat(values: Values) -> NDArray[np.bool_]:
    """Tell which values, all but those of the last row and column, equal their right and lower neighbours."""
    inner = values[:, :-1, :-1]
    return (inner == values[:, :-1, 1:]) & (inner == values[:, 1:, :-1])


def may_be_regions(values: Values) -> bool:
    """Tell whether a part of an image may be one of a label map."""
    return bool(flat(values).mean() >= FLAT_AT_FIRST) and len(np.unique(values)) <= MOST_VALUES


def regions(pixels: NDArray[Any], is_scan: bool) -> str | None:
    """Tell whether the values of a whole image form regions that border on each other in any order."""
    levels = levels_of(pixels)
    brightest = 0xFFFFFF if levels.dtype == np.uint32 else np.iinfo(levels.dtype).max
    if set(levels.tolist()) <= {0, brightest}:
        return "only black and white"
    if len(levels) > MOST_VALUES or is_scan:
        return None
    places, count, own = order_of(levels), np.zeros(len(levels)), np.zeros(len(levels))
    steps = np.zeros(2)
    for values in bands(pixels):
        ranks = np.searchsorted(levels, values)
        inner = ranks[:, :-1, :-1]
        count += np.bincount(inner.ravel(), minlength=len(levels))
        own += np.bincount(inner[flat(values)], minlength=len(levels))
        one, other = borders(places[ranks])
        steps += (np.abs(one - other) == 1).sum(), len(one)
    if own.sum() < FLAT * count.sum() or (own >= OWN_FLAT * count).mean() < FLAT_VALUES:
        return None
    if len(levels) > FEW_VALUES and steps[0] > (NEXT + NEXT_BY_CHANCE / len(levels)) * steps[1]:
        return None
    return f"{len(levels)} value{'s' * (len(levels) > 1)} in flat regions"


def levels_of(pixels: NDArray[Any]) -> Values:
    """Return the values of an image in their order; of more than MOST_VALUES not all."""
    levels = np.empty(0, as_values(pixels[None, :1]).dtype)
    for values in bands(pixels):
        levels = np.union1d(levels, values)
        if len(levels) > MOST_VALUES:
            break
    return levels


def order_of(levels: Values) -> NDArray[np.int64]:
    """Return the place of each level among all: colours in the order of their luma."""
    if levels.dtype != np.uint32:
        return np.arange(len(levels))
    luma = (levels >> 16) * 0.299 + (levels >> 8 & 255) * 0.587 + (levels & 255) * 0.114
    return np.argsort(np.argsort(luma, kind="stable"))


def borders(values: Values) -> tuple[Values, Values]:
    """Return the values on both sides of each border between neighbours that differ, but those within the last row."""
    pairs = ((values[:, :-1, 1:], values[:, :-1, :-1]), (values[:, 1:], values[:, :-1]))
    sides = [(one[one != other], other[one != other]) for one, other in pairs]
    return np.concatenate([one for one, _ in sides]), np.concatenate([other for _, other in sides])


def leaps(parts: Iterable[Values]) -> str | None:
    """Tell whether 16-bit values leap wherever they border on zero, at many places."""
    edges: list[Values] = []
    counts, size = np.zeros(65536, np.int64), 0
    for values in parts:
        if values.dtype != np.uint16:
            return None
        one, other = borders(values)
        edges.append(np.maximum(one, other)[(one == 0) != (other == 0)])
        counts += np.bincount(values.ravel(), minlength=65536)
        size += values.size
    leaping = np.concatenate(edges)
    if len(leaping) < HOLES * size:
        return None
    step = np.median(np.diff(np.flatnonzero(counts)))
    return "depth or disparity with holes" if np.quantile(leaping, 0.05) >= LEAP * step else None


def flow(pixels: NDArray[np.uint16]) -> str | None:
    """Tell whether 16-bit colours are optical flow in two channels, and 0 or 1 for whether it is known in the third."""
    return "optical flow" if pixels[..., 2].max() == 1 and pixels[..., :2].max() >= FLOW_LEVEL else None
