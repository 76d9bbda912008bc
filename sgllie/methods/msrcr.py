"""Multi-scale retinex with colour restoration."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.enhancer import Factor, Pixels, as_channels
from sgllie.methods.blended import BlendedMethod, peak, reduced, resized, unit

SIGMAS = (15.0, 80.0, 250.0)
ALPHA = 125.0
"""Strength of the colour restoration."""
CLIPPED = 1.0
"""Percentage of the values that becomes black, and that becomes white."""
NARROWEST = 0.1
"""The stretched range is at least this wide, so that the rounding of an even image is not taken for content."""
REDUCTION = 4
"""Of the map of surrounds."""
SHARPEST = 3.0
"""Blurs are computed on images so small that sigma is still this many of their pixels."""
SAMPLES = 50_000
"""Pixels that the percentiles are taken of, about."""


class Msrcr(BlendedMethod):
    """For each channel x: log(125 x / sum of channels) * mean over three scales of (log x - log of x blurred).

    From Jobson, Rahman, Woodell, "A multiscale retinex for bridging the gap between color images and the human
    observation of scenes", IEEE TIP 1997: Gaussian blurs with sigma 15, 80 and 250 pixels, equal weights, alpha 125; x
    is the level of 255 plus 1. The paper's last step is a fixed gain and offset (beta is a gain too); here the values
    are stretched so that 1 % of them, over all channels, become black and 1 % white (after Petro, Sbert, Morel, IPOL
    2014, who do so channel by channel). The blurs are computed on reduced images. The factor map is the two ends of the
    stretch, as 1 x 1 x 2.
    """

    def factor_map(self, image: Pixels) -> Factor:
        """Find the two values that become black and white: 1 x 1 x 2."""
        pixels = as_channels(image)
        x = offset_levels(pixels)
        step = max(round(math.sqrt(pixels[..., 0].size / SAMPLES)), 1)
        surround = resized(log_surround(x), *x.shape[:2])
        values = retinex(x[::step, ::step], surround[::step, ::step])
        return np.percentile(values, [CLIPPED, 100 - CLIPPED]).astype(np.float32).reshape(1, 1, 2)

    def levels(self, pixels: Pixels, factor: Factor) -> NDArray[np.float32]:
        """Compute the retinex, stretched."""
        x = offset_levels(pixels)
        values = retinex(x, resized(log_surround(x), *x.shape[:2]))
        black, white = factor.ravel()
        middle, width = (black + white) / 2, max(white - black, np.float32(NARROWEST))
        return ((values - middle) / width + np.float32(0.5)) * peak(pixels)


def offset_levels(pixels: Pixels) -> NDArray[np.float32]:
    """Return levels of 255 plus 1, so that their logarithms start at 0."""
    return unit(pixels) * 255 + 1


def log_surround(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the mean of the logarithms of the blurred images: H x W x C -> a quarter of that size."""
    small = reduced(x, REDUCTION)
    logs = [np.log(blurred(small, sigma / REDUCTION)) for sigma in SIGMAS]
    return np.mean(logs, axis=0, dtype=np.float32)


def blurred(x: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur by a Gaussian, the image mirrored at its borders; a wide blur is computed on a smaller image."""
    height, width = x.shape[:2]
    small = reduced(x, max(int(sigma / SHARPEST), 1))
    across, down = sigma * small.shape[1] / width, sigma * small.shape[0] / height
    blurry = cv2.GaussianBlur(small, (0, 0), across, sigmaY=down, borderType=cv2.BORDER_REFLECT)
    return resized(np.asarray(blurry, np.float32).reshape(small.shape), height, width)


def retinex(x: NDArray[np.float32], surround: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute the retinex with its colour restoration, of H x W x C and its surround."""
    log_x = np.log(x)
    total = x @ np.ones((x.shape[2], 1), np.float32)  # ten times as fast as a sum over so short an axis
    restoration = log_x + np.log(ALPHA / total)
    return restoration * (log_x - surround)


make = Msrcr.from_settings
