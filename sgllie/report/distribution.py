"""Distributions of which only counts are kept, so that a million values take no more room than one."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


class Distribution:
    """A histogram with an exact mean.

    Args:
        edges: of the bins, ascending, one more than there are bins. Values outside are counted in the outermost bins.

    Attributes:
        counts: values in each bin.
        total: sum of all values.
    """

    def __init__(self, edges: Floats) -> None:
        self.edges = edges
        self.counts = np.zeros(len(edges) - 1, np.int64)
        self.total = 0.0

    def add(self, values: Floats) -> None:
        """Count values, none of them NaN."""
        self.total += float(values.sum())
        self.counts += np.histogram(np.clip(values, self.edges[0], self.edges[-1]), self.edges)[0]

    @property
    def size(self) -> int:
        """Count the values."""
        return int(self.counts.sum())

    @property
    def mean(self) -> float | None:
        """Return the mean of all values; None where there were none."""
        return self.total / self.size if self.size else None

    def quantile(self, share: float) -> float | None:
        """Return the value that a share of all lies below, as exact as the bins are fine; None without values."""
        if not self.size:
            return None
        reached = np.cumsum(self.counts)
        rank = max(share * self.size, 1)
        k = int(np.searchsorted(reached, rank))
        inside = 1 - (reached[k] - rank) / self.counts[k]
        return float(self.edges[k] + inside * (self.edges[k + 1] - self.edges[k]))
