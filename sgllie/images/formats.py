"""Which image formats there are, by name; no library that decodes them is imported."""

from pathlib import PurePosixPath
from typing import Any, Literal

from numpy.typing import NDArray

OutputFormat = Literal["same", "jpeg", "png", "webp"]
ExifOrientation = Literal["keep", "apply"]

Pixels = NDArray[Any]
"""The pixels of an image: H x W x 3 RGB or H x W grey, uint8 or uint16."""

MAX_PIXELS = 178_000_000
"""Images with more pixels are refused, unless the caller allows more."""
QUALITY = 95
"""Of JPEG and lossy WebP, unless the caller asks for another."""

EXTENSIONS: dict[str, str] = {
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".jpe": "jpeg",
    ".jfif": "jpeg",
    ".jfi": "jpeg",
    ".jif": "jpeg",
    ".png": "png",
    ".webp": "webp",
    ".bmp": "bmp",
    ".dib": "bmp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
"""Extensions, in lower case, of the files that count as images, and the format that they promise."""

UNREAD = frozenset(
    (
        *(".heic", ".heif", ".avif", ".gif", ".jp2", ".j2k", ".jpx", ".jxl", ".exr", ".psd", ".ppm", ".pgm"),
        *(".3fr", ".arw", ".cr2", ".cr3", ".dng", ".erf", ".kdc", ".mef", ".mos", ".mrw", ".nef", ".nrw", ".orf"),
        *(".pef", ".raf", ".rw2", ".rwl", ".sr2", ".srf", ".srw", ".x3f"),
    )
)
"""Extensions, in lower case, of pictures in formats that are not read, raw ones of cameras among them."""


def output_name(name: str, format: OutputFormat) -> str:
    """Return the name of the output: unchanged for `same`, else with the extension .jpg, .png or .webp.

    A name that already has an extension of the format keeps it (photo.JPEG with format jpeg).
    """
    if format == "same" or EXTENSIONS.get(PurePosixPath(name).suffix.lower()) == format:
        return name
    return str(PurePosixPath(name).with_suffix({"jpeg": ".jpg", "png": ".png", "webp": ".webp"}[format]))
