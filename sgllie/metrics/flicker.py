"""Flicker: how much more an enhanced video changes from frame to frame than the video it was made from.

    meter = FlickerMeter()
    for frame, original in ...: meter.add(frame, original)
    flicker = meter.result()
    flicker.change / flicker.original_change

Frames come one at a time, and only the last pair is kept.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import zip_longest

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.metrics.brightness import brightness
from sgllie.metrics.colour import FloatArray, luma, to_255
from sgllie.metrics.fidelity import check_pair

Flow = NDArray[np.float32]
# What OpenCV's DIS flow can work on.
SMALLEST = 12


@dataclass(frozen=True)
class Flicker:
    """Changes over time of an enhanced video and of its original; brightness is mean luma, 0 to 1.

    Attributes:
        frames: how many were measured.
        variance, original_variance: of the brightness over the frames (population variance).
        change, original_change: mean absolute difference of brightness between a frame and the next.
        warping_error, original_warping_error: mean absolute difference of RGB (0 to 1) between a frame and the next one
            warped back to it along the motion, where the motion can be followed; NaN where it was not measured.
    """

    frames: int
    variance: float
    original_variance: float
    change: float
    original_change: float
    warping_error: float
    original_warping_error: float


class FlickerMeter:
    """Collects pairs of frames, in the order of time.

    Motion is estimated on the original, between square roots of luma (which lifts dark frames, and does not know of the
    enhancement), by OpenCV's DIS optical flow (preset fast), in both directions. A pixel counts where it stays in the
    frame and the two motions cancel: |f + b|^2 <= 0.01 (|f|^2 + |b|^2) + 0.5, after Sundaram, Brox and Keutzer, "Dense
    point trajectories by GPU-accelerated large displacement optical flow", ECCV 2010. Both videos are compared on the
    same pixels along the same motion. The error itself follows Lai et al., "Learning Blind Video Temporal Consistency",
    ECCV 2018, with absolute in place of squared differences. Cut a video at its scene changes before measuring it.

    Args:
        flow: whether to measure the warping error, which takes most of the time.
    """

    def __init__(self, flow: bool = True) -> None:
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST) if flow else None
        self._brightness: list[tuple[float, float]] = []
        self._errors = np.zeros(2)
        self._values = 0
        self._last: tuple[NDArray, NDArray] | None = None

    def add(self, frame: NDArray, original: NDArray) -> None:
        """Add the next frame and its original: both H x W x 3 (or H x W), uint8 or uint16, of the size of the first.

        They are read again at the next call, so the arrays must not be overwritten in between.
        """
        check_pair(frame, original, "flicker")
        if self._flow is not None and max(frame.shape[:2]) < SMALLEST:
            raise ValueError(
                f"the warping error needs frames of at least 12 pixels, got {frame.shape[1]}x{frame.shape[0]}"
            )
        if self._last is not None:
            check_pair(frame, self._last[0], "flicker")
            if self._flow is not None:
                self._add_warping_errors(self._flow, self._last, (frame, original))
        self._brightness.append((brightness(frame), brightness(original)))
        self._last = (frame, original)

    def _add_warping_errors(
        self, motion: cv2.DISOpticalFlow, last: tuple[NDArray, NDArray], now: tuple[NDArray, NDArray]
    ) -> None:
        first, second = (np.rint(np.sqrt(luma(pair[1]) * 255)).astype(np.uint8) for pair in (last, now))
        flows = np.zeros((2, *first.shape, 2), np.float32)
        motion.calc(first, second, flows[0])
        motion.calc(second, first, flows[1])
        visible, target = visible_pixels(*flows)
        for index in range(2):
            warped = cv2.remap(to_255(now[index]), target[..., 0], target[..., 1], cv2.INTER_LINEAR)
            self._errors[index] += np.abs(warped - to_255(last[index]))[visible].sum() / 255
        self._values += int(np.count_nonzero(visible)) * (last[0].shape[2] if last[0].ndim == 3 else 1)

    def result(self) -> Flicker:
        """Return what was measured; ValueError where there are fewer than two frames."""
        if len(self._brightness) < 2:
            raise ValueError(f"flicker needs at least two frames, got {len(self._brightness)}")
        levels: FloatArray = np.array(self._brightness)
        variances = levels.var(axis=0)
        changes = np.abs(np.diff(levels, axis=0)).mean(axis=0)
        errors = self._errors / self._values if self._values else np.full(2, np.nan)
        return Flicker(len(levels), *(float(value) for pair in (variances, changes, errors) for value in pair))


def visible_pixels(forward: Flow, backward: Flow) -> tuple[NDArray[np.bool_], Flow]:
    """Return where motion can be followed (H x W), and where each pixel goes (H x W x 2, x and y).

    Args:
        forward: H x W x 2, x and y of the motion from the first frame to the second.
        backward: the same from the second to the first.
    """
    height, width = forward.shape[:2]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=2).astype(np.float32)
    target = grid + forward
    inside = ((target >= 0) & (target <= (width - 1, height - 1))).all(axis=2)
    returning = np.asarray(cv2.remap(backward, target[..., 0], target[..., 1], cv2.INTER_LINEAR))
    lengths = (forward**2).sum(axis=2) + (returning**2).sum(axis=2)
    return inside & (((forward + returning) ** 2).sum(axis=2) <= 0.01 * lengths + 0.5), target


def measure_flicker(frames: Iterable[NDArray], originals: Iterable[NDArray], flow: bool = True) -> Flicker:
    """Measure the flicker of a whole video: two iterables of frames, read one pair at a time (see `FlickerMeter`).

    Raises:
        ValueError: fewer than two frames, more of one video than of the other, or frames of different sizes.
    """
    meter = FlickerMeter(flow)
    for number, (frame, original) in enumerate(zip_longest(frames, originals)):
        if frame is None or original is None:
            raise ValueError(f"the two videos do not have the same number of frames: one ends after {number}")
        meter.add(frame, original)
    return meter.result()
