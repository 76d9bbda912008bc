"""Pixels: every format, mode and depth there and back."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from image_files import (
    ALPHA,
    GREY,
    GREY_JPEG,
    JPEG,
    LOSSLESS,
    ONE_OF_EACH,
    PALETTE,
    RGB,
    SIDE_BY_SIDE,
    deep,
    pillow,
    png,
    png_chunk,
    tiff,
)
from sgllie.errors import ImageError
from sgllie.images import DecodedImage, decode, eight_bits, encode, open_image, output_name, over_grey


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
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = b"".join(b"\0" + row.tobytes() for x, y, across, down in passes for row in RGB[y::down, x::across])
    header = struct.pack(">IIBBBBB", 83, 61, 8, 2, 0, 0, 1)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    assert_same(decode(b"\x89PNG\r\n\x1a\n" + body), RGB)


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


def test_threads_do_not_disturb_each_other():
    files = list(ONE_OF_EACH.values()) * 4
    with ThreadPoolExecutor(8) as pool:
        for image, file in zip(pool.map(decode, files), files, strict=True):
            np.testing.assert_array_equal(image.pixels, decode(file).pixels)


@pytest.mark.parametrize(("mode", "orientation"), [("RGB", 1), ("RGB", 6), ("L", 1), ("CMYK", 1)])
def test_a_jpeg_may_be_decoded_smaller(mode, orientation):
    """At the smallest scale at which no side is too short, with what the whole picture shows."""
    generator = np.random.default_rng(0)
    noise = Image.fromarray(generator.integers(60, 200, (20, 30, 3), np.uint8)).resize(
        (616, 304), Image.Resampling.BICUBIC
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    noise.convert(mode).save(file, "JPEG", quality=95, exif=exif)
    opened = open_image(file.getvalue(), exif_orientation="apply")
    whole = opened.decode().pixels
    for least, shape in ((300, (304, 616)), (1000, (304, 616)), (60, (76, 154)), (1, (38, 77))):
        pixels = opened.decode(least).pixels
        assert pixels.shape[:2] == (shape if orientation == 1 else shape[::-1])
        again = np.asarray(Image.fromarray(whole).resize(pixels.shape[1::-1], Image.Resampling.BOX), float)
        assert np.abs(pixels - again).mean() < 2


def test_what_is_no_jpeg_or_is_damaged_is_decoded_as_ever():
    for data in ONE_OF_EACH.values():
        if data[:2] != b"\xff\xd8":
            np.testing.assert_array_equal(open_image(data).decode(4).pixels, decode(data).pixels)
    with pytest.raises(ImageError, match="ends before"):
        open_image(JPEG[: len(JPEG) // 2]).decode(4)


def test_sixteen_bits_are_rounded_to_eight():
    levels = np.arange(2**16, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(eight_bits(levels), np.rint(levels / 257))
    assert eight_bits(eight_bits(levels)).dtype == np.uint8


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 3)])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_what_is_transparent_is_shown_over_grey(shape, depth):
    white = np.full(shape, np.iinfo(depth).max, depth)
    alpha = (white[..., 0] if white.ndim == 3 else white) * np.array([0, 1, 1], depth)
    shown = over_grey(white, alpha)
    assert shown.dtype == np.uint8
    assert (shown[:, 0] == 128).all()
    assert (shown[:, 1:] == 255).all()
    assert (over_grey(white) == 255).all()
