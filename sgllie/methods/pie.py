"""Illumination and reflectance estimated together, by a simple variational retinex."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.enhancer import Factor, Pixels, as_channels
from sgllie.methods.blended import BlendedMethod, brightest, resized

REDUCTION = 4
SMOOTH = 1000 / REDUCTION**2
"""Weight of the squared gradient of the illumination; that of a reduced pixel is REDUCTION times that of a pixel."""
SPARSE = 0.01
"""Weight of the absolute gradient of the reflectance."""
PRIOR = 0.1
"""Weight of the squared distance between the illumination and its prior."""
PENALTY = 10.0
"""Weight, times SPARSE, that holds the gradient to its auxiliary variable (split Bregman)."""
PRIOR_SIGMA = 8.0
"""Of the Gaussian blur that makes the prior of the illumination from the image, in reduced pixels."""
ROUNDS = 6
DARKEST = 1 / 255
GAMMA = 2.2


class Pie(BlendedMethod):
    """image * L^(1/2.2 - 1), with the illumination L of a probabilistic retinex: S = R L for the largest channel S.

    In the manner of Fu, Liao, Zeng, Huang, Zhang, Ding, "A Probabilistic Method for Image Enhancement With Simultaneous
    Illumination and Reflectance Estimation", IEEE TIP 2015. R and L are found in turns, as the minima of

        |R - S / L|^2 + 0.01 |grad R|                          with 0 < R <= 1
        |L - S / R|^2 + 1000 |grad L|^2 + 0.1 |L - L0|^2       with L >= S, L0 a blurred S

    by solutions in the frequency domain, the first one with a split Bregman step. What is simpler here: S is reduced to
    the means of 4 x 4 pixels; six rounds are made, however far they come; borders are mirrored (cosine transform); the
    enhanced image is the image itself divided by its illumination, and not the smoothed R; no histogram equalisation of
    R follows. The factor map is L of the reduced image, as h x w x 1.
    """

    def factor_map(self, image: Pixels) -> Factor:
        """Estimate the illumination of one image, reduced: h x w x 1."""
        value = brightest(as_channels(image))
        # The cosine transform wants even sizes.
        rows, columns = (2 * -(-side // (2 * REDUCTION)) for side in value.shape)
        return illumination(np.maximum(resized(value, rows, columns), DARKEST))[..., None]

    def levels(self, pixels: Pixels, factor: Factor) -> NDArray[np.float32]:
        """Divide by the illumination, and multiply by its root."""
        value = brightest(pixels)
        light = np.maximum(resized(factor[..., 0], *value.shape), np.maximum(value, DARKEST))
        return pixels * np.power(light, np.float32(1 / GAMMA - 1))[..., None]


def illumination(s: NDArray[np.float32]) -> NDArray[np.float32]:
    """Estimate L of an image S with values in (0, 1], h x w, both even."""
    laplacian = eigenvalues(*s.shape)
    prior = np.asarray(cv2.GaussianBlur(s, (0, 0), PRIOR_SIGMA, borderType=cv2.BORDER_REFLECT), np.float32)
    light = prior
    split, residue = np.zeros((2, *s.shape), np.float32), np.zeros((2, *s.shape), np.float32)
    for _ in range(ROUNDS):
        toward = s / light + SPARSE * PENALTY * adjoint(split - residue)
        reflectance = np.clip(solve(toward, 1 + SPARSE * PENALTY * laplacian), DARKEST, 1)
        slope = gradient(reflectance)
        split = shrunk(slope + residue, 1 / (2 * PENALTY))
        residue += slope - split
        light = np.maximum(solve(s / reflectance + PRIOR * prior, 1 + PRIOR + SMOOTH * laplacian), s)
    return light


def solve(right: NDArray[np.float32], diagonal: NDArray[np.float32]) -> NDArray[np.float32]:
    """Solve a linear system that is diagonal in the cosine transform."""
    return np.asarray(cv2.idct(cv2.dct(right) / diagonal), np.float32)


def eigenvalues(height: int, width: int) -> NDArray[np.float32]:
    """Return the eigenvalues of the negative Laplacian with mirrored borders, in the order of the cosine transform."""
    rows, columns = (2 - 2 * np.cos(np.pi * np.arange(side) / side) for side in (height, width))
    return (rows[:, None] + columns).astype(np.float32)


def gradient(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the differences to the next row and to the next column, 0 at the end: h x w -> 2 x h x w."""
    return np.stack([np.diff(plane, axis=axis, append=np.take(plane, [-1], axis)) for axis in (0, 1)])


def adjoint(field: NDArray[np.float32]) -> NDArray[np.float32]:
    """Apply the transpose of `gradient`, to fields that are 0 where that is: 2 x h x w -> h x w."""
    return -np.diff(field[0], axis=0, prepend=0) - np.diff(field[1], axis=1, prepend=0)


def shrunk(field: NDArray[np.float32], threshold: float) -> NDArray[np.float32]:
    """Move every value towards 0 by the threshold."""
    return np.sign(field) * np.maximum(np.abs(field) - np.float32(threshold), 0)


make = Pie.from_settings
