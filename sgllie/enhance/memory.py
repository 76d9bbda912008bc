"""How much memory the enhancement of an image will need, from its header."""

import math

from sgllie.enhance.settings import EnhanceSettings
from sgllie.images import OpenedImage
from sgllie.methods import METHODS
from sgllie.network.architecture import SCALE_FACTOR
from sgllie.runs.memory import MARGIN

PIXEL_BYTES: dict[str, dict[str, float]] = {
    "jpeg": {"L": 7.8, "RGB": 11.9, "CMYK": 19.4},
    "png": {"L": 9.1, "LA": 18.1, "P": 18.7, "RGB": 19.7, "RGBA": 21.9}
    | {"L 16": 17.1, "LA 16": 36.3, "RGB 16": 36.2, "RGBA 16": 49.4},
    "webp": {"RGB": 27.9, "RGB lossless": 46.5, "RGBA lossless": 54.1},
    "bmp": {"L": 9.7, "P": 20.7, "RGB": 24.7, "RGBA": 27.1},
    "tiff": {"L": 10.4, "YCbCr": 18.7, "P": 20.0, "RGB": 22.2, "CMYK": 23.0, "RGBA": 37.5}
    | {"LA 16": 28.2, "RGB 16": 45.9, "RGBA 16": 56.1},
}
"""Bytes for each pixel by which `ImageProcessor` with the method sgz was measured to grow at its peak.

Measured were the high-water marks of processes, each with one picture of 6 megapixels (BMP and TIFF: 1.5), half
photograph and half noise, written in its own format: file, pixels, output and all that lies between. Of several kinds
of file (progressive, interleaved or in planes, alpha multiplied or not) the largest is taken. A mode that is not listed
counts as the largest of its format.
"""

DENOISE_BYTES = 4
"""Bytes for each sample that `--denoise` needs beside: the image without its noise, and what the curve makes of it."""

PROCESS_BYTES = 280_000_000
"""A process in which a later attempt isolates images, without their pixels. It computes on the CPU, so without torch,
unless that has to read the weights (`TORCH_BYTES`)."""


def bytes_needed(image: OpenedImage, settings: EnhanceSettings) -> int:
    """Return the bytes of memory that the pixels of an image will need at the peak of their enhancement.

    That of the network is held on a GPU, too: where the GPU's own memory is full the CPU takes over, and whoever holds
    a part of a budget may not wait for another.
    """
    header = image.header
    mode, is_deep = header.mode, header.bit_depth == 16
    each = pixel_bytes(image.format, mode, is_deep, header.metadata.lossless)
    if settings.format not in ("same", image.format):
        samples = (1 if mode.startswith("L") else 3) + mode.endswith("A")
        decoded = samples * (2 if is_deep else 1)
        is_still_deep = is_deep and settings.format == "png"
        each = max(each, 2 * decoded + pixel_bytes(settings.format, mode, is_still_deep, False))
    if settings.denoise:
        each += DENOISE_BYTES * (1 if mode.startswith("L") else 3)
    method = METHODS[settings.method]
    each += method.pixel_bytes + method.sample_bytes * max(settings.scale_factor**-2 - SCALE_FACTOR**-2, 0)
    return math.ceil(MARGIN * header.width * header.height * each)


def pixel_bytes(format: str, mode: str, is_deep: bool, is_lossless: bool) -> float:
    """Return the entry of PIXEL_BYTES for a kind of picture, or the largest of its format."""
    kinds = PIXEL_BYTES[format]
    kind = mode + (" 16" if is_deep else " lossless" if is_lossless else "")
    return kinds.get(kind, max(kinds.values()))
