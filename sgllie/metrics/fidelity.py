"""How near an image is to a reference: PSNR and SSIM."""

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sgllie.metrics.colour import check_image, luma

SSIM_WINDOW = 11


def check_pair(image: NDArray, reference: NDArray, metric: str) -> None:
    """Refuse two images of different shape or depth, with one sentence."""
    check_image(image, metric)
    check_image(reference, metric)
    if image.shape != reference.shape or image.dtype != reference.dtype:
        kinds = " and ".join(f"{'x'.join(map(str, array.shape))} {array.dtype}" for array in (image, reference))
        raise ValueError(f"{metric} needs an image and a reference of the same shape and depth, got {kinds}")


def psnr(image: NDArray, reference: NDArray) -> float:
    """Peak signal-to-noise ratio in dB; higher is better, infinite where the two are equal.

    10 log10(peak^2 / mean squared difference) over all pixels and channels of RGB as stored; peak 255 (uint8) or 65535
    (uint16); no crop.
    """
    check_pair(image, reference, "PSNR")
    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(reference, image, data_range=np.iinfo(image.dtype).max))


def ssim(image: NDArray, reference: NDArray) -> float:
    """Structural similarity; higher is better, 1 where the two are equal.

    On BT.601 luma, 0..255, rounded to integers; 11x11 Gaussian of 1.5 pixels; K1 = 0.01, K2 = 0.03, range 255;
    population covariance; mean over the positions where the window fits; no downsampling. Source: Wang, Bovik, Sheikh
    and Simoncelli, "Image quality assessment: from error visibility to structural similarity", IEEE TIP 2004.
    """
    check_pair(image, reference, "SSIM")
    if min(image.shape[:2]) < SSIM_WINDOW:
        raise ValueError(f"SSIM needs at least 11x11 pixels, got an image of {image.shape[1]}x{image.shape[0]}")
    first, second = np.rint(luma(reference)), np.rint(luma(image))
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    return float(structural_similarity(first, second, **options))
