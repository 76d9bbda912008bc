"""Bytes of image files to arrays and back; one file for each format, `codec` is what they share."""

from sgllie.errors import ImageError
from sgllie.images.codec import (
    EXTENSIONS,
    MAX_PIXELS,
    QUALITY,
    DecodedImage,
    ExifOrientation,
    OutputFormat,
    Pixels,
    decode,
    encode,
    output_name,
)

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "QUALITY",
    "DecodedImage",
    "ExifOrientation",
    "ImageError",
    "OutputFormat",
    "Pixels",
    "decode",
    "encode",
    "output_name",
]
