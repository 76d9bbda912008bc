"""The trivial rule that any other method must beat: one exponent for each image, which brings it to middle grey."""

import numpy as np
from numpy.typing import NDArray

from sgllie.enhancer import Factor, Pixels, as_channels
from sgllie.images.luma import histogram
from sgllie.methods.blended import BlendedMethod, peak

TARGET = 0.5
LUMA = (0.299, 0.587, 0.114)
"""Rec. 601."""
SMALLEST, LARGEST = 0.1, 10.0
"""Limits of the exponent: an image that is mostly black cannot reach the target, and one wholly black has none."""
HALVINGS = 40


class Gamma(BlendedMethod):
    """x -> x^g for each channel, with the g in [0.1, 10] for which the mean Rec. 601 luma of the result is 0.5.

    Bright images are darkened by the same rule. The factor map is g, as 1 x 1 x 1.
    """

    is_global = True

    def factor_map(self, image: Pixels) -> Factor:
        """Find the exponent of one image, 1 x 1 x 1, by bisection."""
        pixels = as_channels(image)
        # Luma is linear in the channels, so its mean is that of one histogram in which each channel has its weight.
        weights = LUMA if pixels.shape[2] == 3 else (1.0,)
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        counts = np.sum([weight * histogram(plane) for weight, plane in zip(weights, planes, strict=True)], axis=0)
        values = np.linspace(0, 1, len(counts))
        used = counts > 0
        values, shares = values[used], counts[used] / counts.sum()
        low, high = SMALLEST, LARGEST
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if shares @ values**middle > TARGET:
                low = middle
            else:
                high = middle
        return np.full((1, 1, 1), (low + high) / 2, np.float32)

    def levels(self, pixels: Pixels, factor: Factor) -> NDArray[np.float32]:
        """Look each level up in a table of its powers."""
        top = peak(pixels)
        table = (np.linspace(0, 1, int(top) + 1) ** float(factor.item()) * top).astype(np.float32)
        return table[pixels]


make = Gamma.from_settings
