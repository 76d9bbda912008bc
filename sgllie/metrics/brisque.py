"""BRISQUE: quality as people judged it in the LIVE study, predicted from an image's statistics, without a reference.

Source: Mittal, Moorthy and Bovik, "No-Reference Image Quality Assessment in the Spatial Domain", IEEE TIP 2012. The
regression (`brisque_parameters.npz`) is the one released by the authors; see README.md beside it for its notice.
"""

from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import UndefinedError
from sgllie.metrics.colour import FloatArray, check_image, luma
from sgllie.metrics.nss import fit_asymmetric_gaussian, fit_gaussian, halve, mscn, neighbour_products

SMALLEST = 16
REGRESSION = ("feature_minimum", "feature_maximum", "support_vectors", "coefficients", "gamma", "rho")


@cache
def model() -> dict[str, FloatArray]:
    """Load window (7 and 7), feature ranges (36), support vectors (774 x 36), coefficients (774), gamma and rho."""
    with resources.files(__package__).joinpath("brisque_parameters.npz").open("rb") as file:
        return {name: values.astype(np.float64) for name, values in np.load(file).items()}


def correlate(image: FloatArray, window: FloatArray) -> FloatArray:
    """Sum seven weighted rows, from the last to the first, with zeros beyond the edges.

    Where an image is flat its MSCN coefficients are mere rounding, about 1e-14, yet their signs are counted by the fit,
    in the authors' program too. So the order of this sum moves an image with flat areas by up to 10 %. This order
    agrees with the authors' values; library filters choose theirs (and fused multiply-adds) by processor.
    """
    padded = np.pad(image, ((3, 3), (0, 0)))
    return sum(window[row] * padded[row : row + len(image)] for row in reversed(range(7)))


def window_mean(image: FloatArray) -> FloatArray:
    """Return the mean under the 7x7 Gaussian of 7/6 pixels, split by singular values: columns, then rows."""
    return correlate(correlate(image, model()["window_column"]).T, model()["window_row"]).T


def scale_features(plane: FloatArray) -> FloatArray:
    """Return the 18 features of one scale: H x W in 0..255 -> 18."""
    coefficients = mscn(plane, window_mean)
    features = list(fit_gaussian(coefficients.ravel()))
    for products in neighbour_products(coefficients[np.newaxis]):
        law = fit_asymmetric_gaussian(products)
        features += [law.shape[0], law.mean[0], law.left_deviation[0] ** 2, law.right_deviation[0] ** 2]
    # The authors' program hands its features to the regression as text with six decimals.
    return np.round(features, 6)


def brisque(image: NDArray) -> float:
    """Return the Blind/Referenceless Image Spatial Quality Evaluator; lower is better, about 0 to 100, not bounded.

    Definition, that of the authors' release: BT.601 luma, 0..255, rounded to integers; the whole image; MSCN under a
    7x7 Gaussian of 7/6 pixels, zeros beyond the edges; 18 features at the full and at half the size (MATLAB's
    antialiased bicubic halving); each mapped to -1..1 by the release's range, and an RBF support vector regression
    trained on the LIVE database. (MATLAB's own `brisque` has another regression and gives other values.)

    Args:
        image: H x W x 3 RGB or H x W grey, uint8 or uint16 (read as 0..65535), at least 16 x 16.

    Raises:
        UndefinedError: the image is too small, or has no texture.
    """
    check_image(image, "BRISQUE")
    if min(image.shape[:2]) < SMALLEST:
        raise UndefinedError(f"BRISQUE needs at least 16x16 pixels, got an image of {image.shape[1]}x{image.shape[0]}")
    plane = np.rint(luma(image))
    if np.ptp(plane) == 0:
        raise UndefinedError("BRISQUE is not defined for this image: it is flat")
    features = np.concatenate([scale_features(plane), scale_features(halve(plane))])
    if not np.isfinite(features).all():
        raise UndefinedError("BRISQUE is not defined for this image: it has next to no texture")
    low, high, vectors, coefficients, gamma, rho = (model()[name] for name in REGRESSION)
    scaled = 2 * (features - low) / (high - low) - 1
    return float(coefficients @ np.exp(-gamma * ((vectors - scaled) ** 2).sum(axis=1)) - rho)
