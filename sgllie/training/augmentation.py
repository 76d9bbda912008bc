"""Training images from photographs: pure functions of arrays and a random generator, without torch."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.training.settings import DarkeningSettings, ImageSettings

Pixels = NDArray[np.uint8]
Light = NDArray[np.floating]
CUBIC = cv2.INTER_CUBIC


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


def darken(photograph: Pixels, settings: DarkeningSettings, random: np.random.Generator) -> Pixels:
    """The same picture as a camera with too little light would have taken it: H x W x 3 -> H x W x 3, uint8.

    In linear light x: the shoulder of the tone curve, x / (1 + k x), is undone, exposure t applied and the shoulder put
    back, in one step t x / (1 - k x + k t x); t is made of stops, a smooth random field for uneven light, and more loss
    where the scene is dark, for hard contrast. Then come noise with variance shot x + read^2, a power of the encoded
    values, and 8 bits. Each amount is drawn anew.
    """
    stops = random.uniform(0, settings.stops)
    size = photograph.shape[1::-1]
    field = (
        settings.unevenness * random.random() * cv2.resize(random.standard_normal((4, 4)), size, interpolation=CUBIC)
    )
    depth = np.log2(cv2.resize(photograph, (6, 6), interpolation=cv2.INTER_AREA).mean(axis=2) / 255 + 0.02)
    field += (
        settings.contrast * random.random() * cv2.resize(depth.mean() - depth, size, interpolation=cv2.INTER_LINEAR)
    )
    exposure = np.exp2(-np.maximum(stops + min(stops, 1.0) * field, 0))[..., None]
    shoulder = settings.shoulder * np.sqrt(random.random())
    light = to_linear(photograph / 255)
    light = exposure * light / np.maximum(1 - shoulder * light + shoulder * exposure * light, 1e-6)
    variance = settings.shot_noise * light + settings.read_noise**2
    light = light + random.random() * np.sqrt(variance) * random.standard_normal(light.shape)
    power = 1 + settings.gamma * random.uniform(-1, 1)
    return np.rint(255 * to_srgb(light) ** power).astype(np.uint8)


def to_linear(encoded: Light) -> Light:
    """Linear light of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Light) -> Light:
    """SRGB values in [0, 1] of linear light; what lies outside is clipped (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)
