"""BMP files of every header, mask and compression: right colours, or a sentence; never wrong colours."""

import io
import struct
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageCms

from image_files import ALPHA, BILEVEL, BILEVEL_GREY, GREY, RGB, pillow
from sgllie.errors import ImageError
from sgllie.images import decode, encode

HEIGHT, WIDTH = 61, 83
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LEVELS = np.arange(256, dtype=np.uint8)
BGR0 = np.dstack((*np.moveaxis(RGB[..., ::-1], -1, 0), np.zeros_like(GREY)))
X8, X8_SWAPPED, LAST_BYTES = (0xFF0000, 0xFF00, 0xFF), (0xFF, 0xFF00, 0xFF0000), (0xFF000000, 0xFF0000, 0xFF00)


def bmp(rows, bits, *, header=40, compression=0, masks=(), palette=b"", down=False, colours=0):
    """A BMP of rows (H x bytes, from above) as they are stored; masks go to their place, or behind a short header."""
    rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4))) if rows.ndim == 2 else rows
    stored = rows.tobytes() if down or rows.ndim == 1 else rows[::-1].tobytes()
    if header == 12:
        fields = struct.pack("<HHHH", WIDTH, HEIGHT, 1, bits)
    else:
        height = -HEIGHT if down else HEIGHT
        fields = struct.pack("<iiHHIIiiII", WIDTH, height, 1, bits, compression, 0, 2835, 2835, colours, 0)
    fields += struct.pack(f"<{len(masks)}I", *masks)
    fields = fields[: header - 4] if header < 40 else fields.ljust(header - 4, b"\0")
    start = 14 + 4 + len(fields) + len(palette)
    head = struct.pack("<2sIIII", b"BM", start + len(stored), 0, start, header)
    return head + fields + palette + stored


def masked(pixels, masks, bits, alpha=None):
    """Pixels (H x W x 3) scaled to the bits of each mask and put there, as rows of bytes."""
    channels = [*np.moveaxis(pixels, -1, 0), *([] if alpha is None else [alpha])]
    packed = np.zeros(pixels.shape[:2], np.uint32)
    for channel, mask in zip(channels, masks, strict=True):
        highest = (1 << mask.bit_count()) - 1
        level = np.rint(channel / 255 * highest).astype(np.uint32)
        packed |= level << np.uint32((mask & -mask).bit_length() - 1)
    return packed.astype("<u2" if bits == 16 else "<u4").view(np.uint8).reshape(len(pixels), -1)


@pytest.mark.parametrize("header", [40, 52, 56, 64, 108, 124])
@pytest.mark.parametrize(
    ("masks", "bits", "off"),
    [
        (X8, 32, 0),
        (X8_SWAPPED, 32, 0),
        (LAST_BYTES, 32, 0),
        ((0x3FF00000, 0xFFC00, 0x3FF), 32, 0),
        ((0x3FF, 0xFFC00, 0x3FF00000), 32, 0),
        ((0xF800, 0x7E0, 0x1F), 16, 4),
        ((0x7C00, 0x3E0, 0x1F), 16, 4),
        ((0x1F, 0x3E0, 0x7C00), 16, 4),
        ((0xF00, 0xF0, 0xF), 16, 9),
        ((0xE0, 0x1C, 0x3), 16, 43),
    ],
)
def test_masks_of_every_header_give_the_colours(header, masks, bits, off):
    image = decode(bmp(masked(RGB, masks, bits), bits, header=header, compression=3, masks=masks))
    assert (image.mode, image.alpha) == ("RGB", None)
    assert np.abs(image.pixels.astype(int) - RGB).max() <= off
    again = decode(encode(image, image.pixels))
    assert again.alpha is None
    np.testing.assert_array_equal(again.pixels, image.pixels)


@pytest.mark.parametrize("header", [56, 108, 124])
@pytest.mark.parametrize(
    ("masks", "bits", "off"),
    [((*X8, 0xFF000000), 32, 0), ((*LAST_BYTES, 0xFF), 32, 0), ((0xF00, 0xF0, 0xF, 0xF000), 16, 9)],
)
def test_an_alpha_mask_gives_alpha(header, masks, bits, off):
    rows = masked(RGB, masks, bits, ALPHA)
    image = decode(bmp(rows, bits, header=header, compression=3, masks=masks))
    assert image.mode == "RGBA"
    assert np.abs(image.alpha.astype(int) - ALPHA).max() <= off
    assert np.abs(image.pixels.astype(int) - RGB).max() <= off
    short = decode(bmp(rows, bits, header=40, compression=6, masks=masks))
    np.testing.assert_array_equal(short.alpha, image.alpha)


@pytest.mark.parametrize("padding", [0, 77, 255])
@pytest.mark.parametrize(
    "options",
    [
        {"header": 16},
        {"header": 40},
        {"header": 40, "down": True},
        {"header": 124},
        {"header": 40, "compression": 3, "masks": X8},
        {"header": 52, "compression": 3, "masks": X8},
    ],
)
def test_padding_never_becomes_alpha(padding, options):
    rows = (BGR0 + np.uint8([0, 0, 0, padding])).reshape(HEIGHT, -1)
    image = decode(bmp(rows, 32, **options))
    assert image.alpha is None
    np.testing.assert_array_equal(image.pixels, RGB)


def test_alpha_of_nothing_but_zeros_is_padding():
    masks = (*X8, 0xFF000000)
    image = decode(bmp(BGR0.reshape(HEIGHT, -1), 32, header=108, compression=3, masks=masks))
    assert (image.mode, image.alpha) == ("RGB", None)
    np.testing.assert_array_equal(image.pixels, RGB)


@pytest.mark.parametrize("header", [12, 16, 40, 64])
@pytest.mark.parametrize("bits", [4, 8, 16, 24])
def test_os2_headers_are_read_in_colour(header, bits):
    entry = 3 if header == 12 else 4
    if bits <= 8:
        indices = (GREY >> (8 - bits)).astype(np.uint8)
        colours = np.stack((LEVELS, 255 - LEVELS, LEVELS // 2), axis=1)[: 1 << bits]
        rows = indices if bits == 8 else np.pad(indices, ((0, 0), (0, 1)))
        rows = rows if bits == 8 else rows[:, ::2] << 4 | rows[:, 1::2]
        palette, expected = np.pad(colours[:, ::-1], ((0, 0), (0, entry - 3))).tobytes(), colours[indices]
    elif bits == 16:
        rows, palette, expected = masked(RGB, (0x7C00, 0x3E0, 0x1F), 16), b"", RGB
    else:
        rows, palette, expected = RGB[..., ::-1].reshape(HEIGHT, -1), b"", RGB
    image = decode(bmp(rows, bits, header=header, palette=palette))
    assert image.mode == ("P" if bits <= 8 else "RGB")
    assert np.abs(image.pixels.astype(int) - expected).max() <= (4 if bits == 16 else 0)


def test_rows_from_above():
    np.testing.assert_array_equal(decode(bmp(RGB[..., ::-1].reshape(HEIGHT, -1), 24, down=True)).pixels, RGB)
    palette = bytes((0, 0, 0, 0, 255, 255, 255, 0))
    rows = np.packbits(np.array(BILEVEL), axis=1)
    np.testing.assert_array_equal(decode(bmp(rows, 1, palette=palette, down=True)).pixels, BILEVEL_GREY)


GREY_PALETTE = np.repeat(LEVELS, 4).tobytes()


def run_lengths(indices, bits):
    """RLE8 or RLE4: runs, values as they are, a step past the middle row and an end before the uppermost rows."""
    pairs = np.pad(indices, ((0, 0), (0, 1))) if bits == 4 else indices
    stored = bytearray()
    for number, row in enumerate(indices[::-1]):
        if number == 30:
            stored += bytes((0, 2, 0, 1))  # this row stays as it was
            continue
        if number > 50:
            break
        plain = row[:40]
        values = bytes(plain) if bits == 8 else bytes(pairs[::-1][number, 0:40:2] << 4 | pairs[::-1][number, 1:40:2])
        stored += bytes((0, 40)) + values
        for value in row[40:]:
            stored += bytes((1, value if bits == 8 else value << 4))
        stored += bytes((0, 0))
    expected = indices.copy()
    expected[::-1][30] = expected[::-1][51:] = 0
    return np.frombuffer(bytes(stored) + b"\0\1", np.uint8), expected


@pytest.mark.parametrize(("bits", "compression"), [(8, 1), (4, 2)])
def test_run_lengths(bits, compression):
    indices = GREY >> (8 - bits)
    stored, expected = run_lengths(indices, bits)
    scale = 255 // ((1 << bits) - 1)
    palette = np.repeat(np.arange(1 << bits) * scale, 4).astype(np.uint8).tobytes()
    image = decode(bmp(stored, bits, compression=compression, palette=palette))
    np.testing.assert_array_equal(image.pixels, expected * scale)


def test_two_values_of_a_run_take_turns():
    stored = np.frombuffer(bytes((83, 0x1F, 0, 0)) * 61 + b"\0\1", np.uint8)
    palette = np.repeat(np.arange(16) * 17, 4).astype(np.uint8).tobytes()
    pixels = decode(bmp(stored, 4, compression=2, palette=palette)).pixels
    np.testing.assert_array_equal(pixels[0, :5], [17, 255, 17, 255, 17])


@pytest.mark.parametrize(
    ("change", "error_type"),
    [
        (lambda: bmp(BGR0.reshape(HEIGHT, -1), 32, compression=3, masks=(0xFF00FF, 0xFF00, 0xFF)), "unsupported"),
        (lambda: bmp(BGR0.reshape(HEIGHT, -1), 32, compression=3, masks=(0xFF0000, 0, 0xFF)), "unsupported"),
        (lambda: bmp(BGR0.reshape(HEIGHT, -1), 32, compression=3, masks=(0xFF0000, 0x1FF00, 0xFF)), "unsupported"),
        (lambda: bmp(masked(RGB, (0xF00, 0xF0, 0xF), 16), 16, compression=3, masks=X8), "unsupported"),
        (lambda: bmp(GREY, 8, compression=4, palette=GREY_PALETTE), "unsupported"),
        (lambda: bmp(GREY, 1, header=64, compression=3, palette=GREY_PALETTE), "unsupported"),
        (lambda: bmp(BGR0.reshape(HEIGHT, -1), 64), "unsupported"),
        (lambda: bmp(GREY, 8, palette=GREY_PALETTE[:80], colours=20), "corrupt"),
        (lambda: bmp(GREY, 8), "corrupt"),
        (lambda: bmp(np.frombuffer(b"\xff\1\0\1", np.uint8), 8, compression=1, palette=GREY_PALETTE), "corrupt"),
        (lambda: bmp(np.frombuffer(b"\1\1\0\0", np.uint8), 8, compression=1, palette=GREY_PALETTE), "truncated"),
        (lambda: bmp(GREY, 8, palette=GREY_PALETTE)[:10] + b"\x12" + bytes(3) + bmp(GREY, 8)[14:], "corrupt"),
        (lambda: bmp(RGB[..., ::-1].reshape(HEIGHT, -1), 24)[:-1], "truncated"),
    ],
)
def test_what_cannot_be_read_says_so(change, error_type):
    with pytest.raises(ImageError) as caught:
        decode(change())
    assert caught.value.error_type == error_type


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB"])
def test_pillow_agrees(mode):
    file = pillow(RGB, "BMP", mode)
    opened = Image.open(io.BytesIO(file)).convert("L" if mode in "1L" else "RGB")
    np.testing.assert_array_equal(decode(file).pixels, np.array(opened))


def with_profile(icc, **options):
    """A BMP of 24 bits with a profile behind its pixels."""
    data = bytearray(bmp(RGB[..., ::-1].reshape(HEIGHT, -1), 24, header=124))
    data[14 + 56 : 14 + 60] = options.get("kind", b"DEBM")
    struct.pack_into("<II", data, 14 + 112, len(data) - 14, options.get("size", len(icc)))
    return bytes(data) + icc


def profile_of(data):
    """The profile of a BMP, where Microsoft's documentation of BITMAPV5HEADER puts it."""
    assert (struct.unpack_from("<I", data, 14)[0], data[70:74]) == (124, b"DEBM")
    place, size = struct.unpack_from("<II", data, 14 + 112)
    return data[14 + place :][:size]


def test_an_embedded_profile_is_kept():
    image = decode(with_profile(SRGB))
    np.testing.assert_array_equal(image.pixels, RGB)
    encoded = encode(image, image.pixels)
    assert profile_of(encoded) == SRGB
    assert struct.unpack_from("<I", encoded, 2)[0] == len(encoded)
    for read in (lambda data: decode(data).pixels, lambda data: np.array(Image.open(io.BytesIO(data)))):
        np.testing.assert_array_equal(read(encoded), RGB)
    for target in ("png", "webp", "jpeg"):
        assert Image.open(io.BytesIO(encode(image, image.pixels, format=target))).info["icc_profile"] == SRGB


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_an_embedded_profile_is_kept_beside_palette_and_alpha(mode):
    alpha = ALPHA if mode == "RGBA" else None
    pixels = GREY if mode == "L" else RGB
    image = replace(decode(with_profile(SRGB)), pixels=pixels, alpha=alpha)
    encoded = encode(image, pixels)
    again = decode(encoded)
    np.testing.assert_array_equal(again.pixels, pixels)
    assert alpha is None or np.array_equal(again.alpha, alpha)
    assert again.metadata.icc == profile_of(encoded) == SRGB


@pytest.mark.parametrize("options", [{"kind": b"BGRs"}, {"size": 1 << 30}, {"size": 0}])
def test_a_profile_that_is_not_there_does_no_harm(options):
    image = decode(with_profile(SRGB, **options))
    assert image.metadata.icc is None
    np.testing.assert_array_equal(image.pixels, RGB)
