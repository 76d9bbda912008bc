"""When the images of a run were finished."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PAUSE_SECONDS = 60
PAUSE_INTERVALS = 20
"""Nothing for so long, and for so many times the mean time between two images, means that the run was stopped."""


@dataclass(frozen=True)
class Bars:
    """A timeline to be drawn, its pauses left out.

    Attributes:
        seconds: that each bar stands for.
        images: finished in each of them.
        pauses: before which bar time was left out, and how many seconds.
    """

    seconds: float
    images: list[int]
    pauses: dict[int, float]

    @property
    def rate(self) -> float | None:
        """Return images per second of work; None where the run was too short to tell."""
        return sum(self.images) / (self.seconds * len(self.images)) if len(self.images) >= 8 else None


class Timeline:
    """How many images were finished in each stretch of time.

    Stretches begin at 250 ms and double whenever too many of them hold images: a run of seconds and one of weeks take
    the same room.
    """

    MOST = 512

    def __init__(self) -> None:
        self.width = 250
        self.counts: Counter[int] = Counter()

    def add(self, moments: NDArray[np.int64]) -> None:
        """Count moments, in milliseconds since 1970."""
        stretches, counts = np.unique(moments // self.width, return_counts=True)
        self.counts.update(dict(zip(stretches.tolist(), counts.tolist(), strict=True)))
        while len(self.counts) > self.MOST:
            self.counts, self.width = doubled(self.counts), self.width * 2

    def bars(self, most: int) -> Bars:
        """Return the same in at most `most` bars."""
        counts, width = self.counts, self.width
        while True:
            stretches = np.array(sorted(counts), np.int64)
            gaps = np.diff(stretches)
            paused = gaps > longest_gap(stretches, width, counts.total())
            bars = np.concatenate([[0], np.cumsum(np.where(paused, 1, gaps))])[: len(stretches)]
            if not len(bars) or bars[-1] < most:
                break
            counts, width = doubled(counts), width * 2
        images = np.zeros(bars[-1] + 1 if len(bars) else 0, np.int64)
        images[bars] = [counts[stretch] for stretch in stretches.tolist()]
        pauses = {int(bars[k + 1]): float(gaps[k] - 1) * width / 1000 for k in np.flatnonzero(paused)}
        return Bars(width / 1000, images.tolist(), pauses)


def doubled(counts: Counter[int]) -> Counter[int]:
    """Return the counts of stretches that are twice as long."""
    merged: Counter[int] = Counter()
    for stretch, count in counts.items():
        merged[stretch // 2] += count
    return merged


def longest_gap(stretches: NDArray[np.int64], width: int, images: int) -> float:
    """Return how many stretches may lie from one image to the next before it counts as a pause."""
    if not images:
        return 0
    interval = (stretches[-1] - stretches[0] + 1) / images
    return max(PAUSE_SECONDS * 1000 / width, PAUSE_INTERVALS * interval, 2)
