"""What a network says of an image: its factor map."""

from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from sgllie.network.kernels import mean_and_range

Factor = NDArray[np.float32]
"""h x w x (3 * maps) values in (-1, 1), 1 / scale_factor of the size of the image: below zero brightens."""


Level = list[float]
"""What a method takes of all of an image at once, float32 values; images that share it are brightened alike."""


class FactorStatistics(NamedTuple):
    """Mean, lowest and highest value of a factor map."""

    mean: float
    min: float
    max: float

    @classmethod
    def of(cls, factor: Factor) -> Self:
        """Measure a factor map; not by three functions of numpy's, whose code is in no cache by then."""
        return cls(*mean_and_range(factor.ravel()))
