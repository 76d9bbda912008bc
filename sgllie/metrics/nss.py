"""Natural-scene statistics: what NIQE and BRISQUE are made of.

An image is normalised by its local mean and contrast (MSCN coefficients); in natural photographs these, and the
products of neighbours, follow generalised Gaussian laws, whose parameters are the features. Source: Mittal, Moorthy and
Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE TIP 2012; the fit is that of Lasmar, Stitou
and Berthoumieu, "Multiscale skewed heavy tailed model for texture analysis", ICIP 2009.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from sgllie.kernel import kernel
from sgllie.metrics.colour import FloatArray

# The window of both papers: 7x7 Gaussian with a standard deviation of 7/6 pixels, which sums to one.
WINDOW = cv2.getGaussianKernel(7, 7 / 6, cv2.CV_64F)
# Rounding alone makes |I - mean| about 1e-13 where an image is flat; the sign of that noise must not become a feature.
ROUNDING = 1e-9
gamma = np.vectorize(math.gamma, otypes=[np.float64])
# Shapes that the fit chooses from, and the moment ratio E|x|^2 / E(x^2) of each; the ratio rises with the shape.
SHAPES = np.arange(200, 10001) / 1000
SHAPE_RATIOS = gamma(2 / SHAPES) ** 2 / (gamma(1 / SHAPES) * gamma(3 / SHAPES))
# Right, down, down right, down left: neighbours as (rows, columns).
NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


def gaussian_mean(image: FloatArray) -> FloatArray:
    """Return the mean under `WINDOW`, edges repeated; exactly the pixel's own value where the image is flat."""
    mean = cv2.sepFilter2D(image, cv2.CV_64F, WINDOW, WINDOW, borderType=cv2.BORDER_REPLICATE)
    return np.where(np.abs(image - mean) < ROUNDING, image, mean)


def mscn(plane: FloatArray, local_mean: Callable[[FloatArray], FloatArray] = gaussian_mean) -> FloatArray:
    """Return mean-subtracted, contrast-normalised coefficients: (I - mean) / (deviation + 1) under `local_mean`.

    H x W float64 on the scale 0..255 -> the same shape.
    """
    mean = local_mean(plane)
    variance = local_mean(plane * plane) - mean * mean
    return (plane - mean) / (np.sqrt(np.abs(variance)) + 1)


class AsymmetricGaussian(NamedTuple):
    """Parameters of fitted asymmetric generalised Gaussian laws, one value for each row of samples."""

    shape: FloatArray
    left_deviation: FloatArray
    right_deviation: FloatArray

    @property
    def scale_ratio(self) -> FloatArray:
        """Return the scale parameter (beta) over the standard deviation."""
        return np.sqrt(gamma(1 / self.shape) / gamma(3 / self.shape))

    @property
    def mean(self) -> FloatArray:
        """Return the mean of the law: (beta_right - beta_left) gamma(2 / shape) / gamma(1 / shape)."""
        spread = (self.right_deviation - self.left_deviation) * self.scale_ratio
        return spread * gamma(2 / self.shape) / gamma(1 / self.shape)


@kernel
def signed_sums(samples: FloatArray, sums: FloatArray) -> None:
    """Sum squares and counts of the negative samples, of the positive ones, and all magnitudes: N x K -> N x 5."""
    for row in range(len(samples)):
        left_total = left_count = right_total = right_count = magnitude = 0.0
        for value in samples[row]:
            square = value * value
            magnitude += abs(value)
            left_total += square if value < 0 else 0.0
            left_count += 1.0 if value < 0 else 0.0
            right_total += square if value > 0 else 0.0
            right_count += 1.0 if value > 0 else 0.0
        sums[row, 0], sums[row, 1], sums[row, 2], sums[row, 3] = left_total, left_count, right_total, right_count
        sums[row, 4] = magnitude


def fit_asymmetric_gaussian(samples: FloatArray) -> AsymmetricGaussian:
    """Fit by moment matching along the last axis: N x K float64 -> three arrays of N.

    A row without a negative or without a positive sample gives NaN, as in the published code.
    """
    sums = np.empty((len(samples), 5))
    signed_sums(samples, sums)
    left_total, left_count, right_total, right_count, magnitude = sums.T
    with np.errstate(divide="ignore", invalid="ignore"):
        left = np.sqrt(left_total / left_count)
        right = np.sqrt(right_total / right_count)
        skew = left / right
        ratio = magnitude**2 / (left_total + right_total) / samples.shape[-1]
        ratio = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    after = np.clip(np.searchsorted(SHAPE_RATIOS, ratio), 1, len(SHAPES) - 1)
    nearest = np.where(ratio - SHAPE_RATIOS[after - 1] <= SHAPE_RATIOS[after] - ratio, after - 1, after)
    return AsymmetricGaussian(np.where(np.isnan(ratio), np.nan, SHAPES[nearest]), left, right)


def fit_gaussian(samples: FloatArray) -> tuple[float, float]:
    """Return shape and variance of a symmetric generalised Gaussian law, by moment matching: K float64, not all 0."""
    variance = np.mean(samples * samples)
    ratio = variance / np.abs(samples).mean() ** 2
    # The published code looks for the nearest inverse ratio, which is not always the nearest ratio.
    return float(SHAPES[np.abs(1 / SHAPE_RATIOS - ratio).argmin()]), float(variance)


def neighbour_products(blocks: FloatArray) -> list[FloatArray]:
    """Multiply each coefficient by its neighbour in each of the four directions, wrapped around within a block.

    N x H x W -> four arrays of N x H*W. The wrap is that of the published code.
    """
    return [(blocks * np.roll(blocks, shift, axis=(1, 2))).reshape(len(blocks), -1) for shift in NEIGHBOURS]


def halve(image: FloatArray) -> FloatArray:
    """Halve height and width by antialiased bicubic interpolation, as MATLAB's imresize(image, 0.5).

    H x W float64 -> ceil(H/2) x ceil(W/2). The cubic kernel (a = -0.5) is stretched to eight taps; edges are mirrored.
    """
    distance = np.abs(np.arange(-3.5, 4)) / 2
    near = 1.5 * distance**3 - 2.5 * distance**2 + 1
    far = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    taps = np.where(distance <= 1, near, far)
    taps /= taps.sum()
    smooth = cv2.sepFilter2D(image, cv2.CV_64F, taps, taps, anchor=(3, 3), borderType=cv2.BORDER_REFLECT)
    return np.ascontiguousarray(smooth[::2, ::2], np.float64)
