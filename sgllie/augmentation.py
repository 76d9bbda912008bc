"""Training images from photographs: pure functions of arrays and a random generator, without torch."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.train_settings import ImageSettings

Pixels = NDArray[np.uint8]


def random_part(photograph: Pixels, settings: ImageSettings, random: np.random.Generator) -> Pixels:
    """A random part of a photograph, sometimes mirrored: S x S x 3 -> C x C x 3, uint8.

    The part is a rectangle whose sides are uniform between `smallest_crop` and all of the photograph's, resized to
    `crop`. Without `crop` it is the whole photograph.
    """
    if settings.crop is not None:
        size = len(photograph)
        height, width = np.rint(random.uniform(settings.smallest_crop, 1, 2) * size).astype(int)
        top, left = random.integers(0, [size - height, size - width], endpoint=True)
        part = photograph[top : top + height, left : left + width]
        photograph = cv2.resize(part, (settings.crop, settings.crop), interpolation=cv2.INTER_AREA).astype(np.uint8)
    if settings.flip and random.random() < 0.5:
        photograph = photograph[:, ::-1]
    return np.ascontiguousarray(photograph, np.uint8)
