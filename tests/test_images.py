"""Pixels: every format, mode and depth there and back; every kind of broken file."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms
from skimage import data

from sgllie.containers import png_chunk
from sgllie.images import ERROR_TYPES, DecodedImage, ImageError, decode, encode, output_name

# Damaged tags make Pillow warn. The library silences that, pytest shows it again.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

RGB = np.ascontiguousarray(data.astronaut()[100:161, 150:233])
GREY = np.ascontiguousarray(data.camera()[100:161, 150:233])
ALPHA = np.add.outer(np.arange(61), np.arange(83)).astype(np.uint8) * 3


def deep(array):
    """16 bits in which the low byte matters."""
    noise = np.random.default_rng(0).integers(0, 256, array.shape)
    return (array.astype(np.uint16) << 8) | noise.astype(np.uint16)


def pillow(array, format, mode=None, **options):
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, format, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def png(array, colour, depth, extra=b""):
    """A PNG written by hand, for what Pillow cannot write."""
    array = array.astype(">u2") if depth == 16 else array
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], depth, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def planes(array):
    return np.moveaxis(array, -1, 0)


def with_alpha(array):
    alpha = ALPHA if array.dtype == np.uint8 else deep(ALPHA)
    return np.dstack((array, alpha))


PALETTE = Image.fromarray(RGB).quantize(64)
BILEVEL = Image.fromarray(GREY).convert("1")
BILEVEL_GREY = np.array(BILEVEL).astype(np.uint8) * 255
PALETTE_RGB = np.array(PALETTE.convert("RGB"))
RGBA, LA = with_alpha(RGB), with_alpha(GREY)
WHITE_IS_ZERO = {"photometric": "miniswhite"}
SIDE_BY_SIDE, APART = {"photometric": "rgb"}, {"photometric": "rgb", "planarconfig": "separate"}

# name -> file, format, mode, bits, pixels (with alpha as last channel); only files that hold their pixels exactly
LOSSLESS = {
    "png L": (pillow(GREY, "PNG"), "png", "L", 8, GREY),
    "png RGB": (pillow(RGB, "PNG"), "png", "RGB", 8, RGB),
    "png LA": (pillow(LA, "PNG"), "png", "LA", 8, LA),
    "png RGBA": (pillow(RGBA, "PNG"), "png", "RGBA", 8, RGBA),
    "png 1": (pillow(BILEVEL, "PNG"), "png", "L", 1, BILEVEL_GREY),
    "png P": (pillow(PALETTE, "PNG"), "png", "P", 8, PALETTE_RGB),
    "png L16": (pillow(deep(GREY), "PNG"), "png", "L", 16, deep(GREY)),
    "png RGB16": (png(deep(RGB), 2, 16), "png", "RGB", 16, deep(RGB)),
    "png LA16": (png(deep(LA), 4, 16), "png", "LA", 16, deep(LA)),
    "png RGBA16": (png(deep(RGBA), 6, 16), "png", "RGBA", 16, deep(RGBA)),
    "webp RGB": (pillow(RGB, "WEBP", lossless=True), "webp", "RGB", 8, RGB),
    "webp RGBA": (pillow(RGBA, "WEBP", lossless=True, exact=True), "webp", "RGBA", 8, RGBA),
    "bmp L": (pillow(GREY, "BMP"), "bmp", "L", 8, GREY),
    "bmp RGB": (pillow(RGB, "BMP"), "bmp", "RGB", 8, RGB),
    "bmp P": (pillow(PALETTE, "BMP"), "bmp", "P", 8, PALETTE_RGB),
    "bmp 1": (pillow(BILEVEL, "BMP"), "bmp", "L", 1, BILEVEL_GREY),
    "bmp RGBA": (
        cv2.imencode(".bmp", cv2.cvtColor(RGBA, cv2.COLOR_RGBA2BGRA))[1].tobytes(),
        *("bmp", "RGBA", 8, RGBA),
    ),
    "tiff L": (pillow(GREY, "TIFF"), "tiff", "L", 8, GREY),
    "tiff RGB": (pillow(RGB, "TIFF"), "tiff", "RGB", 8, RGB),
    "tiff RGB lzw": (pillow(RGB, "TIFF", compression="tiff_lzw"), "tiff", "RGB", 8, RGB),
    "tiff RGB deflate": (pillow(RGB, "TIFF", compression="tiff_adobe_deflate"), "tiff", "RGB", 8, RGB),
    "tiff RGB planes": (tiff(planes(RGB), **APART), "tiff", "RGB", 8, RGB),
    "tiff RGB tiles": (tiff(RGB, **SIDE_BY_SIDE, tile=(16, 32)), "tiff", "RGB", 8, RGB),
    "tiff LA": (pillow(LA, "TIFF"), "tiff", "LA", 8, LA),
    "tiff RGBA": (pillow(RGBA, "TIFF"), "tiff", "RGBA", 8, RGBA),
    "tiff RGBA lzw": (pillow(RGBA, "TIFF", compression="tiff_lzw"), "tiff", "RGBA", 8, RGBA),
    "tiff RGB+channel": (tiff(RGBA, **SIDE_BY_SIDE, extrasamples=["unspecified"]), "tiff", "RGBA", 8, RGBA),
    "tiff RGBA planes": (tiff(planes(RGBA), **APART, extrasamples=["unassalpha"]), "tiff", "RGBA", 8, RGBA),
    "tiff P": (pillow(PALETTE, "TIFF"), "tiff", "P", 8, PALETTE_RGB),
    "tiff 1": (pillow(BILEVEL, "TIFF"), "tiff", "L", 1, BILEVEL_GREY),
    "tiff fax": (pillow(BILEVEL, "TIFF", compression="group4"), "tiff", "L", 1, BILEVEL_GREY),
    "tiff L white is zero": (tiff(255 - GREY, **WHITE_IS_ZERO), "tiff", "L", 8, GREY),
    "tiff L16": (pillow(deep(GREY), "TIFF"), "tiff", "L", 16, deep(GREY)),
    "tiff L16 big-endian": (tiff(deep(GREY), byteorder=">"), "tiff", "L", 16, deep(GREY)),
    "tiff L16 white is zero": (tiff(65535 - deep(GREY), **WHITE_IS_ZERO), "tiff", "L", 16, deep(GREY)),
    "tiff LA16": (tiff(deep(LA), extrasamples=["unassalpha"], planarconfig="contig"), "tiff", "LA", 16, deep(LA)),
    "tiff RGB16": (tiff(deep(RGB), **SIDE_BY_SIDE), "tiff", "RGB", 16, deep(RGB)),
    "tiff RGB16 big-endian": (tiff(deep(RGB), byteorder=">", **SIDE_BY_SIDE), "tiff", "RGB", 16, deep(RGB)),
    "tiff RGB16 lzw": (cv2.imencode(".tiff", deep(RGB)[..., ::-1])[1].tobytes(), "tiff", "RGB", 16, deep(RGB)),
    "tiff RGB16 deflate": (
        tiff(deep(RGB), **SIDE_BY_SIDE, compression="zlib", predictor=True),
        *("tiff", "RGB", 16, deep(RGB)),
    ),
    "tiff RGB16 planes": (tiff(planes(deep(RGB)), **APART), "tiff", "RGB", 16, deep(RGB)),
    "tiff RGBA16": (tiff(deep(RGBA), **SIDE_BY_SIDE, extrasamples=["unassalpha"]), "tiff", "RGBA", 16, deep(RGBA)),
    "tiff RGBA16 planes": (
        tiff(planes(deep(RGBA)), **APART, extrasamples=["unassalpha"]),
        *("tiff", "RGBA", 16, deep(RGBA)),
    ),
}
JPEG = pillow(RGB, "JPEG", quality=90)
GREY_JPEG = pillow(GREY, "JPEG", quality=90)
WEBP = pillow(RGB, "WEBP", quality=90)
ONE_OF_EACH = {
    "jpeg": JPEG,
    "progressive jpeg": pillow(RGB, "JPEG", progressive=True),
    "webp": WEBP,
    **{name: LOSSLESS[name][0] for name in ("png RGB", "webp RGBA", "bmp RGB", "tiff RGB", "tiff RGB16 lzw")},
}


def split(stored):
    """Pixels and alpha of an array whose last of two or four channels is alpha."""
    if stored.ndim == 2 or stored.shape[2] == 3:
        return stored, None
    return (stored[..., 0] if stored.shape[2] == 2 else stored[..., :3]), stored[..., -1]


def assert_same(image: DecodedImage, stored):
    pixels, alpha = split(stored)
    assert image.pixels.dtype == pixels.dtype
    assert image.pixels.flags.c_contiguous
    np.testing.assert_array_equal(image.pixels, pixels)
    assert (image.alpha is None) == (alpha is None)
    if alpha is not None:
        assert image.alpha.dtype == pixels.dtype
        np.testing.assert_array_equal(image.alpha, alpha)


def error_of(data, **options):
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    sentence = str(caught.value)
    assert sentence
    assert "\n" not in sentence
    assert caught.value.error_type in ERROR_TYPES
    return caught.value.error_type


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_files_come_back_bit_for_bit(name):
    file, format, mode, bits, stored = LOSSLESS[name]
    image = decode(file)
    assert (image.format, image.mode, image.bit_depth) == (format, mode, bits)
    assert_same(image, stored)
    again = decode(encode(image, image.pixels))
    assert again.format == format
    assert_same(again, stored)


@pytest.mark.parametrize("name", LOSSLESS)
def test_png_output_holds_every_lossless_file_bit_for_bit(name):
    file, _, _, _, stored = LOSSLESS[name]
    image = decode(file)
    encoded = encode(image, image.pixels, format="png")
    assert_same(decode(encoded), stored)
    assert Image.open(io.BytesIO(encoded)).size == (83, 61)


@pytest.mark.parametrize("name", LOSSLESS)
def test_other_readers_agree_on_the_output(name):
    file, format, _, _, stored = LOSSLESS[name]
    image = decode(file)
    encoded = encode(image, image.pixels)
    if format == "tiff":
        np.testing.assert_array_equal(tifffile.imread(io.BytesIO(encoded)), stored)
    elif stored.dtype == np.uint8 and format != "bmp":
        np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(encoded))), stored)
    else:
        assert Image.open(io.BytesIO(encoded)).size == (83, 61)


@pytest.mark.parametrize("name", LOSSLESS)
@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_lossy_output_is_close_and_of_8_bits(name, format):
    file, _, _, _, stored = LOSSLESS[name]
    image = decode(file)
    if image.alpha is not None and format == "jpeg":
        with pytest.raises(ImageError, match="transparent") as caught:
            encode(image, image.pixels, format=format)
        assert caught.value.error_type == "unsupported"
        return
    result = decode(encode(image, image.pixels, format=format))
    assert result.format == format
    assert result.pixels.dtype == np.uint8
    pixels, alpha = split(np.round(stored / (257 if stored.dtype == np.uint16 else 1)))
    if format == "jpeg":
        assert result.pixels.ndim == pixels.ndim
    elif pixels.ndim == 2:
        pixels = np.dstack([pixels] * 3)
    shown = slice(None) if alpha is None else alpha > 128  # WebP gives transparent parts any colour it likes
    assert np.abs(result.pixels[shown] - pixels[shown]).mean() < 6
    if alpha is not None:
        np.testing.assert_array_equal(result.alpha, alpha)


def test_opaque_alpha_does_not_stop_jpeg():
    image = decode(pillow(np.dstack((RGB, np.full_like(ALPHA, 255))), "PNG"))
    assert decode(encode(image, image.pixels, format="jpeg")).alpha is None


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits_spans_the_whole_range(depth):
    levels = np.arange(1 << depth, dtype=np.uint8)
    bits = np.unpackbits(levels[:, None], axis=1)[:, 8 - depth :].ravel()
    image = decode(png(np.packbits(bits)[None], 0, depth).replace(*_width(np.packbits(bits)[None], levels, depth)))
    np.testing.assert_array_equal(image.pixels[0], levels * (255 // levels[-1]))
    assert image.bit_depth == depth


def _width(packed, levels, depth):
    """Header chunks of the packed rows and of the pixels in them."""
    fields = (depth, 0, 0, 0, 0)
    wrong, right = (struct.pack(">IIBBBBB", width, 1, *fields) for width in (packed.shape[1], len(levels)))
    return png_chunk(b"IHDR", wrong), png_chunk(b"IHDR", right)


def test_transparent_colours_and_palette_entries_become_alpha():
    grey, colour = int(GREY[3, 4]), RGB[3, 4].tolist()
    image = decode(pillow(GREY, "PNG", transparency=grey))
    np.testing.assert_array_equal(image.alpha, np.where(grey == GREY, 0, 255))
    assert decode(encode(image, image.pixels)).alpha is not None
    image = decode(pillow(RGB, "PNG", transparency=tuple(colour)))
    np.testing.assert_array_equal(image.alpha, np.where((colour == RGB).all(axis=2), 0, 255))
    assert_same(image, np.dstack((RGB, image.alpha)))
    entries = bytes(range(0, 256, 4))
    image = decode(pillow(PALETTE, "PNG", transparency=entries))
    np.testing.assert_array_equal(image.alpha, np.frombuffer(entries, np.uint8)[np.array(PALETTE)])
    level = int(deep(GREY)[5, 5])
    image = decode(png(deep(GREY), 0, 16, png_chunk(b"tRNS", struct.pack(">H", level))))
    np.testing.assert_array_equal(image.alpha, np.where(deep(GREY) == level, 0, 65535))


def test_interlaced_png():
    encoded = cv2.imencode(".png", RGB[..., ::-1])[1].tobytes()
    assert encoded  # cv2 writes none; a 1x1 image is the same either way
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    pixel = png_chunk(b"IDAT", zlib.compress(b"\0\1\2\3"))
    file = b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + pixel + png_chunk(b"IEND", b"")
    assert decode(file).pixels.tolist() == [[[1, 2, 3]]]


def test_premultiplied_alpha_is_divided_out():
    alpha = np.full_like(ALPHA, 128)
    multiplied = np.round(RGB * (128 / 255)).astype(np.uint8)
    file = tiff(np.dstack((multiplied, alpha)), **SIDE_BY_SIDE, extrasamples=["assocalpha"])
    assert np.abs(decode(file).pixels.astype(int) - RGB).max() <= 2
    deeper = np.round(deep(RGB) * (1 / 3)).astype(np.uint16)
    file = tiff(np.dstack((deeper, np.full_like(deep(ALPHA), 21845))), **SIDE_BY_SIDE, extrasamples=["assocalpha"])
    image = decode(file)
    assert np.abs(image.pixels.astype(int) - deep(RGB)).max() <= 2
    assert_same(decode(encode(image, image.pixels)), np.dstack((image.pixels, image.alpha)))


def test_jpeg_pixels_are_those_of_libjpeg():
    np.testing.assert_array_equal(decode(JPEG).pixels, np.array(Image.open(io.BytesIO(JPEG))))
    image = decode(GREY_JPEG)
    assert (image.mode, image.pixels.ndim) == ("L", 2)
    np.testing.assert_array_equal(image.pixels, np.array(Image.open(io.BytesIO(GREY_JPEG))))
    assert Image.open(io.BytesIO(encode(image, image.pixels))).mode == "L"


@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_jpeg_keeps_its_chroma_subsampling(subsampling):
    image = decode(pillow(RGB, "JPEG", subsampling=subsampling))
    layer = Image.open(io.BytesIO(encode(image, image.pixels))).layer
    assert (layer[0][1], layer[0][2]) == {0: (1, 1), 1: (2, 1), 2: (2, 2)}[subsampling]


def test_quality_is_heeded():
    image = decode(pillow(RGB, "PNG"))
    for format in ("jpeg", "webp"):
        sizes = [len(encode(image, RGB, format=format, quality=quality)) for quality in (30, 80, 95)]
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[2] / 2


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(format):
    cmyk = Image.fromarray(RGB).convert("CMYK")
    image = decode(pillow(cmyk, format, **({"quality": 98} if format == "JPEG" else {})))
    assert image.mode == "CMYK"
    assert np.abs(image.pixels.astype(int) - np.array(cmyk.convert("RGB"))).mean() < 2
    again = decode(encode(image, image.pixels))
    assert again.mode == "RGB"


def test_cmyk_of_an_unusable_profile_is_converted_plainly_and_loses_it():
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    cmyk = Image.fromarray(RGB).convert("CMYK")
    image = decode(pillow(cmyk, "JPEG", quality=98, icc_profile=profile))
    assert np.abs(image.pixels.astype(int) - np.array(cmyk.convert("RGB"))).mean() < 2
    assert "icc_profile" not in Image.open(io.BytesIO(encode(image, image.pixels))).info


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "TIFF16"])
def test_orientation_is_kept_or_applied(name, orientation):
    source = Image.fromarray(RGB)
    tags = Image.Exif()
    tags[274] = orientation
    options = {"PNG": {"exif": tags}, "JPEG": {"exif": tags, "quality": 100, "subsampling": 0}}
    options |= {"WEBP": {"exif": tags, "lossless": True}, "TIFF": {"tiffinfo": {274: orientation}}}
    if name == "TIFF16":
        file = tiff(deep(RGB), **SIDE_BY_SIDE, extratags=[(274, 3, 1, orientation, True)])
    else:
        file = pillow(source, name, **options[name])
    kept, applied = decode(file), decode(file, exif_orientation="apply")
    stored = np.array(kept.pixels)
    assert stored.shape == RGB.shape
    turned = {2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1], 5: lambda a: a.swapaxes(0, 1)}
    turned |= {6: lambda a: np.rot90(a, -1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1), 8: np.rot90}
    np.testing.assert_array_equal(applied.pixels, turned.get(orientation, lambda a: a)(stored))
    if name not in ("JPEG", "TIFF16"):
        np.testing.assert_array_equal(stored, RGB)
    for image, tag in ((kept, orientation), (applied, 1)):
        encoded = encode(image, image.pixels)
        assert tag_of(encoded, 274) == tag
        np.testing.assert_array_equal(decode(encoded).pixels.shape, image.pixels.shape)


def tag_of(encoded, tag):
    """A tag of the file's EXIF; read before Pillow turns a TIFF and forgets its orientation."""
    opened = Image.open(io.BytesIO(encoded))
    return opened.tag_v2.get(tag) if opened.format == "TIFF" else opened.getexif().get(tag)


@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from(["JPEG", "PNG", "WEBP", "BMP", "TIFF"]), st.booleans())
@settings(deadline=None, max_examples=60)
def test_every_size_is_kept(height, width, format, colour):
    pixels = RGB[:height, :width] if colour else GREY[:height, :width]
    image = decode(pillow(pixels, format))
    for target in ("same", "jpeg", "png", "webp"):
        assert decode(encode(image, image.pixels, format=target)).pixels.shape[:2] == (height, width)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5000), (5000, 1)])
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
def test_extreme_shapes(shape, format):
    image = decode(pillow(np.full((*shape, 3), 77, np.uint8), format))
    assert image.pixels.shape == (*shape, 3)
    assert decode(encode(image, image.pixels)).pixels.shape == (*shape, 3)


def test_format_follows_the_bytes_and_same_writes_it():
    image = decode(pillow(RGB, "PNG"))
    assert image.format == "png"
    assert encode(image, image.pixels)[:4] == b"\x89PNG"


def test_output_name():
    assert output_name("a.b/photo.JPG", "same") == "a.b/photo.JPG"
    assert output_name("a.b/photo.JPG", "png") == "a.b/photo.png"
    assert output_name("a.b/photo.jpeg", "jpeg") == "a.b/photo.jpeg"
    assert output_name("x.y.tiff", "jpeg") == "x.y.jpg"
    assert output_name("x.bmp", "webp") == "x.webp"


def test_pixels_of_another_shape_or_type_are_a_mistake_of_the_caller():
    image = decode(JPEG)
    for pixels in (image.pixels[:-1], image.pixels.astype(np.uint16)):
        with pytest.raises(ValueError, match="pixels are"):
            encode(image, pixels)


def test_lossy_webp_stays_lossy_and_lossless_stays_lossless():
    for lossless in (False, True):
        image = decode(pillow(RGB, "WEBP", lossless=lossless))
        assert (b"VP8L" in encode(image, image.pixels)[:64]) == lossless


def test_formats_refuse_sides_they_cannot_hold():
    image = decode(pillow(np.zeros((2, 17000), np.uint8), "PNG"))
    with pytest.raises(ImageError) as caught:
        encode(image, image.pixels, format="webp")
    assert caught.value.error_type == "too_large"


# Broken files


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
    assert_same(decode(file.getvalue()), RGB)
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


def test_threads_do_not_disturb_each_other():
    files = list(ONE_OF_EACH.values()) * 4
    with ThreadPoolExecutor(8) as pool:
        for image, file in zip(pool.map(decode, files), files, strict=True):
            np.testing.assert_array_equal(image.pixels, decode(file).pixels)
