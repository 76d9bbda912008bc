"""Metadata: what stands around the pixels arrives in the output, byte for byte where the format is the same."""

import io
import struct

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageCms, JpegImagePlugin, PngImagePlugin
from skimage import data

from sgllie.images import decode, encode, exif
from sgllie.images.jpeg import ICC_PREFIX

# Damaged tags make Pillow warn. The library silences that, pytest shows it again.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")

RGB = np.ascontiguousarray(data.astronaut()[100:160, 150:234])
GREY = np.ascontiguousarray(data.camera()[100:160, 150:234])
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GREY_ICC = ICC[:16] + b"GRAY" + ICC[20:]
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" dc:title="night"/></x:xmpmeta>'
ORIENTATION, MAKE, EXPOSURE_TIME, GPS, EXIF_DIRECTORY = 274, 271, 33434, 34853, 34665


def exif_block(order="<", orientation=6):
    """An EXIF block with Make, Orientation, resolution, exposure time and position, as Pillow writes it."""
    tags = Image.Exif()
    tags.endian = order
    tags[MAKE], tags[ORIENTATION] = "Camera", orientation
    tags[282], tags[283], tags[296] = 240.0, 120.0, 2
    tags.get_ifd(EXIF_DIRECTORY).update({EXPOSURE_TIME: 0.25, 40962: 84, 40963: 60})
    tags.get_ifd(GPS).update({1: "N", 2: (52.0, 31.0, 0.0)})
    return tags.tobytes()


def with_thumbnail(block):
    """The same block, followed by a directory of a thumbnail."""
    tiff = bytearray(block[6:])
    order, _, link = exif._directory(tiff)
    thumbnail = struct.pack(f"{order}HHHIII", 1, 513, 4, 1, len(tiff), 0)
    struct.pack_into(f"{order}I", tiff, link, len(tiff))
    return b"Exif\0\0" + bytes(tiff) + thumbnail


def saved(array, format, **options):
    file = io.BytesIO()
    Image.fromarray(array).save(file, format, **options)
    return file.getvalue()


def output(data, format="same", **options):
    """The file through decode and encode, and as Pillow sees it."""
    image = decode(data, **options)
    encoded = encode(image, image.pixels, format=format)
    opened = Image.open(io.BytesIO(encoded))
    return encoded, opened


def tags_of(opened):
    """The tags that the tests set, nested ones included."""
    tags = opened.getexif()
    nested = tags.get_ifd(EXIF_DIRECTORY), tags.get_ifd(GPS)
    return tags.get(MAKE), float(nested[0].get(EXPOSURE_TIME, 0)), nested[1].get(1), nested[1].get(2)


TAGS = ("Camera", 0.25, "N", (52.0, 31.0, 0.0))
JPEG = saved(RGB, "JPEG", exif=exif_block(), icc_profile=ICC, xmp=XMP, dpi=(300, 150), comment=b"dark")
WEBP = saved(RGB, "WEBP", exif=exif_block(), icc_profile=ICC, xmp=XMP)


def png_file():
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "nobody")
    text.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
    text.add(b"gAMA", struct.pack(">I", 45455))
    text.add(b"tIME", bytes(7))
    return saved(RGB, "PNG", exif=exif_block(), icc_profile=ICC, dpi=(300, 150), pnginfo=text)


def tiff_file():
    tags = Image.Exif()
    tags.load(exif_block())
    tags[700], tags[33723] = XMP, b"iptc data"
    return saved(RGB, "TIFF", exif=tags, icc_profile=ICC, dpi=(300, 150))


FILES = {"jpeg": JPEG, "png": png_file(), "webp": WEBP, "tiff": tiff_file()}


@pytest.mark.parametrize("source", FILES)
@pytest.mark.parametrize("target", ["same", "jpeg", "png", "webp"])
def test_profile_exif_xmp_and_resolution_reach_every_format(source, target):
    _, opened = output(FILES[source], target)
    assert opened.info["icc_profile"] == ICC
    assert tags_of(opened) == TAGS
    xmp = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp")
    assert (xmp.encode() if isinstance(xmp, str) else xmp) == XMP
    if opened.format != "WEBP":
        expected = (240, 120) if source == "webp" else (300, 150)
        if (source, target) == ("webp", "jpeg"):
            return  # the resolution stands in EXIF, which JPEG holds as well
        assert opened.info["dpi"] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("source", FILES)
def test_orientation_is_kept_or_set_to_one_everywhere(source):
    for target in ("same", "jpeg", "png", "webp"):
        for how, tag in (("keep", 6), ("apply", 1)):
            encoded, opened = output(FILES[source], target, exif_orientation=how)
            tags = opened.tag_v2 if opened.format == "TIFF" else opened.getexif()
            assert tags[ORIENTATION] == tag
            assert decode(encoded).pixels.shape == ((60, 84, 3) if how == "keep" else (84, 60, 3))
            xmp = opened.info.get("xmp") or opened.info.get("XML:com.adobe.xmp").encode()
            assert (b'tiff:Orientation="%d"' % tag) in xmp


def test_orientation_in_xmp_alone_turns_no_pixel():
    tags = Image.Exif()
    tags[700] = XMP
    tiff = saved(RGB, "TIFF", exif=tags)
    for how in ("keep", "apply"):
        np.testing.assert_array_equal(decode(tiff, exif_orientation=how).pixels, RGB)


def test_chroma_subsampling_turns_with_the_pixels():
    source = saved(RGB, "JPEG", exif=exif_block(), subsampling="4:2:2")
    for how, factors in (("keep", (2, 1)), ("apply", (1, 2))):
        _, opened = output(source, exif_orientation=how)
        assert opened.layer[0][1:3] == factors


def test_jpeg_segments_are_carried_byte_for_byte():
    source, result = (JpegImagePlugin.JpegImageFile(io.BytesIO(file)) for file in (JPEG, output(JPEG)[0]))
    assert result.applist == source.applist
    assert result.info["comment"] == b"dark"


def test_large_profiles_span_segments():
    icc = ICC + np.random.default_rng(0).bytes(200_000)
    for source in (saved(RGB, "JPEG", icc_profile=icc), saved(RGB, "PNG", icc_profile=icc)):
        assert output(source, "jpeg")[1].info["icc_profile"] == icc
        assert output(source, "png")[1].info["icc_profile"] == icc


def test_a_profile_of_which_a_part_is_missing_is_left_out():
    data = saved(RGB, "JPEG", icc_profile=ICC + bytes(150_000))
    assert data.count(ICC_PREFIX) == 3
    start = data.rindex(ICC_PREFIX) - 4
    end = start + 2 + int.from_bytes(data[start + 2 : start + 4])
    image = decode(data[:start] + data[end:])
    assert image.metadata.icc is None
    for target in ("png", "webp"):
        assert "icc_profile" not in Image.open(io.BytesIO(encode(image, image.pixels, format=target))).info


def test_png_chunks_are_carried_byte_for_byte():
    def chunks(file):
        start, found = 8, {}
        while start < len(file):
            (length,) = struct.unpack_from(">I", file, start)
            found[file[start + 4 : start + 8]] = file[start : start + 12 + length]
            start += 12 + length
        return found

    source, result = chunks(FILES["png"]), chunks(output(FILES["png"])[0])
    for kind in (b"iCCP", b"eXIf", b"pHYs", b"tEXt", b"iTXt", b"gAMA"):
        assert result[kind] == source[kind]
    assert b"tIME" not in result  # the time of the last change of the old pixels


def test_tiff_keeps_its_other_tags():
    tags = output(FILES["tiff"])[1].tag_v2
    assert tags[33723] == b"iptc data"
    assert tags[34675] == ICC


def test_resolution_of_bmp_and_of_webp():
    bmp = saved(RGB, "BMP", dpi=(300, 150))
    for target in ("same", "jpeg", "png"):
        assert output(bmp, target)[1].info["dpi"] == pytest.approx((300, 150), abs=0.05)
    tags = output(bmp, "webp")[1].getexif()
    assert (float(tags[282]), float(tags[283]), tags[296]) == pytest.approx((300, 150, 2), abs=0.05)


@pytest.mark.parametrize("target", ["same", "jpeg", "png", "webp"])
def test_absurd_resolutions_do_no_harm(target):
    bmp = bytearray(saved(RGB, "BMP"))
    struct.pack_into("<ii", bmp, 38, 2**31 - 1, 2**31 - 1)
    assert output(bytes(bmp), target)[1].size == (84, 60)


def test_profiles_of_other_colour_models_are_left_out():
    grey = saved(GREY, "PNG", icc_profile=GREY_ICC)
    assert output(grey)[1].info["icc_profile"] == GREY_ICC
    assert output(grey, "jpeg")[1].info["icc_profile"] == GREY_ICC
    assert "icc_profile" not in output(grey, "webp")[1].info


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_is_patched_in_place(order):
    block = exif_block(order)
    source = saved(RGB, "JPEG", exif=block)
    assert output(source)[1].info["exif"] == block
    turned = output(source, exif_orientation="apply")[1].info["exif"]
    assert len(turned) == len(block)
    tags = Image.Exif()
    tags.load(turned)
    assert tags[ORIENTATION] == 1
    assert (tags.get_ifd(EXIF_DIRECTORY)[40962], tags.get_ifd(EXIF_DIRECTORY)[40963]) == (60, 84)
    assert exif.resolution(block[6:]) == (240, 120)


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_thumbnail_is_unlinked(order):
    block = with_thumbnail(exif_block(order))
    tags = Image.Exif()
    tags.load(block)
    assert tags.get_ifd(ExifTags.IFD.IFD1)
    _, opened = output(saved(RGB, "JPEG", exif=block))
    assert not opened.getexif().get_ifd(ExifTags.IFD.IFD1)
    assert tags_of(opened) == TAGS


@pytest.mark.parametrize("block", [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\0\x09", b"nonsense" * 9])
def test_damaged_exif_is_carried_as_it_is(block):
    assert exif.orientation(block) == 1
    assert exif.refreshed(block, upright=True) == block
    source = JPEG[:2] + b"\xff\xe1" + struct.pack(">H", 8 + len(block)) + b"Exif\0\0" + block + JPEG[20:]
    for how in ("keep", "apply"):
        encoded, _ = output(source, exif_orientation=how)
        assert b"Exif\0\0" + block in encoded


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_nonsense_orientations_turn_nothing(value):
    source = saved(RGB, "JPEG", exif=exif_block(orientation=value))
    assert decode(source, exif_orientation="apply").pixels.shape == RGB.shape


def cmyk_profile():
    """A profile in which ink c, m, y, k gives the lightness of 1 - k and no colour at all."""
    table = b"".join(bytes((0 if corner & 1 else 255, 128, 128)) for corner in range(16))
    ramp = bytes(range(256))
    matrix = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    lut = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + matrix + ramp * 4 + table + ramp * 3
    lut += bytes(-len(lut) % 4)
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    text = b"text" + bytes(4) + b"none\0\0\0\0"
    start = 128 + 4 + 12 * 3
    tags, body = b"", b""
    for name, content in ((b"A2B0", lut), (b"wtpt", white), (b"cprt", text)):
        tags += name + struct.pack(">II", start + len(body), len(content))
        body += content
    header = struct.pack(
        ">I4sI4s4s4s12x4s4x24x", start + len(body), b"lcms", 0x02400000, b"prtr", b"CMYK", b"Lab ", b"acsp"
    )
    header = header.ljust(68, b"\0") + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + struct.pack(">I", 3) + tags + body


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_goes_through_its_profile_and_loses_it(format):
    ink = np.zeros((60, 84, 4), np.uint8)
    ink[..., 0] = 200
    ink[:, 42:, 3] = 255
    options = {"quality": 100} if format == "JPEG" else {}
    file = io.BytesIO()
    Image.fromarray(ink, "CMYK").save(file, format, icc_profile=cmyk_profile(), exif=exif_block(), **options)
    image = decode(file.getvalue())
    assert image.mode == "CMYK"
    # By its profile cyan ink is invisible; by the plain formula it would be cyan.
    assert image.pixels[:, :40].min() > 245
    assert image.pixels[:, 44:].max() < 10
    for target in ("same", "png"):
        encoded, opened = output(file.getvalue(), target)
        assert "icc_profile" not in opened.info
        assert opened.mode == "RGB"
        assert tags_of(opened) == TAGS
        assert decode(encoded).pixels.shape == (60, 84, 3)
