"""LIME with its fast refinement: divide by an illumination map that follows the edges of the image."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.enhancer import Factor, Pixels, as_channels
from sgllie.methods.blended import BlendedMethod, brightest, reduced, resized

GAMMA = 0.8
REDUCTION = 4
RADIUS = 8
"""Of the window of the guided filter, in samples of the reduced map: 68 pixels of the image across."""
EDGE = 1e-3
"""Variance, of values in [0, 1], above which a window counts as holding an edge."""
DARKEST = 1 / 255
"""The illumination is nowhere taken to be less, so that black is not divided by nothing."""


class Lime(BlendedMethod):
    """image / T^0.8, where T is the largest channel of each pixel, smoothed by a guided filter.

    From Guo, Li, Ling, "LIME: Low-Light Image Enhancement via Illumination Map Estimation", IEEE TIP 2017. The paper
    finds T by an iterative solver; here it is the fast guided filter of He and Sun (2015), guided by the largest
    channel itself. The paper's denoising at the end is left out. The factor map is T before its refinement, the means
    of blocks of 4 x 4 pixels, as h x w x 1.
    """

    def factor_map(self, image: Pixels) -> Factor:
        """Return the illumination map of one image before its refinement, h x w x 1."""
        return reduced(brightest(as_channels(image)), REDUCTION)[..., None]

    def levels(self, pixels: Pixels, factor: Factor) -> NDArray[np.float32]:
        """Divide by the illumination map, refined with this image as the guide."""
        illumination = np.clip(guided(brightest(pixels), factor[..., 0]), DARKEST, 1)
        return pixels * np.power(illumination, np.float32(-GAMMA))[..., None]


def guided(guide: NDArray[np.float32], plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Filter a plane (h x w) by a guide (H x W): within each window, the linear function of the guide nearest to it.

    Source: He and Sun, "Fast Guided Filter", 2015.
    """
    small = resized(guide, *plane.shape)
    mean_guide, mean_plane = box(small), box(plane)
    covariance = box(small * plane) - mean_guide * mean_plane
    variance = box(small * small) - mean_guide * mean_guide
    slope = np.asarray(covariance / (variance + EDGE), np.float32)
    offset = mean_plane - slope * mean_guide
    return resized(box(slope), *guide.shape) * guide + resized(box(offset), *guide.shape)


def box(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the window around each sample, the plane mirrored at its borders."""
    side = 2 * RADIUS + 1
    return np.asarray(cv2.boxFilter(plane, -1, (side, side), borderType=cv2.BORDER_REFLECT), np.float32)


make = Lime.from_settings
