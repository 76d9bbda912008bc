"""Brightness that does not flicker: the factor map of a frame is a mean over the frames before it, up to the last cut.

What is smoothed is the map, which says for each block of pixels what the curve shall do. Every frame keeps its own
pixels, so nothing that moves leaves a trail.
"""

import math
from collections import deque
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.enhancer import Factor, Pixels
from sgllie.errors import UsageError

NEGLIGIBLE = 0.01
"""Maps so old that all of them together weigh less than this are forgotten."""

CUT_DISTANCE = 0.25
"""Share of the pixels that must change their level, on the mean of nine regions, for a frame to begin a new scene."""
LEVELS = 32
REGIONS = 3
SAMPLES = 40_000


class Smoother:
    """The exponential mean of factor maps over time, causal, begun anew at each scene cut.

    A map that is k frames old weighs smoothing^k. Its memory is finite (`lead` frames), so that a part of a video gets
    exactly the maps that it has within the whole, once the `lead` frames before it have been shown.

    Args:
        smoothing: weight of a frame against that of the next, 0 (each frame by itself) up to, but not including, 1.
    """

    def __init__(self, smoothing: float) -> None:
        if not 0 <= smoothing < 1:
            raise UsageError(f"the temporal smoothing is {smoothing}; it must be at least 0 and less than 1")
        window = math.ceil(math.log(NEGLIGIBLE) / math.log(smoothing)) if smoothing > 0 else 1
        self.smoothing = smoothing
        self.lead = max(window, 1) - 1
        self._maps: deque[Factor] = deque(maxlen=self.lead + 1)
        self._levels: NDArray[np.float32] | None = None

    def __call__(self, image: Pixels, factor: Factor) -> tuple[Factor, bool]:
        """Return the map to use for the next frame of the video, and whether that frame begins a new scene.

        Args:
            image: the frame before enhancement, H x W x 3 or H x W, uint8 or uint16.
            factor: its own map, h x w x C.
        """
        levels = level_shares(image)
        cut = self._levels is not None and distance(levels, self._levels) > CUT_DISTANCE
        self._levels = levels
        if cut:
            self._maps.clear()
        self._maps.append(factor)
        # Summed from scratch each time: a running sum would carry rounding from before the memory's end.
        total = np.zeros_like(factor)
        weight = weights = np.float32(1)
        total += factor
        for older in list(self._maps)[-2::-1]:
            weight *= np.float32(self.smoothing)
            weights += weight
            total += weight * older
        return total / weights, cut


def level_shares(image: Pixels) -> NDArray[np.float32]:
    """Return for each of nine regions the share of its pixels on each of 32 levels: 9 x 32.

    Levels are even in the square root of the values: dark scenes, which differ by a few grey levels, stay apart.
    """
    step = max(round(math.sqrt(image.shape[0] * image.shape[1] / SAMPLES)), 1)
    few: NDArray[Any] = np.ascontiguousarray(image[::step, ::step])
    luma = cv2.cvtColor(few, cv2.COLOR_RGB2GRAY) if few.ndim == 3 else few
    levels = (np.sqrt(luma / np.float32(np.iinfo(luma.dtype).max)) * (LEVELS - 1) + 0.5).astype(np.int64)
    rows, columns = (np.arange(side) * REGIONS // side for side in luma.shape)
    regions = rows[:, None] * REGIONS + columns
    counts = np.bincount((regions * LEVELS + levels).ravel(), minlength=REGIONS**2 * LEVELS).reshape(-1, LEVELS)
    return (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)).astype(np.float32)


def distance(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the total variation between the shares of two frames, on the mean of the regions: 0 to 1."""
    return float(np.abs(one - other).sum(axis=1).mean() / 2)
