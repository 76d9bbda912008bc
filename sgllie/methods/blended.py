"""What all methods but those of `Enhancer` have in common: levels in, levels out, blended with the input."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.enhancer import Enhanced, Factor, Level, Pixels, as_channels
from sgllie.methods import MethodSettings
from sgllie.network.effect import EffectSettings
from sgllie.network.factor import FactorStatistics
from sgllie.settings import check_limits, in_words

NOTHING: Factor = np.empty((0, 0, 0), np.float32)
"""The factor map of a method that derives nothing from an image."""


class BlendedMethod(ABC):
    """A `Method` that has to say only what its factor map is, and what levels it gives.

    Args:
        strength: 0 gives the input back, 1 the full effect, values between blend the two.
    """

    def __init__(self, strength: float = EffectSettings.strength) -> None:
        check_limits(EffectSettings(strength=strength), in_words)
        self.strength = strength

    is_global: ClassVar[bool] = False
    """Whether the factor map is 1 x 1 x C, and so the level of all of the image."""

    @classmethod
    def from_settings(cls, settings: MethodSettings) -> Self:
        """Make the method that the settings describe."""
        return cls(settings.strength)

    @abstractmethod
    def factor_map(self, image: Pixels) -> Factor:
        """Return what the method derives from one image: h x w x C, float32."""

    @abstractmethod
    def levels(self, pixels: Pixels, factor: Factor) -> NDArray[np.float32]:
        """Return the enhanced levels, finite, neither rounded nor clipped: H x W x C -> float32 H x W x C."""

    def factor_maps(self, images: Sequence[Pixels]) -> list[Factor]:
        """Return the factor maps of images, made one after another."""
        return [self.factor_map(image) for image in images]

    def apply(self, image: Pixels, factor: Factor) -> Pixels:
        """Return the image enhanced with a given factor map, in its own shape and dtype."""
        pixels = as_channels(image)
        levels = np.clip(self.levels(pixels, factor), 0, peak(image))
        if self.strength < 1:
            levels = pixels + np.float32(self.strength) * (levels - pixels)
        return np.rint(levels).astype(image.dtype).reshape(image.shape)

    def level(self, image: Pixels) -> Level:
        """Return the factor map of one image, where it is the same for all of it; else nothing."""
        return [float(value) for value in self.factor_map(image).flat] if self.is_global else []

    def enhance(self, image: Pixels, level: Level | None = None) -> Enhanced:
        """Enhance one image, with its own level or one that it shares, and tell what its factor map was like."""
        factor = np.array(level, np.float32).reshape(1, 1, -1) if level else self.factor_map(image)
        return Enhanced(self.apply(image, factor), FactorStatistics.of(factor) if factor.size else None, "cpu")

    def __call__(self, image: Pixels, /) -> Pixels:
        """Return the image enhanced with its own factor map."""
        return self.enhance(image).pixels


def peak(image: NDArray[Any]) -> np.float32:
    """Return the highest level of the image's dtype."""
    return np.float32(np.iinfo(image.dtype).max)


def unit(pixels: Pixels) -> NDArray[np.float32]:
    """Return levels as float32 in [0, 1], in the same shape."""
    return np.divide(pixels, peak(pixels), dtype=np.float32)


def brightest(pixels: Pixels) -> NDArray[np.float32]:
    """Return the largest channel of each pixel, as in HSV: H x W x C -> H x W in [0, 1]."""
    return unit(np.maximum.reduce([pixels[..., channel] for channel in range(pixels.shape[2])]))


def reduced(plane: NDArray[np.float32], reduction: int) -> NDArray[np.float32]:
    """Return the means of blocks of `reduction` squared pixels: H x W (x C) -> h x w (x C), h and w rounded up."""
    height, width = plane.shape[:2]
    return resized(plane, -(-height // reduction), -(-width // reduction))


def resized(plane: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize, by the means of areas if it is smaller, else bilinear; a last axis of length one is kept."""
    kind = cv2.INTER_AREA if height < plane.shape[0] or width < plane.shape[1] else cv2.INTER_LINEAR
    result = cv2.resize(plane, (width, height), interpolation=kind)
    return np.asarray(result, np.float32).reshape(height, width, *plane.shape[2:])
