"""TIFF files: one picture or several, the tags around it, and sizes that lie."""

import io
import struct

import numpy as np
import pytest
import tifffile
from PIL import Image
from test_image_metadata import exif_block

from image_files import GREY, PALETTE, RGB, SIDE_BY_SIDE, deep, pillow, planes, tiff, with_alpha
from sgllie.errors import ImageError
from sgllie.images import decode, encode

STACK = np.stack([GREY, 255 - GREY, GREY // 2, GREY // 3])
DESCRIPTION, ARTIST, COPYRIGHT = 270, 315, 33432
TEXT = "Nächtliche Straße, 夜の道 — ©".encode()


def error_of(data, **options):
    with pytest.raises(ImageError) as caught:
        decode(data, **options)
    return caught.value.error_type


def rewritten(data, changes):
    """A little-endian TIFF with other entries in its first directory: (type, count, value or place) by tag."""
    file = bytearray(data)
    (start,) = struct.unpack_from("<I", file, 4)
    (count,) = struct.unpack_from("<H", file, start)
    entries = {}
    for place in range(start + 2, start + 2 + 12 * count, 12):
        tag, *entry = struct.unpack_from("<HHII", file, place)
        entries[tag] = entry
    for tag, entry in changes.items():
        if entry is None:
            entries.pop(tag, None)
        else:
            entries[tag] = entry
    struct.pack_into("<I", file, 4, len(file))
    directory = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(entries.items()))
    return bytes(file) + struct.pack("<H", len(entries)) + directory + bytes(4)


def imagej(**options):
    return tiff(STACK, imagej=True, **options)


def first_only(description):
    """The four pictures of the stack behind each other, in one directory with a description."""
    return tiff(STACK, metadata=None, description=description, truncate=True, photometric="minisblack")


OME = b'<?xml version="1.0"?><OME><Image><Pixels SizeX="83" SizeY="61" SizeZ="2" SizeC="1" SizeT="2"/></Image></OME>'


@pytest.mark.parametrize(
    "data",
    [
        tiff(STACK, photometric="minisblack"),
        imagej(),
        imagej(metadata={"axes": "ZYX"}),
        imagej(byteorder="<"),
        tiff(np.stack([RGB, RGB]), imagej=True),
        tiff(deep(STACK), imagej=True),
        tiff(STACK, photometric="minisblack", truncate=True),
        first_only("shape=(4,61,83)"),
        first_only(OME.decode()),
        rewritten(first_only("MetaMorph"), {33629: (5, 4, 0)}),
        rewritten(first_only(""), {32997: (4, 1, 4)}),
    ],
)
def test_several_pictures_are_refused_however_they_are_kept(data):
    assert error_of(data) == "multi_frame"


@pytest.mark.parametrize(
    "description",
    [
        "ImageJ=1.54f\nimages=4\nslices=4\n",
        '{"shape": [4, 61, 83]}',
        OME.decode(),
        "ImageJ=1.54f\n",
        '{"shape": [61, 83]}',
    ],
)
def test_a_description_that_outlived_its_stack_does_no_harm(description):
    np.testing.assert_array_equal(decode(tiff(GREY, metadata=None, description=description)).pixels, GREY)


def with_sub_directory(first, second, first_kind=0, second_kind=0):
    file = io.BytesIO()
    with tifffile.TiffWriter(file) as writer:
        writer.write(first, photometric="rgb", subifds=1, subfiletype=first_kind)
        writer.write(second, photometric="rgb", subfiletype=second_kind)
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "error_type"),
    [
        (with_sub_directory(RGB[::4, ::4], RGB, first_kind=1), "unsupported"),
        (with_sub_directory(RGB[::4, ::4], RGB), "multi_frame"),
        (with_sub_directory(RGB[::4, ::4], RGB, second_kind=1), "unsupported"),
        (tiff(RGB, photometric="rgb", extratags=[(50706, 1, 4, b"\1\4\0\0")]), "unsupported"),
    ],
)
def test_the_preview_of_another_picture_is_no_image(data, error_type):
    assert error_of(data) == error_type


def test_smaller_copies_in_sub_directories_do_no_harm():
    np.testing.assert_array_equal(decode(with_sub_directory(RGB, RGB[::4, ::4], second_kind=1)).pixels, RGB)


@pytest.mark.parametrize("order", ["<", ">"])
def test_text_keeps_its_bytes(order):
    extra = [
        (ARTIST, "s", 0, TEXT, True),
        (COPYRIGHT, "s", 0, b"\xa9 caf\xe9", True),
        (65001, "s", 0, b"\xff\xfe", True),
    ]
    data = tiff(RGB, **SIDE_BY_SIDE, byteorder=order, metadata=None, description=TEXT, extratags=extra)
    for how in ("keep", "apply"):
        image = decode(data, exif_orientation=how)
        encoded = encode(image, image.pixels)
        for text in (TEXT, b"\xa9 caf\xe9", b"\xff\xfe"):
            assert text + b"\0" in encoded
        for target in ("jpeg", "png", "webp"):
            other = encode(image, image.pixels, format=target)
            assert TEXT in other
            assert b"\xa9 caf\xe9" in other


@pytest.mark.parametrize("target", ["tiff", "jpeg", "png", "webp"])
def test_text_of_the_utf8_type_is_carried(target):
    """Type 129, of EXIF 3.0."""
    data = bytearray(tiff(RGB, **SIDE_BY_SIDE, metadata=None, extratags=[(ARTIST, "s", 0, TEXT, True)]))
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        struct.pack_into("<H", data, file.pages.first.tags[ARTIST].offset + 2, 129)
    image = decode(bytes(data))
    assert TEXT in encode(image, image.pixels, format=target)


MAP = {
    33550: (0.5, 0.5, 0.0),
    33922: (0.0, 0.0, 0.0, 350807.4, 5316081.3, 0.0),
    34264: tuple(map(float, range(16))),
    34735: (1, 1, 0, 1, 1024, 0, 1, 1),
    34736: (6378137.0, 298.25),
    34737: b"WGS 84|",
    42112: '<GDALMetadata><Item name="Ort">Köln</Item></GDALMetadata>'.encode(),
    42113: b"-9999",
}
TYPES = {33550: 12, 33922: 12, 34264: 12, 34735: 3, 34736: 12}


@pytest.mark.parametrize("order", ["<", ">"])
def test_tags_of_maps_are_carried(order):
    extra = [
        (tag, TYPES.get(tag, "s"), 0 if isinstance(value, bytes) else len(value), value, True)
        for tag, value in MAP.items()
    ]
    image = decode(tiff(RGB, **SIDE_BY_SIDE, byteorder=order, metadata=None, extratags=extra))
    with tifffile.TiffFile(io.BytesIO(encode(image, image.pixels))) as file:
        tags = file.pages.first.tags
        for tag, value in MAP.items():
            stored = tags[tag].value
            assert (stored.encode() if isinstance(stored, str) else stored) == value
    # They would crowd the camera's tags out of the 64 KiB of a JPEG.
    assert b"GDALMetadata" not in encode(image, image.pixels, format="jpeg")


def test_nested_tags_survive_in_both_byte_orders():
    tags = Image.Exif()
    tags.load(exif_block())
    data = pillow(RGB, "TIFF", exif=tags)
    image = decode(data, exif_orientation="apply")
    opened = Image.open(io.BytesIO(encode(image, image.pixels)))
    assert float(opened.getexif().get_ifd(34665)[33434]) == 0.25
    assert (opened.getexif().get_ifd(34665)[40962], opened.getexif().get_ifd(34665)[40963]) == (60, 84)
    assert opened.getexif().get_ifd(34853)[1] == "N"


def test_a_nested_directory_that_points_to_itself():
    data = tiff(RGB, **SIDE_BY_SIDE, metadata=None)
    for tag in (34665, 34853):
        looped = rewritten(data, {tag: (4, 1, len(data))})
        np.testing.assert_array_equal(decode(looped).pixels, RGB)
        assert len(encode(decode(looped), RGB)) < 2 * len(data)


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"])
@pytest.mark.parametrize("kind", [None, "too large", "absent"])
def test_byte_counts_that_lie_do_no_harm(compression, kind):
    data = pillow(RGB, "TIFF", compression=compression) if compression else tiff(RGB, **SIDE_BY_SIDE, metadata=None)
    change = {None: {}, "too large": {279: (4, 1, 1 << 24)}, "absent": {279: None}}[kind]
    np.testing.assert_array_equal(decode(rewritten(data, change)).pixels, RGB)


def test_byte_counts_of_a_jpeg_may_be_too_large():
    data = pillow(RGB, "TIFF", compression="jpeg", quality=100)
    expected = decode(data).pixels
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        start, size = file.pages.first.dataoffsets[0], file.pages.first.databytecounts[0]
    strip = data[start : start + size]
    large = rewritten(data + strip, {273: (4, 1, len(data)), 279: (4, 1, 1 << 24)})
    np.testing.assert_array_equal(decode(large).pixels, expected)
    cut = rewritten(data + strip[: size // 2], {273: (4, 1, len(data)), 279: (4, 1, size)})
    assert error_of(cut) == "truncated"


def test_byte_counts_too_large_hide_no_missing_end():
    plain = rewritten(tiff(RGB, **SIDE_BY_SIDE, metadata=None), {278: (4, 1, 200), 257: (4, 1, 200)})
    assert error_of(plain) == "truncated"
    data = pillow(RGB, "TIFF", compression="tiff_lzw")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        start, size = file.pages.first.dataoffsets[0], file.pages.first.databytecounts[0]
    half = data[start : start + size // 2]
    assert error_of(rewritten(data + half, {273: (4, 1, len(data)), 279: (4, 1, size)})) == "truncated"


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": "zlib", "predictor": True},
        {"compression": "zlib", "tile": (32, 48)},
        {"tile": (16, 16)},
        {"compression": "zlib", "predictor": True, "tile": (32, 48)},
    ],
)
@pytest.mark.parametrize("array", [with_alpha(GREY), deep(with_alpha(GREY))], ids=["8", "16"])
def test_grey_with_alpha_in_every_arrangement(array, options, order):
    image = decode(
        tiff(
            array,
            byteorder=order,
            planarconfig="contig",
            photometric="minisblack",
            extrasamples=["unassalpha"],
            **options,
        )
    )
    assert image.mode == "LA"
    np.testing.assert_array_equal(np.dstack((image.pixels, image.alpha)), array)


@pytest.mark.parametrize("options", [{}, {"compression": "zlib", "predictor": True}, {"tile": (32, 48)}])
@pytest.mark.parametrize("array", [with_alpha(RGB), deep(with_alpha(RGB))], ids=["8", "16"])
def test_planes_in_every_arrangement(array, options):
    image = decode(
        tiff(planes(array), photometric="rgb", planarconfig="separate", extrasamples=["unassalpha"], **options)
    )
    np.testing.assert_array_equal(np.dstack((image.pixels, image.alpha)), array)


def test_alpha_of_white_is_zero_is_not_inverted():
    array = with_alpha(GREY)
    image = decode(
        tiff(
            np.dstack((255 - GREY, array[..., 1])),
            photometric="miniswhite",
            planarconfig="contig",
            extrasamples=["unassalpha"],
        )
    )
    np.testing.assert_array_equal(np.dstack((image.pixels, image.alpha)), array)


@pytest.mark.parametrize(
    ("data", "error_type"),
    [
        (
            rewritten(pillow(GREY, "TIFF", "1"), {277: (3, 1, 2), 258: (3, 2, 1 | 1 << 16), 338: (3, 1, 0)}),
            "unsupported",
        ),
        (rewritten(tiff(GREY, metadata=None), {277: (3, 1, 60000)}), "unsupported"),
        (rewritten(tiff(RGB, **SIDE_BY_SIDE, metadata=None), {277: (3, 1, 5)}), "unsupported"),
        (rewritten(pillow(PALETTE, "TIFF"), {257: (4, 1, 500)}), "corrupt"),
        (tiff(GREY.astype(np.int8)), "unsupported"),
    ],
)
def test_layouts_that_are_not_handled(data, error_type):
    assert error_of(data) == error_type


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("options", [{"tile": (16, 16)}, {"rowsperstrip": 8}])
def test_strips_and_tiles_that_are_left_out_are_no_pixels(compression, options):
    """GDAL's sparse files: the place of such a tile is 0, where the header of the file lies."""
    data = bytearray(tiff(RGB, **SIDE_BY_SIDE, metadata=None, compression=compression, **options))
    with tifffile.TiffFile(io.BytesIO(bytes(data))) as file:
        tag = file.pages.first.tags[324 if "tile" in options else 273]
    struct.pack_into("<I", data, tag.valueoffset, 0)
    assert error_of(bytes(data)) == "unsupported"


@pytest.mark.parametrize("array", [GREY, deep(GREY)], ids=["8", "16"])
@pytest.mark.parametrize("compression", [34712, 34887, 34933, 50001, 50002, 65000])
def test_unknown_compressions_are_named_as_such(array, compression):
    assert error_of(rewritten(tiff(array, metadata=None), {259: (3, 1, compression)})) == "unsupported"


@pytest.mark.parametrize("compression", ["zstd", "lzma"])
def test_compressions_of_8_bits_only(compression):
    data = pillow(RGB, "TIFF", compression=compression)
    np.testing.assert_array_equal(decode(data).pixels, RGB)
    code = {"zstd": 50000, "lzma": 34925}[compression]
    assert error_of(rewritten(tiff(deep(RGB), **SIDE_BY_SIDE), {259: (3, 1, code)})) == "unsupported"


@pytest.mark.parametrize("levels", [1, 257])
def test_palettes_of_8_and_of_16_bits(levels):
    colours = np.array(PALETTE.getpalette(), np.uint16)
    palette = np.zeros((256, 3), np.uint16)
    palette[: len(colours) // 3] = colours.reshape(-1, 3) * levels
    data = tiff(np.array(PALETTE), photometric="palette", colormap=palette.T)
    np.testing.assert_array_equal(decode(data).pixels, np.array(PALETTE.convert("RGB")))


def test_no_limit_but_that_of_the_caller():
    data = pillow(RGB, "TIFF")
    assert error_of(data, max_pixels=61 * 83 - 1) == "too_large"
    decode(data, max_pixels=1 << 40)
