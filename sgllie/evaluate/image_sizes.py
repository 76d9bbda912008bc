"""The sizes of images, which YOLO's boxes are shares of."""

from collections.abc import Collection

from PIL import ExifTags, UnidentifiedImageError

from sgllie.corpus.listing import Listing
from sgllie.corpus.packed import packed
from sgllie.errors import StorageError, UsageError, first_line
from sgllie.images.pillow import open_image
from sgllie.images.tiff_layout import IMAGE_LENGTH, IMAGE_WIDTH
from sgllie.metrics.boxes import stem
from sgllie.storage import S3Options, open_storage

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""Pillow knows many more, of which some run other programs."""
TURNED = (5, 6, 7, 8)
"""The values of the EXIF Orientation that exchange width and height."""


class ImageSizes:
    """The images of a folder, prefix, glob or list, and their sizes.

    Args:
        source: what the user named.
        s3: how to reach S3.
        image_column: of Parquet files, that holds the images; by default it is found by what it holds.

    Attributes:
        stems: their names without suffix.
    """

    def __init__(self, source: str, s3: S3Options, image_column: str | None = None) -> None:
        listing = Listing(source, s3, image_column=image_column)
        self._storage = packed(open_storage(listing.root, s3))
        self._paths = [entry.path for entry in listing]
        self.stems = {stem(path) for path in self._paths}

    def __call__(self, stems: Collection[str]) -> dict[str, tuple[int, int]]:
        """Return the upright width and height of the images of these names; UsageError where one cannot be read."""
        return {path: self._size(path) for path in self._paths if stem(path) in stems}

    def _size(self, path: str) -> tuple[int, int]:
        try:
            return upright_size(self._storage.read(path))
        except (OSError, StorageError, ValueError, SyntaxError) as error:
            raise UsageError(f"the size of {self._storage.uri}/{path} cannot be read: {reason(error)}") from error


def upright_size(data: bytes) -> tuple[int, int]:
    """Return width and height of an image file as its EXIF Orientation turns it, which is how labels are drawn.

    Raises:
        OSError: the bytes are not those of an image.
    """
    with open_image(data, FORMATS) as image:
        width, height = image.size
        if image.format == "TIFF":  # some releases of Pillow turn the size of a TIFF already
            width, height = image.tag_v2[IMAGE_WIDTH], image.tag_v2[IMAGE_LENGTH]  # type: ignore[attr-defined]
        return (height, width) if image.getexif().get(ExifTags.Base.Orientation) in TURNED else (width, height)


def reason(error: Exception) -> str:
    """Return why a file is no image; Pillow's own sentence names an address in memory."""
    if isinstance(error, UnidentifiedImageError):
        return "it is not a JPEG, PNG, WebP, BMP or TIFF"
    return first_line(error)
