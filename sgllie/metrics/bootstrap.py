"""How sure a difference between before and after is, given the images it was measured on."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Takes what each image contributed and how often each image counts (N integers), and gives the value over the set.
Statistic = Callable[[Any, NDArray[np.int64]], float]


class Interval(NamedTuple):
    """A difference and the bounds between which it lies with the confidence that was asked for."""

    difference: float
    low: float
    high: float


def weighted_mean(values: NDArray, weights: NDArray[np.int64]) -> float:
    """Mean of one value for each image: the statistic of PSNR, NIQE and the like."""
    return float(np.average(values, weights=weights))


def bootstrap_interval(
    before: Any,
    after: Any,
    statistic: Statistic,
    images: int,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Percentile bootstrap over images of `statistic(after) - statistic(before)`.

    Each resample draws `images` images with replacement, the same for before and after, since both were measured on the
    same pictures. Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.

    Args:
        before: what each image contributed, in whatever form `statistic` takes.
        after: the same for the enhanced images, in the same order.
        statistic: see `Statistic`; must give a number for every resample, NaN where it has none.
        images: how many images there are.
        resamples: how many draws.
        confidence: share of the resampled differences between the bounds.
        seed: of the random draws; the same seed gives the same interval.

    Raises:
        ValueError: there is no image.
    """
    if images < 1:
        raise ValueError("a bootstrap interval needs at least one image")
    generator = np.random.default_rng(seed)
    differences = np.empty(resamples)
    for resample in range(resamples):
        weights = np.bincount(generator.integers(images, size=images), minlength=images)
        differences[resample] = statistic(after, weights) - statistic(before, weights)
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(differences, [tail, 1 - tail])
    ones = np.ones(images, np.int64)
    return Interval(statistic(after, ones) - statistic(before, ones), float(low), float(high))
