"""JPEG files: the segments around the compressed data, and the pixels in them.

Reading the segments decodes no pixel, so that size and completeness are known before any memory is spent. Pixels go
through simplejpeg (libjpeg-turbo): its strict mode reports damaged data, for which cv2 returns a spoilt picture and a
line on stderr; it decodes faster, and encodes RGB without a copy in another order.
"""

import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from sgllie.errors import ImageError
from sgllie.images import exif, xmp
from sgllie.images.metadata import EXIF_PREFIX, Header, Metadata, check_parts

JpegEncoder = Callable[[NDArray[np.uint8], int, str], bytes]
"""Makes a JPEG of pixels, H x W x 3 or H x W, a quality, and the subsampling of the chroma."""

ICC_PREFIX = b"ICC_PROFILE\0"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
XMP_EXTENSION_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"
IPTC_PREFIX = b"Photoshop 3.0\0"
# Segments hold at most 65533 bytes, and each part of a profile begins with its prefix, number and count.
_SEGMENT_BYTES = 65533
_ICC_PART_BYTES = _SEGMENT_BYTES - len(ICC_PREFIX) - 2
_COLOUR_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}
_START_OF_SCAN, _END = 0xDA, 0xD9
# Not padding, and not a marker without a length.
_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd8\xff]")
_SCAN = re.compile(rb"\xff\xda")
_MOST_SCANS = 100
"""Encoders make about ten; thousands, each over all pixels, only keep a decoder busy."""
# Warnings of libjpeg about an odd header, and of a chroma subsampling such as 3x1 that only simplejpeg does not know.
_HARMLESS = re.compile(r"Unknown Adobe|unknown JFIF|Invalid SOS|bad ICC|determine subsampling")


def read(data: bytes, *, upright: bool) -> Header:
    """Walk the segments of a JPEG up to its first scan.

    Carried are density (JFIF), EXIF, ICC, XMP, IPTC and comments. Left out: what describes the old encoding (Adobe),
    its pixels (thumbnails, gain maps, signatures of origin), or where others lie behind the first (MPF, part of XMP).
    """
    frame = b""
    carried: list[bytes] = []
    tiff, orientation = None, 1
    for count, (marker, start, end) in enumerate(_segments(data)):
        if marker == _START_OF_SCAN:
            break
        check_parts(count, "JPEG")
        if marker == _END:
            raise ImageError("corrupt", "the JPEG holds no picture")
        body = data[start + 4 : end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = body
        elif marker == 0xE1 and body.startswith(EXIF_PREFIX) and tiff is None:
            tiff = body[len(EXIF_PREFIX) :]
            orientation = exif.orientation(tiff)
            tiff = exif.refreshed(tiff, upright=upright)
            carried.append(segment(0xE1, EXIF_PREFIX + tiff))
        elif marker == 0xE1 and body.startswith(XMP_PREFIX):
            packet = xmp.refreshed(body[len(XMP_PREFIX) :], upright=upright)
            carried.append(segment(0xE1, XMP_PREFIX + packet))
        elif marker == 0xE1 and body.startswith(XMP_EXTENSION_PREFIX):
            carried.append(segment(0xE1, xmp.turned_upright(body) if upright else body))
        elif marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            # The last two bytes are the size of a thumbnail of the old pixels.
            carried.append(segment(0xE0, body[:12] + b"\0\0"))
        elif marker == 0xFE or (marker, body[:12]) == (0xE2, ICC_PREFIX) or (marker, body[:14]) == (0xED, IPTC_PREFIX):
            carried.append(data[start:end])
    if not frame:
        raise ImageError("corrupt", "the JPEG has no frame header")
    depth, height, width, components = struct.unpack_from(">BHHB", frame)
    if components not in (1, 3, 4):
        raise ImageError("unsupported", f"JPEG images of {components} components are not handled")
    if depth != 8:
        raise ImageError("unsupported", f"JPEG images of {depth} bits are not handled, only those of 8")
    _check_factors(frame, components)
    subsampling = _subsampling(frame, components)
    if upright and orientation >= 5:
        subsampling = {"422": "440", "440": "422"}.get(subsampling, subsampling)
    metadata = _metadata(carried, tiff, subsampling)
    if components == 4:  # the output is RGB, so the profile serves to decode and goes no further
        metadata = replace(metadata, verbatim=tuple(piece for piece in carried if piece[4:16] != ICC_PREFIX))
    return Header(width, height, {1: "L", 3: "RGB", 4: "CMYK"}[components], 8, metadata, orientation, scan=end)


def _segments(data: bytes, position: int = 2) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment from a position on, the end of the image being the last of them."""
    while found := _MARKER.search(data, position):
        marker, start = found[0][1], found.start()
        if marker == _END:
            yield marker, start, start + 2
            return
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        if position > len(data):
            raise ImageError("truncated", "the JPEG ends inside its header")
        yield marker, start, position
    raise ImageError("truncated", "the JPEG ends before its end marker")


def _check_factors(frame: bytes, components: int) -> None:
    """Refuse sampling factors that do not divide the largest; no decoder has learnt them."""
    factors = frame[7 : 6 + 3 * components : 3]
    for sides in ([factor >> 4 for factor in factors], [factor & 15 for factor in factors]):
        if all(sides) and any(max(sides) % side for side in sides):
            raise ImageError("unsupported", "JPEG images with a fraction in their chroma subsampling are not handled")


def _subsampling(frame: bytes, components: int) -> str:
    """Return the ratio of luma to chroma samples in the notation of video, 444 for the uncommon ones."""
    if components == 1:
        return "444"
    luma, *chroma = frame[7 : 6 + 3 * components : 3]
    if len(set(chroma[:2])) != 1 or not chroma[0]:
        return "444"
    across, down = (luma >> 4) / (chroma[0] >> 4 or 1), (luma & 15) / (chroma[0] & 15 or 1)
    return {(2.0, 2.0): "420", (2.0, 1.0): "422", (1.0, 2.0): "440", (4.0, 1.0): "411"}.get((across, down), "444")


def _metadata(carried: list[bytes], tiff: bytes | None, subsampling: str) -> Metadata:
    """Take values out of the carried segments, for output in another format."""
    profile, packet, dpi = [], None, None
    for piece in carried:
        body = piece[4:]
        if body.startswith(ICC_PREFIX):
            profile.append(body[len(ICC_PREFIX) :])
        elif body.startswith(XMP_PREFIX):
            packet = xmp.standalone(body[len(XMP_PREFIX) :])
        elif body.startswith(b"JFIF\0"):
            unit, x, y = struct.unpack_from(">BHH", body, 7)
            if unit in (1, 2) and x and y:
                dpi = (x, y) if unit == 1 else (x * 2.54, y * 2.54)
    # Each part begins with its number and the count of parts; writers do not always keep them in order.
    profile.sort(key=lambda part: part[:1])
    icc = b"".join(part[2:] for part in profile) if profile and profile[0][1:2] == bytes((len(profile),)) else None
    return Metadata(icc, tiff, packet, dpi, tuple(carried), subsampling)


def segment(marker: int, body: bytes) -> bytes:
    """Return a JPEG segment with its marker and length."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def segments_of(metadata: Metadata) -> Iterator[bytes]:
    """Yield metadata of another format as JPEG segments; what is too long for a segment is left out."""
    if metadata.dpi:
        x, y = (min(round(value), 65535) for value in metadata.dpi)
        yield segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHHBB", 1, x, y, 0, 0))
    for prefix, body in ((EXIF_PREFIX, metadata.exif), (XMP_PREFIX, metadata.xmp)):
        if body and len(prefix) + len(body) <= _SEGMENT_BYTES:
            yield segment(0xE1, prefix + body)
    if metadata.icc and len(metadata.icc) <= 255 * _ICC_PART_BYTES:
        icc = metadata.icc
        parts = [icc[start : start + _ICC_PART_BYTES] for start in range(0, len(icc), _ICC_PART_BYTES)]
        for number, part in enumerate(parts, 1):
            yield segment(0xE2, ICC_PREFIX + bytes((number, len(parts))) + part)


def decode(data: bytes, header: Header, least: int = 0) -> NDArray[np.uint8]:
    """Decode the pixels.

    Args:
        data: the file.
        header: what `read` returned.
        least: if above 0, decode at the smallest of libjpeg's scales (eighths) at which no side is shorter.

    Returns:
        H x W x 3 (RGB, to which CMYK is converted) or H x W (grey), uint8, not turned.
    """
    # Compressed data escape 0xFF, so the end marker cannot occur in them; anything may follow it.
    if data.rfind(b"\xff\xd9", header.scan) < 0:
        raise ImageError("truncated", "the JPEG ends before its end marker")
    _check_scans(data, header.scan)
    try:
        pixels = simplejpeg.decode_jpeg(data, _COLOUR_SPACES[header.mode], min_height=least, min_width=least)
    except ValueError as error:
        _check_harmless(str(error), data, header.scan)
        pixels = _decode_leniently(data, header.mode)
    if header.mode == "CMYK":
        return _to_rgb(pixels, header.metadata.icc)
    return pixels.reshape(pixels.shape[:2]) if header.mode == "L" else pixels


def _check_scans(data: bytes, scan: int) -> None:
    """Refuse more scans than any picture needs; what looks like the start of one is counted before the real ones."""
    if len(_SCAN.findall(data, scan)) < _MOST_SCANS:  # in a third of the time that `data.count` takes
        return
    scans = 1 + sum(marker == _START_OF_SCAN for marker, _, _ in _segments(data, scan))
    if scans > _MOST_SCANS:
        raise ImageError("unsupported", f"the JPEG has {scans} scans; at most {_MOST_SCANS} are handled")


def _check_harmless(warning: str, data: bytes, scan: int) -> None:
    """Raise unless libjpeg's warning is about something that leaves the pixels intact."""
    if _HARMLESS.search(warning):
        return
    extraneous = re.search(r"(\d+) extraneous bytes before marker 0xd9", warning)
    if extraneous:
        end = data.find(b"\xff\xd9", scan)
        if not data[end - int(extraneous[1]) : end].strip(b"\0"):
            return  # some cameras pad the compressed data with zeros
    if "support" in warning:
        raise ImageError("unsupported", f"the JPEG is of a kind that is not handled: {warning}")
    raise ImageError("corrupt", f"the JPEG is damaged: {warning}")


def _decode_leniently(data: bytes, mode: str) -> NDArray[np.uint8]:
    """Decode in spite of warnings, which simplejpeg cannot overlook in a header."""
    from PIL.JpegImagePlugin import JpegImageFile

    from sgllie.images import jpeg_check  # few files need it, and it takes a while to load

    if not jpeg_check.is_whole(data, _segments(data)):
        raise ImageError("corrupt", "the JPEG is damaged: its compressed data do not fit its pixels")
    pixels = np.array(JpegImageFile(BytesIO(data)))
    return 255 - pixels if mode == "CMYK" else pixels


def _to_rgb(stored: NDArray[np.uint8], icc: bytes | None) -> NDArray[np.uint8]:
    from PIL import Image

    from sgllie.images import cmyk

    # JPEG files hold 255 for no ink, as Adobe began and every writer follows.
    return cmyk.to_rgb(Image.fromarray(255 - stored, "CMYK"), icc)


def libjpeg(pixels: NDArray[np.uint8], quality: int, subsampling: str) -> bytes:
    """Encode H x W x 3 (RGB) or H x W (grey) with libjpeg-turbo: a `JpegEncoder`."""
    if pixels.ndim == 2:
        return simplejpeg.encode_jpeg(pixels[:, :, None], quality, "GRAY", "Gray")
    return simplejpeg.encode_jpeg(pixels, quality, "RGB", subsampling)


def encode(
    pixels: NDArray[np.uint8],
    quality: int,
    subsampling: str,
    segments: tuple[bytes, ...],
    encoder: JpegEncoder = libjpeg,
) -> bytes:
    """Encode pixels and put segments in front of them.

    Args:
        pixels: H x W x 3 (RGB) or H x W (grey), C-contiguous.
        quality: 1 to 100.
        subsampling: of the chroma: 444, 422, 420, 440 or 411.
        segments: metadata; the JFIF segment among them, if any, takes the place of the encoder's.
        encoder: makes the file around which they are put.
    """
    encoded = encoder(pixels, quality, subsampling)
    # After SOI (2 bytes) encoders put JFIF, or nothing.
    body = 4 + int.from_bytes(encoded[4:6]) if encoded[2:4] == b"\xff\xe0" else 2
    has_jfif = any(piece.startswith(b"\xff\xe0") for piece in segments)
    return b"".join((encoded[: 2 if has_jfif else body], *segments, memoryview(encoded)[body:]))
