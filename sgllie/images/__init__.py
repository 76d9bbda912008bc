"""Bytes of image files to arrays and back; one file for each format, `codec` is what they share."""

from typing import TYPE_CHECKING, Any

from sgllie.errors import ImageError
from sgllie.images.formats import (
    EXTENSIONS,
    MAX_PIXELS,
    QUALITY,
    ExifOrientation,
    OutputFormat,
    Pixels,
    output_name,
)

if TYPE_CHECKING:
    from sgllie.images.codec import DecodedImage, OpenedImage, decode, encode, open_image, recognised

__all__ = [
    "EXTENSIONS",
    "MAX_PIXELS",
    "QUALITY",
    "DecodedImage",
    "ExifOrientation",
    "ImageError",
    "OpenedImage",
    "OutputFormat",
    "Pixels",
    "decode",
    "encode",
    "open_image",
    "output_name",
    "recognised",
]


def __getattr__(name: str) -> Any:
    """Import the codecs when they are asked for: settings and listings need none."""
    if name in ("DecodedImage", "OpenedImage", "decode", "encode", "open_image", "recognised"):
        from sgllie.images import codec

        return getattr(codec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
