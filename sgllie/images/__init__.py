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
    from sgllie.images.codec import (
        DecodedImage,
        OpenedImage,
        decode,
        eight_bits,
        encode,
        open_image,
        over_grey,
        recognised,
    )

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
    "eight_bits",
    "encode",
    "open_image",
    "output_name",
    "over_grey",
    "recognised",
]


def __getattr__(name: str) -> Any:
    """Import the codecs when they are asked for: settings and listings need none."""
    if name in __all__:
        from sgllie.images import codec

        return getattr(codec, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
