"""Other libraries set Pillow's limits for the whole process; ours must not follow them."""

import pytest
from PIL import Image, ImageFile

from image_files import RGB, pillow
from sgllie.errors import ImageError
from sgllie.evaluate.image_sizes import upright_size
from sgllie.images import decode
from sgllie.metrics.labels import SCHEMES, decode_labels

GREY = Image.new("L", (70, 40), 7)
LZW_OF_CMYK = pillow(Image.fromarray(RGB).convert("CMYK"), "TIFF", compression="tiff_lzw")
"""A TIFF that only Pillow decodes here."""


@pytest.fixture(autouse=True)
def another_library(monkeypatch):
    """As nuscenes-devkit and many a training script do at their beginning."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)


def test_pixels_are_counted_by_us():
    labels = pillow(GREY, "PNG")
    assert decode_labels(labels, SCHEMES["cityscapes-ids"]).classes.shape == (40, 70)
    assert upright_size(labels) == (70, 40)
    assert decode(LZW_OF_CMYK).pixels.shape == RGB.shape


def test_half_a_file_is_no_image():
    labels = pillow(GREY, "BMP")
    with pytest.raises(ValueError, match="cannot be read: image file is truncated"):
        decode_labels(labels[: len(labels) // 2], SCHEMES["cityscapes-ids"])
    with pytest.raises(ImageError) as caught:
        decode(LZW_OF_CMYK[: len(LZW_OF_CMYK) // 2])
    assert caught.value.error_type == "truncated"
