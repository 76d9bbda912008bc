"""The few rows, among any number, that stand first in some order."""

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgllie.runs.schemas import Row


class Leaders:
    """Keeps the rows with the highest keys, a few at most. With random keys, that is a uniform sample."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._kept: list[tuple[float, Row]] = []

    def add(self, table: pa.Table, keys: NDArray[np.floating]) -> None:
        """Offer the rows of a table, each with its key."""
        first = np.argsort(-keys, kind="stable")[: self.most]
        offered = zip(keys[first].tolist(), table.take(first).to_pylist(), strict=True)
        self._kept = sorted([*self._kept, *offered], key=lambda kept: -kept[0])[: self.most]

    @property
    def rows(self) -> list[Row]:
        """Return the rows that are kept, the first one first."""
        return [row for _, row in self._kept]
