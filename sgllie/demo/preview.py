"""A photograph small enough for the screen, before and after, at any strength.

The network sees the photograph at its full size, as in the job; what is shown is that result, shrunk. Both shrinking
and the blend that `strength` stands for are linear, so the result at full strength gives those at all others: moving
the slider costs one blend of two small pictures.
"""

import time
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.demo.choice import Choice
from sgllie.enhancer import Factor
from sgllie.images import DecodedImage, Pixels, encode, over_grey
from sgllie.images.codec import turned
from sgllie.images.luma import histogram, measure
from sgllie.images.metadata import Metadata
from sgllie.methods import Method, make_method

KEPT_METHODS = 4
"""Methods that are ready at the same time."""
LONGEST_SIDE = 1600
"""Pixels of a preview, at most."""
QUALITY = 90
"""Of the JPEG that the browser gets."""
BINS = 64
"""Of a histogram of luma."""


@dataclass(frozen=True)
class Still:
    """What is shown of a photograph or clip.

    Attributes:
        pixels: H x W x 3 (RGB) or H x W (grey), uint8 or uint16, as they are stored.
        alpha: H x W of the same dtype, or None.
        orientation: as in EXIF, 1 to 8.
        icc: colour profile, or None.
    """

    pixels: Pixels
    alpha: NDArray | None = None
    orientation: int = 1
    icc: bytes | None = None

    @cached_property
    def small(self) -> Pixels:
        """As it is shown."""
        return shown(self.pixels, self)

    @cached_property
    def brightness(self) -> float:
        """Mean luma."""
        return measure(self.pixels).mean


@dataclass(frozen=True)
class Side:
    """One of the two pictures.

    Attributes:
        jpeg: for the browser.
        counts: of the BINS levels of luma, darkest first.
        brightness: mean luma, 0 to 1.
        clipped: share of pixels that are wholly black or wholly white.
    """

    jpeg: bytes
    counts: NDArray[np.int64]
    brightness: float
    clipped: float


@dataclass(frozen=True)
class Preview:
    """A still, shrunk, with the full effect of one method on it.

    Attributes:
        before, full: h x w x 3 or h x w, uint8, upright; unchanged, and at strength 1.
        factor: what the method derives from the still, upright; empty where that is nothing.
        brightness: mean luma of the still at its full size, which `only_darker_than` is compared with.
        milliseconds: that the enhancement at full size took.
        size: width and height of the still, as stored.
        icc: colour profile of the still, or None.
    """

    before: Pixels
    full: Pixels
    factor: Factor
    brightness: float
    milliseconds: float
    size: tuple[int, int]
    icc: bytes | None

    def after(self, strength: float) -> Pixels:
        """Return the picture at a strength from 0 to 1."""
        if strength == 1:
            return self.full
        return cv2.addWeighted(self.full, strength, self.before, 1 - strength, 0)

    def side(self, pixels: Pixels) -> Side:
        """Encode one of the two pictures, and measure it."""
        luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.ndim == 3 else pixels
        counts = histogram(np.ascontiguousarray(luma)).reshape(BINS, -1).sum(axis=1)
        measured = measure(pixels)
        # Any format but JPEG: the profile is then the only thing that is carried over.
        image = DecodedImage(pixels, None, "png", "RGB" if pixels.ndim == 3 else "L", 8, Metadata(icc=self.icc))
        jpeg = encode(image, pixels, format="jpeg", quality=QUALITY)
        return Side(jpeg, counts, measured.mean, measured.clipped)


def make_preview(still: Still, method: Method) -> Preview:
    """Enhance a still at its full size, and shrink both.

    Args:
        still: what is shown.
        method: at strength 1.
    """
    begun = time.perf_counter()
    factor = method.factor_map(still.pixels)
    enhanced = method.apply(still.pixels, factor)
    milliseconds = (time.perf_counter() - begun) * 1000
    full = shown(enhanced, still)
    if factor.size:
        factor = turned(np.ascontiguousarray(factor.mean(axis=2)), still.orientation)
    height, width = still.pixels.shape[:2]
    return Preview(still.small, full, factor, still.brightness, milliseconds, (width, height), still.icc)


@lru_cache(KEPT_METHODS)
def full_method(choice: Choice) -> Method:
    """Make the method of a `Choice.in_full`, or find it among the last ones; UsageError where weights do not fit."""
    return make_method(choice.settings())


def shown(pixels: Pixels, still: Still) -> Pixels:
    """Return pixels as they are shown: shrunk, upright, 8 bits, over grey where they are transparent."""
    height, width = pixels.shape[:2]
    share = min(1.0, LONGEST_SIDE / max(height, width))
    size = max(round(width * share), 1), max(round(height * share), 1)
    planes = [plane for plane in (pixels, still.alpha) if plane is not None]
    if share < 1:
        planes = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
    return np.ascontiguousarray(over_grey(*(turned(plane, still.orientation) for plane in planes)))
