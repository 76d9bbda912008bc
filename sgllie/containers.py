"""What stands around the pixels in JPEG, PNG, WebP and BMP files: the header, and the metadata that is carried.

Reading walks the file's own structure (segments, chunks) and decodes no pixel, so size and completeness are known
before any memory is spent. Writing puts the metadata into a file that a codec has just encoded.
"""

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from sgllie import exif
from sgllie.image_error import ImageError

EXIF_PREFIX = b"Exif\0\0"
ICC_PREFIX = b"ICC_PROFILE\0"
XMP_PREFIX = b"http://ns.adobe.com/xap/1.0/\0"
XMP_EXTENSION_PREFIX = b"http://ns.adobe.com/xmp/extension/\0"
IPTC_PREFIX = b"Photoshop 3.0\0"
PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
# Segments hold at most 65533 bytes, and each part of a profile begins with its prefix, number and count.
_SEGMENT_BYTES = 65533
_ICC_PART_BYTES = _SEGMENT_BYTES - len(ICC_PREFIX) - 2
_PNG_ESSENTIAL = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))
_PNG_CARRIED = frozenset((b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"iTXt"))
_METRES_PER_INCH = 0.0254


@dataclass(frozen=True, slots=True)
class Metadata:
    """What an output file carries besides pixels.

    Attributes:
        icc: ICC profile.
        exif: EXIF block from its byte order mark on, made to fit the decoded pixels (see `exif.refreshed`).
        xmp: XMP packet.
        dpi: horizontal and vertical dots per inch, where the container itself tells them.
        verbatim: segments (JPEG), chunks (PNG) or directory (TIFF) to be copied into a file of the same format.
        subsampling: chroma subsampling of a JPEG, for a JPEG.
        lossless: whether a WebP is of the lossless kind.
    """

    icc: bytes | None = None
    exif: bytes | None = None
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    verbatim: tuple[bytes, ...] = ()
    subsampling: str = "420"
    lossless: bool = False


@dataclass(frozen=True, slots=True)
class Header:
    """What is known of an image before its pixels are decoded.

    Attributes:
        width: pixels.
        height: pixels.
        mode: channels as in the file: L, LA, RGB, RGBA, P (palette) or CMYK.
        bit_depth: bits of each channel, or of the index into the palette.
        metadata: to be carried to the output.
        orientation: as in EXIF, 1 to 8.
        transparent: the grey level (of the decoded pixels) that stands for full transparency.
        scan: where the compressed data of a JPEG begin.
    """

    width: int
    height: int
    mode: str
    bit_depth: int
    metadata: Metadata = field(default_factory=Metadata)
    orientation: int = 1
    transparent: int | None = None
    scan: int = 0


def upright_xmp(xmp: bytes) -> bytes:
    """The packet with its copy of the Orientation tag, if any, set to 1."""
    return re.sub(rb"""(tiff:Orientation(?:\s*=\s*["']|>\s*))[2-8]""", rb"\g<1>1", xmp)


def read_jpeg(data: bytes, *, upright: bool) -> Header:
    """Walk the segments of a JPEG up to its first scan.

    Carried are density (JFIF), EXIF, ICC, XMP, IPTC and comments. Left out: what describes the old encoding (Adobe),
    its pixels (thumbnails, gain maps, signatures of origin), or where further pictures lie behind the first (MPF).
    """
    frame: bytes = b""
    carried: list[bytes] = []
    tiff, orientation = None, 1
    for marker, start, end in _segments(data):
        if marker == 0xDA:
            break
        body = data[start + 4 : end]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame = body
        elif marker == 0xE1 and body.startswith(EXIF_PREFIX) and tiff is None:
            tiff = body[len(EXIF_PREFIX) :]
            orientation = exif.orientation(tiff)
            tiff = exif.refreshed(tiff, upright=upright)
            carried.append(jpeg_segment(0xE1, EXIF_PREFIX + tiff))
        elif marker == 0xE1 and body.startswith((XMP_PREFIX, XMP_EXTENSION_PREFIX)):
            carried.append(jpeg_segment(0xE1, upright_xmp(body) if upright else body))
        elif marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
            # The last two bytes are the size of a thumbnail of the old pixels.
            carried.append(jpeg_segment(0xE0, body[:12] + b"\0\0"))
        elif (
            marker == 0xFE
            or (marker == 0xE2 and body.startswith(ICC_PREFIX))
            or (marker == 0xED and body.startswith(IPTC_PREFIX))
        ):
            carried.append(data[start:end])
    if not frame:
        raise ImageError("corrupt", "the JPEG has no frame header")
    depth, height, width, components = struct.unpack_from(">BHHB", frame)
    if components not in (1, 3, 4):
        raise ImageError("unsupported", f"JPEG images of {components} components are not handled")
    if depth != 8:
        raise ImageError("unsupported", f"JPEG images of {depth} bits are not handled, only those of 8")
    subsampling = _subsampling(frame, components)
    if upright and orientation >= 5:
        subsampling = {"422": "440", "440": "422"}.get(subsampling, subsampling)
    metadata = _jpeg_metadata(tuple(carried), tiff, subsampling)
    return Header(width, height, {1: "L", 3: "RGB", 4: "CMYK"}[components], 8, metadata, orientation, scan=end)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Marker, start and end of each segment, the start of the first scan being the last of them."""
    position = 2
    while True:
        start = data.find(b"\xff", position)
        if start < 0:
            raise ImageError("truncated", "the JPEG ends before its first scan")
        marker = data[start + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD8:  # padding, or a marker without a length
            position = start + 1
            continue
        if marker == 0xD9:
            raise ImageError("corrupt", "the JPEG holds no picture")
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        if position > len(data):
            raise ImageError("truncated", "the JPEG ends inside its header")
        yield marker, start, position
        if marker == 0xDA:
            return


def _subsampling(frame: bytes, components: int) -> str:
    """The ratio of luma to chroma samples in the notation of video, 444 for the uncommon ones."""
    if components == 1:
        return "444"
    luma, *chroma = frame[7 : 6 + 3 * components : 3]
    if len(set(chroma[:2])) != 1 or not chroma[0]:
        return "444"
    across, down = (luma >> 4) / (chroma[0] >> 4 or 1), (luma & 15) / (chroma[0] & 15 or 1)
    return {(2.0, 2.0): "420", (2.0, 1.0): "422", (1.0, 2.0): "440", (4.0, 1.0): "411"}.get((across, down), "444")


def _jpeg_metadata(carried: tuple[bytes, ...], tiff: bytes | None, subsampling: str) -> Metadata:
    """Take values out of the carried segments, for output in another format."""
    profile, xmp, dpi = [], None, None
    for segment in carried:
        body = segment[4:]
        if body.startswith(ICC_PREFIX):
            profile.append(body[len(ICC_PREFIX) :])
        elif body.startswith(XMP_PREFIX):
            xmp = body[len(XMP_PREFIX) :]
        elif body.startswith(b"JFIF\0"):
            unit, x, y = struct.unpack_from(">BHH", body, 7)
            if unit in (1, 2) and x and y:
                dpi = (x, y) if unit == 1 else (x * 2.54, y * 2.54)
    # Each part begins with its number and the count of parts; writers do not always keep them in order.
    icc = b"".join(part[2:] for part in sorted(profile, key=lambda part: part[:1])) or None
    return Metadata(icc, tiff, xmp, dpi, carried, subsampling)


def jpeg_segment(marker: int, body: bytes) -> bytes:
    """A JPEG segment with its marker and length."""
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def jpeg_segments(metadata: Metadata) -> Iterator[bytes]:
    """Metadata of another format as JPEG segments; what is too long for a segment is left out."""
    if metadata.dpi:
        x, y = (min(round(value), 65535) for value in metadata.dpi)
        yield jpeg_segment(0xE0, b"JFIF\0\1\1" + struct.pack(">BHHBB", 1, x, y, 0, 0))
    for prefix, body in ((EXIF_PREFIX, metadata.exif), (XMP_PREFIX, metadata.xmp)):
        if body and len(prefix) + len(body) <= _SEGMENT_BYTES:
            yield jpeg_segment(0xE1, prefix + body)
    if metadata.icc and len(metadata.icc) <= 255 * _ICC_PART_BYTES:
        icc = metadata.icc
        parts = [icc[start : start + _ICC_PART_BYTES] for start in range(0, len(icc), _ICC_PART_BYTES)]
        for number, part in enumerate(parts, 1):
            yield jpeg_segment(0xE2, ICC_PREFIX + bytes((number, len(parts))) + part)


def insert_jpeg(encoded: bytes, segments: tuple[bytes, ...]) -> bytes:
    """Put segments into a JPEG that begins with SOI and an 18-byte JFIF segment, as libjpeg writes it."""
    if any(segment.startswith(b"\xff\xe0") for segment in segments):
        return b"".join((encoded[:2], *segments, memoryview(encoded)[20:]))
    return b"".join((encoded[:20], *segments, memoryview(encoded)[20:]))


def read_png(data: bytes, *, upright: bool) -> tuple[Header, bytes]:
    """Walk the chunks of a PNG to its end and check the sum of each.

    Returns:
        The header, and the file reduced to the chunks that make the pixels: libpng writes a line on stderr for every
        other chunk that it finds fault with, well-known colour profiles among them.
    """
    carried: list[bytes] = []
    essential: list[bytes | memoryview] = [PNG_MAGIC]
    fields: dict[bytes, bytes] = {}
    view = memoryview(data)
    orientation = 1
    for kind, start, end in _chunks(data):
        if kind == b"acTL":
            raise ImageError("multi_frame", "the file is an animated PNG; only single images are handled")
        if kind in _PNG_ESSENTIAL:
            essential.append(view[start:end])
        if kind == b"IDAT":
            continue
        body = data[start + 8 : end - 4]
        if kind == b"eXIf":
            orientation = exif.orientation(body)
            body = exif.refreshed(body, upright=upright)
        elif kind == b"iTXt" and body.startswith(XMP_KEYWORD):
            packet = _png_xmp(body)
            fields[b"XMP"] = upright_xmp(packet) if upright else packet
            if fields[b"XMP"] != packet:
                body = XMP_KEYWORD + b"\0\0\0\0" + fields[b"XMP"]
        fields.setdefault(kind, body)
        if kind in _PNG_CARRIED:
            carried.append(png_chunk(kind, body))
    if len(fields.get(b"IHDR", b"")) != 13:
        raise ImageError("corrupt", "the PNG has no header chunk")
    width, height, depth, colour = struct.unpack_from(">IIBB", fields[b"IHDR"])
    if colour not in (0, 2, 3, 4, 6) or depth not in (1, 2, 4, 8, 16):
        raise ImageError("corrupt", f"the PNG declares colour type {colour} at {depth} bits, which does not exist")
    transparent = None
    if colour == 0 and len(fields.get(b"tRNS", b"")) == 2:
        levels = 255 if depth <= 8 else 65535
        transparent = int.from_bytes(fields[b"tRNS"]) * levels // ((1 << depth) - 1)
    mode = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}[colour]
    metadata = _png_metadata(fields, tuple(carried))
    return Header(width, height, mode, depth, metadata, orientation, transparent), b"".join(essential)


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Kind, start and end of each chunk up to IEND."""
    start = len(PNG_MAGIC)
    view = memoryview(data)
    while True:
        end = start + 12 + int.from_bytes(data[start : start + 4])
        if end > len(data) or start + 12 > len(data):
            raise ImageError("truncated", "the PNG ends before its end marker")
        kind = data[start + 4 : start + 8]
        if zlib.crc32(view[start + 4 : end - 4]) != int.from_bytes(data[end - 4 : end]):
            raise ImageError("corrupt", f"the checksum of a {kind.decode('latin-1')} chunk of the PNG is wrong")
        yield kind, start, end
        if kind == b"IEND":
            return
        start = end


def _png_xmp(body: bytes) -> bytes:
    """The XMP packet in a text chunk; empty where it is damaged."""
    # Compression flag, compression method, language, translated keyword, text.
    compressed, text = body[len(XMP_KEYWORD)], body[len(XMP_KEYWORD) + 2 :].split(b"\0", 2)[-1]
    return (_inflated(text) if compressed else text) or b""


def _png_metadata(fields: dict[bytes, bytes], carried: tuple[bytes, ...]) -> Metadata:
    """Take values out of the chunks, for output in another format."""
    icc = dpi = None
    if b"iCCP" in fields:
        icc = _inflated(fields[b"iCCP"].partition(b"\0")[2][1:])
    if len(fields.get(b"pHYs", b"")) == 9:
        x, y, unit = struct.unpack(">IIB", fields[b"pHYs"])
        if unit == 1 and x and y:
            dpi = x * _METRES_PER_INCH, y * _METRES_PER_INCH
    return Metadata(icc, fields.get(b"eXIf"), fields.get(b"XMP"), dpi, carried)


def _inflated(compressed: bytes) -> bytes | None:
    """Decompressed bytes, at most 16 MB of them; None where they are damaged."""
    try:
        return zlib.decompressobj().decompress(compressed, 1 << 24)
    except zlib.error:
        return None


def png_chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk with length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def png_chunks(metadata: Metadata) -> Iterator[bytes]:
    """Metadata of another format as PNG chunks."""
    if metadata.icc:
        yield png_chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    dpi = metadata.dpi or (exif.resolution(metadata.exif) if metadata.exif else None)
    if dpi:
        x, y = (min(round(value / _METRES_PER_INCH), 2**31 - 1) for value in dpi)
        yield png_chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    if metadata.exif:
        yield png_chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        yield png_chunk(b"iTXt", XMP_KEYWORD + b"\0\0\0\0" + metadata.xmp)


def insert_png(encoded: bytes, chunks: tuple[bytes, ...]) -> bytes:
    """Put chunks behind the header of a PNG."""
    after_header = len(PNG_MAGIC) + 25
    return b"".join((encoded[:after_header], *chunks, memoryview(encoded)[after_header:]))


def grey_alpha_png(pixels: NDArray, alpha: NDArray) -> bytes:
    """A PNG of grey with alpha, H x W each, 8 or 16 bits, which cv2 cannot write."""
    height, width = pixels.shape
    samples = np.dstack((pixels, alpha))
    rows = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    # Filter 2 (up): each row as its difference from the one above.
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)
    filtered[:, 1:] = rows
    filtered[1:, 1:] -= rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, 4, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(filtered.data, 1)), (b"IEND", b"")
    return PNG_MAGIC + b"".join(png_chunk(kind, body) for kind, body in chunks)


def read_webp(data: bytes, *, upright: bool) -> Header:
    """Walk the chunks of a WebP. Source of the layout: the WebP container specification, RFC 9649."""
    if 8 + int.from_bytes(data[4:8], "little") > len(data):
        raise ImageError("truncated", "the WebP is shorter than its header says")
    chunks: dict[bytes, bytes] = {}
    start = 12
    while start + 8 <= len(data):
        size = int.from_bytes(data[start + 4 : start + 8], "little")
        chunks.setdefault(data[start : start + 4], data[start + 8 : start + 8 + size])
        start += 8 + size + size % 2
    if b"ANIM" in chunks or b"ANMF" in chunks:
        raise ImageError("multi_frame", "the file is an animated WebP; only single images are handled")
    lossless = b"VP8L" in chunks
    if lossless:
        (bits,) = struct.unpack_from("<I", chunks[b"VP8L"], 1)
        width, height, alpha = (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1, bool(bits >> 28 & 1)
    elif b"VP8 " in chunks:
        width, height = (value & 0x3FFF for value in struct.unpack_from("<HH", chunks[b"VP8 "], 6))
        alpha = b"ALPH" in chunks
    else:
        raise ImageError("corrupt", "the WebP holds no picture")
    tiff, xmp = chunks.get(b"EXIF"), chunks.get(b"XMP ")
    orientation = 1
    if tiff:
        tiff = tiff.removeprefix(EXIF_PREFIX)
        orientation = exif.orientation(tiff)
        tiff = exif.refreshed(tiff, upright=upright)
    if xmp and upright:
        xmp = upright_xmp(xmp)
    metadata = Metadata(chunks.get(b"ICCP"), tiff, xmp, lossless=lossless)
    return Header(width, height, "RGBA" if alpha else "RGB", 8, metadata, orientation)


def resolution_exif(dpi: tuple[float, float] | None) -> bytes:
    """An EXIF block that tells the resolution, for containers that have no other place for it; empty without one."""
    if dpi is None:
        return b""
    x, y = (round(value * 1000) for value in dpi)
    entries = ((exif.X_RESOLUTION, 5, 1, 50), (exif.Y_RESOLUTION, 5, 1, 58), (exif.RESOLUTION_UNIT, 3, 1, 2))
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, 3) + directory + struct.pack("<IIIII", 0, x, 1000, y, 1000)


def read_bmp(data: bytes) -> Header:
    """Read the header of a BMP and compare its size with that of the file."""
    offset, header_size = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, dpi = 0, None
    else:
        width, height, _, bits, compression, _, x, y = struct.unpack_from("<iiHHIIii", data, 18)
        dpi = (x * _METRES_PER_INCH, y * _METRES_PER_INCH) if x > 0 and y > 0 else None
    if header_size < 12 or bits not in (1, 2, 4, 8, 16, 24, 32) or width <= 0 or height == 0:
        raise ImageError("not_an_image", "the bytes begin like a BMP but make no sense as one")
    if compression in (4, 5):
        raise ImageError("unsupported", "a BMP that wraps a JPEG or PNG is not handled")
    compressed = compression in (1, 2)
    if not compressed and offset + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise ImageError("truncated", "the BMP is shorter than its header says")
    mode = "P" if bits <= 8 else "RGB"
    return Header(width, abs(height), mode, min(bits, 8), Metadata(dpi=dpi))


def insert_bmp_resolution(encoded: bytes, dpi: tuple[float, float] | None) -> bytes:
    """Write the resolution into the header of a BMP."""
    if dpi is None:
        return encoded
    x, y = (round(value / _METRES_PER_INCH) for value in dpi)
    return encoded[:38] + struct.pack("<ii", x, y) + encoded[46:]
