"""How near an image is to a reference: PSNR and SSIM."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.errors import UndefinedError
from sgllie.metrics.colour import FloatArray, check_image, luma

SSIM_WINDOW = cv2.getGaussianKernel(11, 1.5, cv2.CV_64F)
MARGIN = 5


def check_pair(image: NDArray, reference: NDArray, metric: str) -> None:
    """Raise ValueError for two images of different shape or depth."""
    check_image(image, metric)
    check_image(reference, metric)
    if image.shape != reference.shape or image.dtype != reference.dtype:
        kinds = " and ".join(f"{'x'.join(map(str, array.shape))} {array.dtype}" for array in (image, reference))
        raise ValueError(f"{metric} needs an image and a reference of the same shape and depth, got {kinds}")


def psnr(image: NDArray, reference: NDArray) -> float:
    """Return the peak signal-to-noise ratio in dB; higher is better, infinite where the two are equal.

    10 log10(peak^2 / mean squared difference) over all pixels and channels of RGB as stored; peak 255 (uint8) or 65535
    (uint16); no crop.
    """
    check_pair(image, reference, "PSNR")
    error = np.mean((image.astype(np.float64) - reference) ** 2)
    with np.errstate(divide="ignore"):
        return float(10 * np.log10(np.iinfo(image.dtype).max ** 2 / error))


def window_mean(values: FloatArray) -> FloatArray:
    """Return the mean under the 11x11 Gaussian where it fits: H x W -> H-10 x W-10."""
    mean = cv2.sepFilter2D(values, cv2.CV_64F, SSIM_WINDOW, SSIM_WINDOW)
    return np.asarray(mean[MARGIN:-MARGIN, MARGIN:-MARGIN])


def ssim(image: NDArray, reference: NDArray) -> float:
    """Return structural similarity; higher is better, 1 where the two are equal.

    On BT.601 luma, 0..255, rounded to integers; 11x11 Gaussian of 1.5 pixels; K1 = 0.01, K2 = 0.03, range 255;
    population covariance; mean over the positions where the window fits; no downsampling. Source: Wang, Bovik, Sheikh
    and Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
    """
    check_pair(image, reference, "SSIM")
    if min(image.shape[:2]) <= 2 * MARGIN:
        raise UndefinedError(f"SSIM needs at least 11x11 pixels, got an image of {image.shape[1]}x{image.shape[0]}")
    x, y = np.rint(luma(image)), np.rint(luma(reference))
    mean_x, mean_y = window_mean(x), window_mean(y)
    variance_x, variance_y = window_mean(x * x) - mean_x**2, window_mean(y * y) - mean_y**2
    covariance = window_mean(x * y) - mean_x * mean_y
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    lightness = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return float(np.mean(lightness * structure))
