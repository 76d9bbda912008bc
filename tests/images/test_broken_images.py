"""Every kind of broken file gives an ImageError of the right type, and nothing on stderr."""

import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_files import GREY, GREY_JPEG, JPEG, LOSSLESS, ONE_OF_EACH, PALETTE, RGB, WEBP, pillow, png_chunk, tiff
from sgllie.errors import ERROR_TYPES, ImageError
from sgllie.images import decode, encode

# Damaged tags make Pillow warn. The library silences that, pytest shows it again.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")


def error_of(data, **options):
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    assert caught.value.error_type in ERROR_TYPES
    return caught.value.error_type


@pytest.mark.parametrize(
    ("data", "error_type"),
    [
        (b"", "empty"),
        (b"<!DOCTYPE html><html>404</html>", "not_an_image"),
        (b"hello", "not_an_image"),
        (b"PK\x03\x04" + bytes(50), "not_an_image"),
        (bytes(5000), "not_an_image"),
        (b"BM is how this letter begins, and then it goes on for a while", "not_an_image"),
        (pillow(PALETTE, "GIF"), "unsupported"),
        (pillow(RGB, "PPM"), "unsupported"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50), "unsupported"),
        (b"\0\0\0\x1cftypavif\0\0\0\0" + bytes(50), "unsupported"),
        (pillow(RGB, "JPEG2000"), "unsupported"),
        (b"#?RGBE\nFORMAT=32-bit_rle_rgbe\n\n-Y 1 +X 1\n" + bytes(4), "unsupported"),
        (tiff(RGB, bigtiff=True), "unsupported"),
        (tiff(RGB.astype(np.float32), photometric="rgb"), "unsupported"),
        (tiff(GREY.astype(np.uint32)), "unsupported"),
        (tiff(GREY.astype(np.int16)), "unsupported"),
        (pillow(Image.fromarray(RGB).convert("LAB"), "TIFF"), "unsupported"),
        (b"\xff\xd8", "truncated"),
        (b"\xff\xd8\xff\xd9", "corrupt"),
        (b"\x89PNG\r\n\x1a\n", "truncated"),
        (b"BM", "truncated"),
        (b"II*\0", "corrupt"),
    ],
)
def test_what_is_not_an_image_or_not_handled(data, error_type):
    assert error_of(data) == error_type


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_truncated_files(name, share):
    data = ONE_OF_EACH[name]
    assert error_of(data[: int(len(data) * share)]) == "truncated"


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_bytes_behind_the_end_do_no_harm(name):
    data = ONE_OF_EACH[name]
    np.testing.assert_array_equal(decode(data + b"\0" * 300 + b"uploaded by a camera").pixels, decode(data).pixels)


def test_jpeg_without_its_last_byte_is_truncated():
    assert error_of(JPEG[:-1]) == "truncated"


def test_damage_inside_a_jpeg_is_found(capfd):
    middle = len(JPEG) // 2
    assert error_of(JPEG[:middle] + JPEG[middle + 100 :]) == "corrupt"
    assert capfd.readouterr().err == ""


def test_zeros_before_the_end_of_a_jpeg_do_no_harm():
    np.testing.assert_array_equal(decode(JPEG[:-2] + bytes(64) + JPEG[-2:]).pixels, decode(JPEG).pixels)


def test_a_jpeg_with_an_odd_header_is_read():
    odd_version = JPEG.replace(b"JFIF\0\1", b"JFIF\0\7", 1)
    np.testing.assert_array_equal(decode(odd_version).pixels, decode(JPEG).pixels)


def test_damage_inside_a_png_is_found(capfd):
    data = bytearray(ONE_OF_EACH["png RGB"])
    data[len(data) // 2] ^= 1
    assert error_of(bytes(data)) == "corrupt"
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ["tiff RGB", "tiff RGB16 lzw"])
def test_damaged_tiff_is_silent_on_stderr(name, capfd):
    data = bytearray(LOSSLESS[name][0])
    for place in range(8, len(data), 37):
        data[place] ^= 0x3C
    with pytest.raises(ImageError):
        decode(bytes(data))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_large_images_are_refused(name):
    data = ONE_OF_EACH[name]
    assert error_of(data, max_pixels=61 * 83 - 1) == "too_large"
    assert decode(data, max_pixels=61 * 83).pixels.shape == (61, 83, 3)


def test_a_decompression_bomb_is_refused_by_its_header():
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    assert error_of(bomb) == "too_large"


@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(format):
    frames = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    assert error_of(pillow(frames[0], format, save_all=True, append_images=frames[1:])) == "multi_frame"


def test_a_tiff_with_a_thumbnail_and_an_mpo_are_single_images():
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(RGB, photometric="rgb")
        writer.write(RGB[::4, ::4], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(decode(file.getvalue()).pixels, RGB)
    pictures = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    mpo = pillow(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    image = decode(mpo)
    assert image.format == "jpeg"
    encoded = encode(image, image.pixels)
    assert Image.open(io.BytesIO(encoded)).format == "JPEG"
    assert b"MPF\0" not in encoded


SEEDS = [JPEG, GREY_JPEG, WEBP, *(file for file, *_ in LOSSLESS.values())]


@given(
    st.sampled_from(SEEDS),
    st.lists(
        st.tuples(st.floats(0, 1), st.sampled_from(["flip", "cut", "insert", "end"]), st.integers(0, 255)), max_size=4
    ),
    st.sampled_from(["keep", "apply"]),
)
@settings(deadline=None, max_examples=400)
def test_mutated_files_give_an_image_or_an_image_error(data, mutations, exif_orientation):
    mutated = bytearray(data)
    for where, what, value in mutations:
        # Headers are short, and damage there does the most.
        place = int(where**3 * (len(mutated) - 1))
        if what == "flip":
            mutated[place] = value
        elif what == "cut":
            del mutated[place : place + 1 + value % 16]
        elif what == "insert":
            mutated[place:place] = bytes([value]) * (1 + value % 5)
        else:
            del mutated[max(place, 12) :]
        if not mutated:
            break
    try:
        image = decode(bytes(mutated), max_pixels=1_000_000, exif_orientation=exif_orientation)
    except ImageError:
        return
    assert image.pixels.dtype in (np.uint8, np.uint16)
    encode(image, image.pixels)
