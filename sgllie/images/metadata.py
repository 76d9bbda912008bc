"""What is known of an image besides its pixels: its header, and the metadata that is carried to the output."""

import struct
from dataclasses import dataclass, field

from sgllie.errors import ImageError
from sgllie.images import exif

EXIF_PREFIX = b"Exif\0\0"
METRES_PER_INCH = 0.0254
MOST_PARTS = 100_000
"""Segments or chunks around the pixels of one file. Each may have a few bytes, and takes far more in memory."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an output file carries besides pixels.

    Attributes:
        icc: ICC profile.
        exif: EXIF block from its byte order mark on, made to fit the decoded pixels (see `exif.refreshed`).
        xmp: XMP packet.
        dpi: horizontal and vertical dots per inch, where the container itself tells them.
        verbatim: segments (JPEG), chunks (PNG) or directory (TIFF) to be copied into a file of the same format.
        subsampling: chroma subsampling of a JPEG, for a JPEG.
        lossless: whether a WebP is of the lossless kind.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    verbatim: tuple[bytes, ...] = ()
    subsampling: str = "420"
    lossless: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image before its pixels are decoded.

    Attributes:
        width: pixels.
        height: pixels.
        mode: channels as in the file: L, LA, RGB, RGBA, P (palette) or CMYK.
        bit_depth: bits of each channel, or of the index into the palette.
        metadata: to be carried to the output.
        orientation: as in EXIF, 1 to 8.
        transparent: the grey level (of the decoded pixels) that stands for full transparency.
        scan: where the compressed data of a JPEG begin.
    """

    width: int
    height: int
    mode: str
    bit_depth: int
    metadata: Metadata = field(default_factory=Metadata)
    orientation: int = 1
    transparent: int | None = None
    scan: int = 0


def check_parts(count: int, format: str) -> None:
    """Refuse a file with more parts than any has but one that is made to fill the memory."""
    if count > MOST_PARTS:
        raise ImageError("unsupported", f"the {format} has more than {MOST_PARTS:,} parts around its pixels")


def resolution_exif(dpi: tuple[float, float] | None) -> bytes:
    """Return an EXIF block that tells the resolution, for containers without a place for it; empty without one."""
    if dpi is None:
        return b""
    x, y = (min(round(value * 1000), 2**32 - 1) for value in dpi)
    entries = ((exif.X_RESOLUTION, 5, 1, 50), (exif.Y_RESOLUTION, 5, 1, 58), (exif.RESOLUTION_UNIT, 3, 1, 2))
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, 3) + directory + struct.pack("<IIIII", 0, x, 1000, y, 1000)
