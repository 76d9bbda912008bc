"""Training images from photographs: pure functions of arrays and a random generator, without torch."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.train.photographs import Photograph
from sgllie.train.settings import DarkeningSettings, ImageSettings

Light = NDArray[np.floating]


def random_parts(
    photographs: Sequence[Photograph], settings: ImageSettings, scale_factor: int, random: np.random.Generator
) -> list[Photograph]:
    """Cut the same random part out of each of some photographs, sometimes mirrored: S x S x 3 -> C x C x 3, uint8.

    The part is a rectangle whose sides are uniform between `smallest_crop` and all of the photograph's, brought to
    `crop` pixels; with `inference_scale` by taking single samples (see `sampled`), else by resizing. Without `crop` it
    is the whole photograph.
    """
    parts = list(photographs)
    if settings.crop is not None:
        size = len(parts[0])
        height, width = np.rint(random.uniform(settings.smallest_crop, 1, 2) * size).astype(int)
        top, left = random.integers(0, [size - height, size - width], endpoint=True)
        parts = [part[top : top + height, left : left + width] for part in parts]
        if settings.inference_scale:
            parts = [sampled(part, settings.crop, scale_factor, settings.inference_scale) for part in parts]
        else:
            shape = (settings.crop, settings.crop)
            parts = [cv2.resize(part, shape, interpolation=cv2.INTER_AREA).astype(np.uint8) for part in parts]
    if settings.flip and random.random() < 0.5:
        parts = [part[:, ::-1] for part in parts]
    return [np.ascontiguousarray(part, np.uint8) for part in parts]


def sampled(part: Photograph, crop: int, scale_factor: int, inference_scale: int) -> Photograph:
    """Take the pixels that the network would look at if a part were brought to its full size: h x w x 3 -> C x C x 3.

    Full size is crop / scale_factor blocks of inference_scale x inference_scale pixels. At that scale the network sees
    of each block the pixels in its middle; these are taken, scale_factor squared of each block, so that at
    `scale_factor` it sees the same: sharpness and noise of single pixels, which a smaller picture of the part would
    not have.
    """
    place = np.arange(crop)
    full = crop // scale_factor * inference_scale
    middle = place // scale_factor * inference_scale + (inference_scale - scale_factor) / 2 + place % scale_factor + 0.5
    rows, columns = (middle / full * side - 0.5 for side in part.shape[:2])
    across, down = np.meshgrid(columns.astype(np.float32), rows.astype(np.float32))
    return cv2.remap(part, across, down, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE).astype(np.uint8)


def darken(photograph: Photograph, settings: DarkeningSettings, random: np.random.Generator) -> Photograph:
    """Make the picture that a camera with too little light would have taken: H x W x 3 -> H x W x 3, uint8.

    In linear light x: the shoulder of the tone curve, x / (1 + k x), is undone, exposure t applied and the shoulder put
    back, in one step t x / (1 - k x + k t x); t is made of stops, a smooth random field for uneven light, and more loss
    where the scene is dark, for hard contrast. Then come noise with variance shot x + read^2, a power of the encoded
    values, and 8 bits. Each amount is drawn anew.
    """
    stops = random.uniform(0, settings.stops)
    size = photograph.shape[1::-1]
    uneven = cv2.resize(random.standard_normal((4, 4), np.float32), size, interpolation=cv2.INTER_CUBIC)
    depth = np.log2(cv2.resize(photograph, (6, 6), interpolation=cv2.INTER_AREA).mean(axis=2) / 255 + 0.02)
    deeper = cv2.resize((depth.mean() - depth).astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    field = settings.unevenness * random.random() * uneven + settings.contrast * random.random() ** 2 * deeper
    exposure = np.exp2(-np.maximum(stops + min(stops, 1.0) * field, 0), dtype=np.float32)[..., None]
    shoulder = np.float32(settings.shoulder * np.sqrt(random.random()))
    light = LINEAR[photograph]
    light = exposure * light / np.maximum(1 - shoulder * light + shoulder * exposure * light, 1e-6)
    deviation = np.float32(random.random()) * np.sqrt(settings.shot_noise * light + settings.read_noise**2)
    light = light + deviation * random.standard_normal(light.shape, np.float32)
    power = np.exp(random.uniform(*np.log([settings.least_gamma, settings.greatest_gamma])))
    return np.rint(255 * to_srgb(light) ** power).astype(np.uint8)


def to_linear(encoded: Light) -> Light:
    """Return the linear light of sRGB values in [0, 1] (IEC 61966-2-1)."""
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def to_srgb(light: Light) -> Light:
    """Return the sRGB values in [0, 1] of linear light; what lies outside is clipped (IEC 61966-2-1)."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


LINEAR = to_linear(np.arange(256) / 255).astype(np.float32)
"""Linear light of all sRGB values of 8 bits."""
