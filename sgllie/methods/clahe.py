"""Local histogram equalisation."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.enhancer import Factor, Pixels
from sgllie.methods.blended import NOTHING, BlendedMethod, peak

CLIP_LIMIT = 2.0
TILES = (8, 8)


class Clahe(BlendedMethod):
    """OpenCV's CLAHE of the luma (Y of YCrCb), clip limit 2, 8 x 8 tiles; the colour differences stay as they are.

    From Zuiderveld, "Contrast limited adaptive histogram equalization", Graphics Gems IV, 1994. The luma of 16-bit
    images gets one of 256 levels too: with 65,536 bins and a few thousand pixels in a tile, the clip limit would limit
    nothing.
    """

    def factor_map(self, image: Pixels) -> Factor:
        """Return nothing: each tile is its own."""
        return NOTHING

    def levels(self, pixels: Pixels, factor: Factor) -> NDArray[np.float32]:
        """Move each channel as far as the luma is moved."""
        luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) if pixels.shape[2] == 3 else pixels[..., 0]
        step = peak(pixels) / np.float32(255)
        # Made for each image, since it keeps tables that threads must not share.
        equalised = cv2.createCLAHE(CLIP_LIMIT, TILES).apply(np.rint(luma / step).astype(np.uint8))
        return pixels + (equalised * step - luma)[..., None]


make = Clahe.from_settings
