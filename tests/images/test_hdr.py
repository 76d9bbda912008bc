"""Pictures in high dynamic range are refused, wherever they say so; wide gamuts alone are not."""

import struct
import zlib

import numpy as np
import pytest
from PIL import ImageCms
from test_bmp import with_profile

from image_files import RGB, deep, pillow, png, png_chunk
from sgllie.errors import ImageError
from sgllie.images import decode, encode

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(transfer):
    """The profile of sRGB with a tag that tells other transfer characteristics."""
    (count,) = struct.unpack_from(">I", SRGB, 128)
    tags = bytearray(SRGB[132 : 132 + 12 * count])
    for place in range(0, len(tags), 12):
        struct.pack_into(">I", tags, place + 4, struct.unpack_from(">I", tags, place + 4)[0] + 12)
    body = SRGB[132 + 12 * count :]
    length = len(SRGB) + 24
    tags += struct.pack(">4sII", b"cicp", length - 12, 12)
    data = struct.pack(">I", length) + SRGB[4:128] + struct.pack(">I", count + 1) + tags + body
    return data + b"cicp" + bytes((0, 0, 0, 0, 9, transfer, 0, 1))


def cicp(transfer):
    return png_chunk(b"cICP", bytes((9, transfer, 0, 1)))


def iccp(name, icc):
    return png_chunk(b"iCCP", name + b"\0\0" + zlib.compress(icc))


FILES = {
    "PNG, 8 bits": lambda transfer: png(RGB, 2, 8, cicp(transfer)),
    "PNG, 16 bits": lambda transfer: png(deep(RGB), 2, 16, cicp(transfer)),
    "profile of a PNG": lambda transfer: png(RGB, 2, 8, iccp(b"any", profile(transfer))),
    "profile of a JPEG": lambda transfer: pillow(RGB, "JPEG", icc_profile=profile(transfer)),
    "profile of a WebP": lambda transfer: pillow(RGB, "WEBP", icc_profile=profile(transfer)),
    "profile of a BMP": lambda transfer: with_profile(profile(transfer)),
    "profile of a TIFF": lambda transfer: pillow(RGB, "TIFF", icc_profile=profile(transfer)),
}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(("transfer", "told"), [(16, "PQ"), (18, "HLG")])
def test_pq_and_hlg_are_refused(name, transfer, told):
    with pytest.raises(ImageError, match=told) as caught:
        decode(FILES[name](transfer))
    assert caught.value.error_type == "hdr"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("transfer", [1, 8, 13, 14, 17])
def test_other_transfer_characteristics_are_read(name, transfer):
    image = decode(FILES[name](transfer))
    assert image.pixels.shape == RGB.shape
    if name.startswith("PNG"):
        assert cicp(transfer) in encode(image, image.pixels)


@pytest.mark.parametrize("name", [b"ITUR_2100_PQ_FULL", b"ITUR_2100_HLG_FULL"])
def test_names_of_profiles_that_stand_for_hdr(name):
    with pytest.raises(ImageError) as caught:
        decode(png(RGB, 2, 8, iccp(name, SRGB)))
    assert caught.value.error_type == "hdr"


@pytest.mark.parametrize(
    "icc",
    [b"", SRGB[:100], SRGB[:128] + b"\xff" * 4, SRGB[:128] + b"\0\0\0\1cicp\xff\xff\xff\xff\0\0\0\x0c"],
    ids=["empty", "cut off", "too many tags", "a tag beyond the end"],
)
def test_damaged_profiles_do_no_harm(icc):
    np.testing.assert_array_equal(decode(png(RGB, 2, 8, iccp(b"any", icc))).pixels, RGB)
