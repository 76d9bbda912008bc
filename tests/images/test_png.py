"""PNG files: chunks that are damaged, animations of one frame, high dynamic range, and chunks that grow."""

import struct
import zlib

import numpy as np
import pytest
from PIL import ImageCms
from test_image_metadata import exif_block

from image_files import GREY, RGB, deep, pillow, png, png_chunk
from sgllie.errors import ImageError
from sgllie.images import decode, encode

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
END = png_chunk(b"IEND", b"")


def error_of(data):
    with pytest.raises(ImageError) as caught:
        decode(data)
    return caught.value.error_type


def damaged(chunk):
    return chunk[:-1] + bytes((chunk[-1] ^ 1,))


def xmp_chunk(packet, compress=True):
    text = zlib.compress(packet) if compress else packet
    return png_chunk(b"iTXt", b"XML:com.adobe.xmp\0" + bytes((compress, 0)) + b"\0\0" + text)


ANCILLARY = {
    "tEXt": png_chunk(b"tEXt", b"Comment\0night"),
    "zTXt": png_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"night")),
    "iTXt": png_chunk(b"iTXt", b"Comment\0\0\0\0\0night"),
    "xmp": xmp_chunk(b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>"),
    "iCCP": png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(ICC)),
    "eXIf": png_chunk(b"eXIf", exif_block()[6:]),
    "tIME": png_chunk(b"tIME", struct.pack(">HBBBBB", 2026, 1, 2, 3, 4, 5)),
    "gAMA": png_chunk(b"gAMA", struct.pack(">I", 45455)),
    "pHYs": png_chunk(b"pHYs", struct.pack(">IIB", 11811, 5906, 1)),
    "sBIT": png_chunk(b"sBIT", b"\5\6\5"),
    "prVt": png_chunk(b"prVt", b"anything"),
}


@pytest.mark.parametrize("name", ANCILLARY)
def test_a_damaged_ancillary_chunk_is_left_out(name, capfd):
    chunk = ANCILLARY[name]
    other = png_chunk(b"tEXt", b"Author\0nobody")
    image = decode(png(RGB, 2, 8, other + damaged(chunk)))
    np.testing.assert_array_equal(image.pixels, RGB)
    for target in ("same", "jpeg", "webp"):
        encoded = encode(image, image.pixels, format=target)
        assert chunk[8:-4] not in encoded
    assert other in encode(image, image.pixels)
    assert (image.metadata.icc, image.metadata.exif, image.metadata.xmp, image.metadata.dpi) == (None,) * 4
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "chunk",
    [
        png_chunk(b"tRNS", bytes(6)),
        png_chunk(b"cICP", bytes((9, 16, 0, 1))),
        png_chunk(b"acTL", struct.pack(">II", 2, 0)),
        png_chunk(b"PLTE", bytes(3)),
        png_chunk(b"IDAT", b""),
    ],
)
def test_damage_to_what_decides_about_pixels_is_an_error(chunk):
    assert error_of(png(RGB, 2, 8, damaged(chunk))) == "corrupt"


def test_a_damaged_end_marker_hides_no_pixel():
    whole = png(RGB, 2, 8)
    np.testing.assert_array_equal(decode(whole.removesuffix(END) + damaged(END)).pixels, RGB)
    assert error_of(whole.removesuffix(END)) == "truncated"


@pytest.mark.parametrize("array", [GREY, RGB], ids=["grey", "colour"])
def test_bits_above_the_depth_of_a_transparent_colour_do_not_count(array):
    """PNG specification, 11.3.1.1: decoders must mask them."""
    colour = np.atleast_1d(array[5, 5])
    chunk = png_chunk(b"tRNS", (colour.astype(np.uint16) | 0x100).astype(">u2").tobytes())
    image = decode(png(array, 2 if array.ndim == 3 else 0, 8, chunk))
    expected = (array == array[5, 5]).reshape(*GREY.shape, -1).all(axis=2)
    np.testing.assert_array_equal(image.alpha, np.where(expected, 0, 255))


FRAME_CONTROL = png_chunk(b"fcTL", struct.pack(">IIIIIHHBB", 0, 83, 61, 0, 0, 1, 10, 0, 0))


def animation(frames, *, default_is_frame=True, extra=b""):
    control = png_chunk(b"acTL", struct.pack(">II", frames, 0)) + (FRAME_CONTROL if default_is_frame else b"")
    return png(RGB, 2, 8, control).removesuffix(END) + extra + END


def test_an_animation_of_one_frame_is_an_image():
    image = decode(animation(1))
    np.testing.assert_array_equal(image.pixels, RGB)
    assert b"acTL" not in encode(image, image.pixels)


@pytest.mark.parametrize(
    "data",
    [
        animation(2),
        animation(0),
        animation(
            1, default_is_frame=False, extra=FRAME_CONTROL + png_chunk(b"fdAT", bytes(4) + zlib.compress(bytes(9)))
        ),
    ],
)
def test_other_animations_are_refused(data):
    assert error_of(data) == "multi_frame"


def test_chunks_that_grow_are_not_followed_for_long():
    grown = zlib.compress(bytes(64 << 20), 9)
    profile = png_chunk(b"iCCP", b"large\0\0" + grown)
    packets = png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + grown) * 50
    text = png_chunk(b"zTXt", b"Comment\0\0" + grown) * 50
    image = decode(png(RGB, 2, 8, profile + packets + text), exif_orientation="apply")
    np.testing.assert_array_equal(image.pixels, RGB)
    assert (image.metadata.icc, image.metadata.xmp) == (None, b"")
    assert len(encode(image, image.pixels)) < 101 * len(grown) + 100_000


def test_the_first_of_several_packets_counts():
    first, second = (xmp_chunk(b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>%d</x:xmpmeta>" % number) for number in (1, 2))
    image = decode(png(RGB, 2, 8, first + second))
    assert b">1<" in image.metadata.xmp
    assert second not in encode(image, image.pixels)


def test_pixels_in_many_small_chunks():
    whole = png(deep(GREY), 0, 16)
    start = whole.index(b"IDAT")
    body = whole[start + 4 : whole.index(END) - 4]
    pieces = b"".join(png_chunk(b"IDAT", body[i : i + 7]) for i in range(0, len(body), 7))
    np.testing.assert_array_equal(decode(whole[: start - 4] + pieces + END).pixels, deep(GREY))
    np.testing.assert_array_equal(decode(pillow(RGB, "PNG")).pixels, RGB)
