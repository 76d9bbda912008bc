"""How sure a difference between before and after is, given the images it was measured on."""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

# Takes what each image contributed and how often each of N images counts in each of B sets (B x N integers), and gives
# the value over each set (B): many sets at a time, since a product of matrices is many times faster than its rows.
Statistic = Callable[[Any, NDArray[np.int64]], NDArray[np.float64]]
CONFIDENCE = 0.95
"""Share of the resampled differences between the bounds."""
BATCH = 5_000_000
"""Integers that are drawn at a time, at most."""


class Interval(NamedTuple):
    """A difference and the bounds between which it lies with CONFIDENCE."""

    difference: float
    low: float
    high: float


def weighted_mean(values: NDArray, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the mean of one value for each image: the statistic of PSNR, NIQE and the like."""
    return np.asarray(weights @ values / weights.sum(axis=1), np.float64)


def bootstrap_interval(
    before: Any,
    after: Any,
    statistic: Statistic,
    images: int,
    *,
    resamples: int = 1000,
) -> Interval:
    """Return the percentile bootstrap interval, over images, of `statistic(after) - statistic(before)`.

    Each resample draws `images` images with replacement, the same for before and after, since both were measured on the
    same pictures. Source: Efron and Tibshirani, "An Introduction to the Bootstrap", 1993.

    Args:
        before: what each image contributed, in whatever form `statistic` takes.
        after: the same for the enhanced images, in the same order.
        statistic: see `Statistic`; must give a number for every set, NaN where it has none.
        images: how many images there are.
        resamples: how many draws.

    Raises:
        ValueError: there is no image.
    """
    if images < 1:
        raise ValueError("a bootstrap interval needs at least one image")
    generator = np.random.default_rng(0)  # the same images give the same interval
    draws = (np.bincount(generator.integers(images, size=images), minlength=images) for _ in range(resamples))
    differences = []
    while batch := list(itertools.islice(draws, max(1, BATCH // images))):
        weights = np.stack(batch)
        differences.append(statistic(after, weights) - statistic(before, weights))
    tail = (1 - CONFIDENCE) / 2
    low, high = np.nanquantile(np.concatenate(differences), [tail, 1 - tail])
    once = np.ones((1, images), np.int64)
    return Interval(float((statistic(after, once) - statistic(before, once))[0]), float(low), float(high))
