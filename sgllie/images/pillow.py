"""Files as Pillow reads them, whatever other libraries of the process have told it to let pass."""

from io import BytesIO

from PIL import Image, ImageFile, TiffImagePlugin


def open_image(data: bytes, formats: tuple[str, ...]) -> Image.Image:
    """Open an image of one of these formats, whatever its size, and decode nothing yet.

    Raises:
        UnidentifiedImageError: it is of none of the formats.
        OSError, SyntaxError: it is one, but damaged.
    """
    _be_strict()
    return Image.open(BytesIO(data), formats=formats)


def open_tiff(data: bytes) -> TiffImagePlugin.TiffImageFile:
    """Open a TIFF whose directories have been checked, and decode nothing yet."""
    _be_strict()
    return TiffImagePlugin.TiffImageFile(BytesIO(data))


def _be_strict() -> None:
    """Set what Pillow keeps once for the process, which many a library sets at its import.

    Pixels are counted by us against what the caller allows; and the missing end of a file is no black picture.
    """
    Image.MAX_IMAGE_PIXELS = None
    ImageFile.LOAD_TRUNCATED_IMAGES = False
