"""NIQE: how far an image's statistics lie from those of good photographs, without a reference.

Source: Mittal, Soundararajan and Bovik, "Making a 'Completely Blind' Image Quality Analyzer", IEEE Signal Processing
Letters 2013. The model of good photographs (`niqe_parameters.npz`) is the published one; see README.md beside it.
"""

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import UndefinedError
from sgllie.metrics.colour import FloatArray, check_image, luma
from sgllie.metrics.nss import fit_asymmetric_gaussian, halve, mscn, neighbour_products

BLOCK = 96
MIDDLE = 1024
"""Pixels a side of the middle of an image; each megapixel takes a quarter of a second."""


@cache
def pristine_model() -> tuple[FloatArray, FloatArray]:
    """Load mean (36) and covariance (36 x 36) of the features of good photographs."""
    with resources.files(__package__).joinpath("niqe_parameters.npz").open("rb") as file:
        parameters = np.load(file)
        return parameters["mu_pris_param"].ravel(), parameters["cov_pris_param"]


def block_features(plane: FloatArray, block: int) -> FloatArray:
    """Return 18 features for each `block` x `block` square: H x W in 0..255, multiples of `block` -> N x 18."""
    rows, columns = (size // block for size in plane.shape)
    blocks = mscn(plane).reshape(rows, block, columns, block).swapaxes(1, 2).reshape(-1, block, block)
    law = fit_asymmetric_gaussian(blocks.reshape(len(blocks), -1))
    features = [law.shape, (law.left_deviation + law.right_deviation) / 2 * law.scale_ratio]
    for products in neighbour_products(blocks):
        law = fit_asymmetric_gaussian(products)
        features += [law.shape, law.mean, law.left_deviation * law.scale_ratio, law.right_deviation * law.scale_ratio]
    return np.stack(features, axis=1)


def niqe(image: NDArray, studio_range: bool = False) -> float:
    """Return the Natural Image Quality Evaluator; lower is better, about 2 to 5 for good photographs.

    Definition: BT.601 luma, 0..255, rounded to integers; no border crop; the top left part that whole 96x96 blocks
    cover; MSCN under a 7x7 Gaussian of 7/6 pixels, edges repeated; a second scale by MATLAB's antialiased bicubic
    halving; 36 features for each block, none left out for lack of sharpness; distance sqrt(d' ((C1 + C2) / 2)^+ d) of
    the two Gaussian models. Blocks that are flat have no features and do not count.

    Args:
        image: H x W x 3 RGB or H x W grey, uint8 or uint16 (read as 0..65535); at least two 96x96 blocks.
        studio_range: take luma in 16..235, as basicsr does and with it most tables on image restoration, and not in
            0..255 as the authors do. The two differ by up to 4 % either way.

    Raises:
        UndefinedError: the image is too small, or fewer than two of its blocks have any texture.
    """
    check_image(image, "NIQE")
    height, width = (size // BLOCK * BLOCK for size in image.shape[:2])
    if height * width < 2 * BLOCK * BLOCK:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise UndefinedError(f"NIQE needs at least two blocks of 96x96 pixels (192x96), got an image of {size}")
    plane = np.rint(luma(image[:height, :width], studio_range))
    features = np.hstack([block_features(plane, BLOCK), block_features(halve(plane), BLOCK // 2)])
    complete = features[~np.isnan(features).any(axis=1)]
    if len(complete) < 2:
        raise UndefinedError("NIQE is not defined for this image: fewer than two of its 96x96 blocks have any texture")
    pristine_mean, pristine_covariance = pristine_model()
    difference = pristine_mean - np.nanmean(features, axis=0)
    covariance = (pristine_covariance + np.cov(complete, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(covariance) @ difference))


def niqe_of_middle(image: NDArray) -> float | None:
    """Return NIQE of the middle of an image, so that a huge one takes no longer; None where it is not defined."""
    top, left = (max(0, side - MIDDLE) // 2 for side in image.shape[:2])
    try:
        return niqe(image[top : top + MIDDLE, left : left + MIDDLE])
    except UndefinedError:
        return None
