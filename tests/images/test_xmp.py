"""XMP: what points to data that is not carried goes, everything else keeps its bytes."""

import numpy as np
import pytest
from PIL import Image

from image_files import JPEG, RGB, pillow, png, png_chunk
from sgllie.images import decode, encode, xmp
from sgllie.images.jpeg import XMP_EXTENSION_PREFIX, XMP_PREFIX, segment

CAMERA = "http://ns.google.com/photos/1.0/camera/"
CONTAINER = "http://ns.google.com/photos/1.0/container/"
ITEM = "http://ns.google.com/photos/1.0/container/item/"
GAIN_MAP = "http://ns.adobe.com/hdr-gain-map/1.0/"


def packet(*properties, attributes="", camera="GCamera", space=CAMERA):
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n'
        '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        f'<rdf:Description rdf:about="" xmlns:{camera}="{space}" xmlns:Container="{CONTAINER}" xmlns:Item="{ITEM}"'
        f' xmlns:hdrgm="{GAIN_MAP}" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:a="Straße &gt; \'x\'"{attributes}>'
        f"{''.join(properties)}</rdf:Description></rdf:RDF></x:xmpmeta>\n<?xpacket end='w'?>"
    ).encode()


KEPT = "<dc:title>夜</dc:title>"
VIDEO = (
    "<Container:Directory><rdf:Seq>"
    '<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" Item:Semantic="Primary"/></rdf:li>'
    '<rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="video/mp4" Item:Semantic="MotionPhoto"'
    ' Item:Length="1024"/></rdf:li></rdf:Seq></Container:Directory>'
)
LOST = {
    "attributes": ({"attributes": " GCamera:MotionPhoto=\"1\" GCamera:MotionPhotoVersion = '1'"}, ()),
    "attributes over lines": ({"attributes": '\n  GCamera:MicroVideo="1"\n  GCamera:MicroVideoOffset="1024"\n'}, ()),
    "elements": ({}, ("<GCamera:MotionPhoto>1</GCamera:MotionPhoto>", "<GCamera:MicroVideo>1</GCamera:MicroVideo >")),
    "empty elements": ({}, ('<GCamera:MotionPhoto rdf:resource="a>b"/>',)),
    "another prefix": (
        {"camera": "cam", "attributes": ' cam:MotionPhoto="1"'},
        ("<cam:MicroVideo>1</cam:MicroVideo>",),
    ),
    "container": ({}, (VIDEO,)),
    "container under another prefix": (
        {},
        (
            VIDEO.replace("<Container:Directory", f'<c:Directory xmlns:c="{CONTAINER}"').replace(
                "</Container:Directory", "</c:Directory"
            ),
        ),
    ),
    "gain map": (
        {"attributes": ' hdrgm:Version="1.0"'},
        ("<hdrgm:GainMapMax><rdf:Seq><rdf:li>1</rdf:li></rdf:Seq></hdrgm:GainMapMax>",),
    ),
    "Apple's gain map": (
        {},
        ('<a:HDRGainMapVersion xmlns:a="http://ns.apple.com/HDRGainMap/1.0/">1</a:HDRGainMapVersion>',),
    ),
    **{
        f"video of {maker}": (
            {"attributes": f' v:{name}="1"', "camera": "v", "space": space},
            (f"<v:{name}>1</v:{name}>",),
        )
        for maker, space, name in [
            ("OPPO", "http://ns.oplus.com/photos/1.0/camera/", "OLivePhotoVersion"),
            ("OnePlus", "http://ns.oplus.com/photos/1.0/camera/", "MotionPhotoPrimaryPresentationTimestampUs"),
            ("vivo", "http://ns.vivo.com/photos/1.0/camera/", "VideoLength"),
            ("Xiaomi", "http://ns.xiaomi.com/photos/1.0/camera/", "XMPMeta"),
        ]
    },
    "depth map": ({}, ('<d:Profiles xmlns:d="http://ns.google.com/photos/dd/1.0/device/"><rdf:Seq/></d:Profiles>',)),
}


@pytest.mark.parametrize("name", LOST)
def test_what_points_to_lost_data_goes_and_nothing_else(name):
    options, properties = LOST[name]
    source = packet(KEPT, *properties, KEPT, **options)
    plain = packet(KEPT, KEPT, **{**options, "attributes": ""})
    refreshed = xmp.refreshed(source, upright=False)
    assert refreshed.replace(b"\n>", b">") == plain  # white space before the end of a tag stays


def test_other_properties_of_the_same_camera_stay():
    source = packet(KEPT, "<GCamera:SpecialTypeID>1</GCamera:SpecialTypeID>", attributes=' GCamera:BurstID="7"')
    assert xmp.refreshed(source, upright=False) == source


def test_values_that_look_like_properties_stay():
    source = packet('<dc:x>GCamera:MotionPhoto="1"</dc:x>', attributes=" dc:y=' GCamera:MotionPhoto=\"1\" '")
    assert xmp.refreshed(source, upright=False) == source


@pytest.mark.parametrize(
    "source",
    [
        packet(VIDEO)[:-100],
        packet(VIDEO).replace(b"</Container:Directory>", b""),
        b'<!DOCTYPE x [<!ENTITY a "b">]>' + packet(VIDEO)[packet(VIDEO).index(b"<x:") :],
        CONTAINER.encode(),
        b"\xff\xfe" + packet(VIDEO),
    ],
)
def test_damaged_packets_are_carried_as_they_are(source):
    assert xmp.refreshed(source, upright=False) == source


def test_zeros_behind_the_packet_do_no_harm():
    assert b"MotionPhoto" not in xmp.refreshed(packet(VIDEO) + bytes(3), upright=False)


def in_format(format, source):
    if format == "jpeg":
        return JPEG[:2] + segment(0xE1, XMP_PREFIX + source) + JPEG[2:] + b"\0\0\0\x18ftypmp42" + bytes(1000)
    if format == "png":
        return png(RGB, 2, 8, png_chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + source))
    if format == "webp":
        return pillow(RGB, "WEBP", xmp=source)
    tags = Image.Exif()
    tags[700] = source
    return pillow(RGB, "TIFF", exif=tags)


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff"])
@pytest.mark.parametrize("target", ["same", "jpeg", "png", "webp"])
def test_no_format_keeps_pointers_to_a_video(format, target):
    source = packet(
        KEPT, VIDEO, attributes=' GCamera:MotionPhoto="1" GCamera:MotionPhotoPresentationTimestampUs="500000"'
    )
    image = decode(in_format(format, source))
    encoded = encode(image, image.pixels, format=target)
    assert KEPT.encode() in encoded
    assert b"MotionPhoto" not in encoded
    assert b"video/mp4" not in encoded
    np.testing.assert_array_equal(decode(encoded).pixels.shape, RGB.shape)


def test_the_pointer_to_an_extension_stays_only_with_it():
    pointer = b'<n:HasExtendedXMP xmlns:n="http://ns.adobe.com/xmp/note/">0123</n:HasExtendedXMP>'
    extension = segment(0xE1, XMP_EXTENSION_PREFIX + b"0123" + bytes(40))
    image = decode(JPEG[:2] + segment(0xE1, XMP_PREFIX + packet(KEPT, pointer.decode())) + extension + JPEG[2:])
    same, other = (encode(image, image.pixels, format=target) for target in ("same", "png"))
    assert pointer in same
    assert extension in same
    assert packet(KEPT) in other


def test_what_describes_data_in_an_extension_stays_only_with_it():
    depth = '<d:Mime xmlns:d="http://ns.google.com/photos/1.0/depthmap/">image/png</d:Mime>'
    pointer = '<n:HasExtendedXMP xmlns:n="http://ns.adobe.com/xmp/note/">0123</n:HasExtendedXMP>'
    for properties, targets in (((pointer, depth), {"jpeg"}), ((depth,), {"jpeg", "png", "webp"})):
        image = decode(JPEG[:2] + segment(0xE1, XMP_PREFIX + packet(KEPT, *properties)) + JPEG[2:])
        found = {
            target for target in ("jpeg", "png", "webp") if b"depthmap" in encode(image, image.pixels, format=target)
        }
        assert found == targets
