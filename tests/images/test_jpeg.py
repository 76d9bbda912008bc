"""JPEG files of every chroma subsampling, and those that keep a decoder busy."""

import io
import struct

import numpy as np
import pytest
from PIL import Image

from image_files import JPEG, RGB, pillow
from sgllie.errors import ImageError
from sgllie.images import decode, encode

LUMA = np.random.default_rng(1).integers(30, 220, (11, 13))
"""The level of each block of 8 x 8 pixels."""


def segment(marker, body):
    return struct.pack(">BBH", 0xFF, marker, 2 + len(body)) + body


def sampled(factors, chroma=(90, 160), height=85, width=100, restarts=0):
    """A baseline JPEG of flat blocks with these sampling factors (across, down) of its components.

    Categories of DC have codes of four bits, the end of a block is a single 0, and the quantiser is 8, so that levels
    are stored exactly.
    """
    across, down = (max(factor[side] for factor in factors) for side in (0, 1))
    parts, bits = [], []
    last = [0] * len(factors)
    for top in range(-(-height // (8 * down))):
        for left in range(-(-width // (8 * across))):
            if restarts and (top * -(-width // (8 * across)) + left) % restarts == 0 and bits:
                parts.append(bits)
                bits, last = [], [0] * len(factors)
            for number, (h, v) in enumerate(factors):
                for y in range(top * v, top * v + v):
                    for x in range(left * h, left * h + h):
                        level = int(LUMA[y % 11, x % 13]) if number == 0 else chroma[number - 1]
                        difference, last[number] = level - 128 - last[number], level - 128
                        size = abs(difference).bit_length()
                        value = difference if difference > 0 else difference + (1 << size) - 1
                        bits.append(f"{size:04b}" + (f"{value:0{size}b}" if size else "") + "0")
    data = b""
    for number, part in enumerate((*parts, bits)):
        stream = "".join(part)
        stream += "1" * (-len(stream) % 8)
        data += bytes((0xFF, 0xD0 + (number - 1) % 8)) if number else b""
        data += int(stream, 2).to_bytes(len(stream) // 8).replace(b"\xff", b"\xff\0")
    frame = struct.pack(">BHHB", 8, height, width, len(factors))
    frame += b"".join(bytes((number, h << 4 | v, 0)) for number, (h, v) in enumerate(factors, 1))
    scan = bytes((len(factors), *(byte for number in range(1, len(factors) + 1) for byte in (number, 0)), 0, 63, 0))
    tables = segment(0xDB, b"\0" + bytes([8] * 64))
    tables += segment(0xC4, bytes((0, 0, 0, 0, 9, *[0] * 12, *range(9))))
    tables += segment(0xC4, bytes((0x10, 1, *[0] * 15, 0)))
    tables += segment(0xDD, struct.pack(">H", restarts)) if restarts else b""
    jfif = segment(0xE0, b"JFIF\0\1\1\0\0\1\0\1\0\0") if len(factors) == 3 else b""
    return b"\xff\xd8" + jfif + tables + segment(0xC0, frame) + segment(0xDA, scan) + data + b"\xff\xd9"


ONE = (1, 1)
UNUSUAL = [
    [(3, 1), ONE, ONE],
    [(4, 1), ONE, ONE],
    [(1, 3), ONE, ONE],
    [(1, 4), ONE, ONE],
    [(3, 2), ONE, ONE],
    [(2, 3), ONE, ONE],
    [(4, 2), ONE, ONE],
    [(2, 4), ONE, ONE],
    [(2, 2), (2, 1), ONE],
    [(2, 2), ONE, (2, 1)],
    [(2, 2), (1, 2), (2, 1)],
    [(2, 1), ONE, (2, 1)],
    [(2, 2), (1, 2), (1, 2)],
    [ONE, (2, 2), (2, 2)],
]


def luma_of(factors, height=85, width=100):
    """The luma of each pixel."""
    h, v = factors[0]
    across, down = (max(factor[side] for factor in factors) for side in (0, 1))
    blocks = LUMA[np.arange(40) % 11][:, np.arange(40) % 13]
    return blocks.repeat(8 * down // v, axis=0).repeat(8 * across // h, axis=1)[:height, :width]


@pytest.mark.parametrize("factors", UNUSUAL)
def test_every_subsampling_is_read(factors):
    image = decode(sampled(factors))
    red, blue = 1.402 * (160 - 128), 1.772 * (90 - 128)
    green = -0.344136 * (90 - 128) - 0.714136 * (160 - 128)
    expected = luma_of(factors)[..., None] + np.array([red, green, blue])
    sharp = (factors[0][0], factors[0][1]) == tuple(max(f[side] for f in factors) for side in (0, 1))
    if sharp:  # chroma is flat; luma that is itself spread over more pixels is smoothed
        assert np.abs(image.pixels - np.clip(expected, 0, 255)).max() <= 1.6
    again = Image.open(io.BytesIO(encode(image, image.pixels)))
    assert (again.size, again.mode) == ((100, 85), "RGB")


def test_restarts_in_an_unusual_subsampling():
    with Image.open(io.BytesIO(sampled(UNUSUAL[0]))) as opened:
        expected = np.array(opened)
    data = sampled(UNUSUAL[0], restarts=3)
    np.testing.assert_array_equal(decode(data).pixels, expected)
    place = data.index(b"\xff\xd3")
    with pytest.raises(ImageError, match="damaged"):
        decode(data[: place - 6] + data[place:])


@pytest.mark.parametrize("factors", UNUSUAL)
@pytest.mark.parametrize("damage", ["missing", "surplus"])
def test_damage_is_found_in_every_subsampling(factors, damage):
    data = sampled(factors)
    middle = data.index(b"\xff\xda") + 60
    damaged = {
        "missing": data[:middle] + data[middle + 40 :],
        "surplus": data[:-2] + data[middle : middle + 40] + data[-2:],
    }
    with pytest.raises(ImageError) as caught:
        decode(damaged[damage])
    assert caught.value.error_type == "corrupt"


@pytest.mark.parametrize("factors", [[(2, 2), ONE, ONE, ONE], [(2, 1), ONE, ONE, ONE], [(3, 1), ONE, ONE, (3, 1)]])
def test_ink_of_every_subsampling(factors):
    image = decode(sampled(factors, chroma=(90, 160, 200)))
    assert (image.mode, image.pixels.shape) == ("CMYK", (85, 100, 3))


def test_fractions_of_samples_say_that_they_are_not_handled():
    with pytest.raises(ImageError) as caught:
        decode(sampled([(3, 1), (2, 1), ONE]))
    assert caught.value.error_type == "unsupported"


def repeated(times):
    """A progressive JPEG whose last scan comes so many times more."""
    data = pillow(RGB, "JPEG", progressive=True)
    start, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[start:end] * times + data[end:]


def test_a_thousand_scans_are_refused():
    with pytest.raises(ImageError, match="scans") as caught:
        decode(repeated(1000))
    assert caught.value.error_type == "unsupported"


@pytest.mark.parametrize("data", [JPEG, pillow(RGB, "JPEG", progressive=True)])
def test_scans_behind_the_end_do_not_count(data):
    np.testing.assert_array_equal(decode(data + b"\xff\xda\0\2" * 1000).pixels, decode(data).pixels)


def test_damage_behind_an_odd_header_is_found():
    odd = JPEG.replace(b"JFIF\0\1", b"JFIF\0\7", 1)
    middle = len(odd) // 2
    with pytest.raises(ImageError, match="damaged"):
        decode(odd[:middle] + odd[middle + 100 :])
