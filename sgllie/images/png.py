"""The chunks of a PNG file around its compressed data."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import ImageError
from sgllie.images import exif, hdr, xmp
from sgllie.images.metadata import METRES_PER_INCH, Header, Metadata, check_parts

MAGIC = b"\x89PNG\r\n\x1a\n"
XMP_KEYWORD = b"XML:com.adobe.xmp\0"
_ESSENTIAL = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT"))
_CARRIED = frozenset((b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"cICP", b"eXIf", b"pHYs", b"tEXt", b"zTXt", b"iTXt"))
_READ = _CARRIED | {b"IHDR", b"tRNS"}
_DECISIVE = frozenset((b"tRNS", b"cICP", b"acTL"))
"""Ancillary chunks without which the pixels would be others, or mean something else."""
_ANCILLARY = 0x20
_INFLATED_BYTES = 1 << 24


def read(data: bytes, *, upright: bool) -> tuple[Header, bytes]:
    """Walk the chunks of a PNG to its end and check the sum of each.

    Returns:
        The header, and the file reduced to the chunks that make the pixels: libpng writes a line on stderr for every
        other chunk that it finds fault with, well-known colour profiles among them.
    """
    carried: list[bytes] = []
    essential: list[slice] = []
    fields: dict[bytes, bytes] = {}
    orientation = 1
    count = 0
    for kind, start, end in _chunks(data):
        count += kind != b"IDAT"
        check_parts(count, "PNG")
        if kind == b"fdAT" or (kind == b"acTL" and data[start + 8 : start + 12] != b"\0\0\0\1"):
            raise ImageError("multi_frame", "the file is an animated PNG; only single images are handled")
        if kind in _ESSENTIAL:
            first = essential.pop().start if essential and essential[-1].stop == start else start
            essential.append(slice(first, end))
        if kind not in _READ:
            continue
        body = data[start + 8 : end - 4]
        if kind == b"eXIf" and kind not in fields:
            orientation = exif.orientation(body)
            body = exif.refreshed(body, upright=upright)
        elif kind == b"iTXt" and body.startswith(XMP_KEYWORD):
            if b"XMP" in fields:
                continue  # there may be only one packet
            fields[b"XMP"], body = _refreshed_xmp(body, upright=upright)
        fields.setdefault(kind, body)
        if kind in _CARRIED:
            carried.append(chunk(kind, body))
    width, height, depth, colour = _format(fields)
    transparent = None
    if colour == 0 and len(fields.get(b"tRNS", b"")) == 2:
        levels = 255 if depth <= 8 else 65535
        highest = (1 << depth) - 1
        transparent = (int.from_bytes(fields[b"tRNS"]) & highest) * levels // highest  # bits above the depth count not
    mode = {0: "L", 2: "RGB", 3: "P", 4: "LA", 6: "RGBA"}[colour]
    header = Header(width, height, mode, depth, _metadata(fields, tuple(carried)), orientation, transparent)
    view = memoryview(data)
    return header, b"".join((MAGIC, *(view[part] for part in essential), chunk(b"IEND", b"")))


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of each chunk up to IEND, without those that are damaged and can be done without."""
    start = len(MAGIC)
    view = memoryview(data)
    while True:
        end = start + 12 + int.from_bytes(data[start : start + 4])
        if end > len(data) or start + 12 > len(data):
            raise ImageError("truncated", "the PNG ends before its end marker")
        kind = data[start + 4 : start + 8]
        if zlib.crc32(view[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end]):
            yield kind, start, end
        elif (not kind[0] & _ANCILLARY and kind != b"IEND") or kind in _DECISIVE:
            raise ImageError("corrupt", f"the checksum of a {kind.decode('latin-1')} chunk of the PNG is wrong")
        if kind == b"IEND":
            return
        start = end


def _format(fields: dict[bytes, bytes]) -> tuple[int, int, int, int]:
    """Return width, height, bits and colour type."""
    if len(fields.get(b"IHDR", b"")) != 13:
        raise ImageError("corrupt", "the PNG has no header chunk")
    width, height, depth, colour = struct.unpack_from(">IIBB", fields[b"IHDR"])
    if colour not in (0, 2, 3, 4, 6) or depth not in (1, 2, 4, 8, 16):
        raise ImageError("corrupt", f"the PNG declares colour type {colour} at {depth} bits, which does not exist")
    return width, height, depth, colour


def _refreshed_xmp(body: bytes, *, upright: bool) -> tuple[bytes, bytes]:
    """Return the XMP packet of a text chunk as the output needs it, empty where it is damaged, and the chunk's body."""
    # Compression flag, compression method, language, translated keyword, text.
    compressed, text = body[len(XMP_KEYWORD)], body[len(XMP_KEYWORD) + 2 :].split(b"\0", 2)[-1]
    packet = (_inflated(text) if compressed else text) or b""
    refreshed = xmp.refreshed(packet, upright=upright)
    return refreshed, body if refreshed == packet else XMP_KEYWORD + b"\0\0\0\0" + refreshed


def _metadata(fields: dict[bytes, bytes], carried: tuple[bytes, ...]) -> Metadata:
    """Take values out of the chunks, for output in another format.

    Raises:
        ImageError: `hdr` where they say that the pixels are in high dynamic range.
    """
    icc = dpi = None
    if len(fields.get(b"cICP", b"")) == 4:
        hdr.check_transfer(fields[b"cICP"][1])
    if b"iCCP" in fields:
        name, _, profile = fields[b"iCCP"].partition(b"\0")
        hdr.check_profile_name(name)
        icc = _inflated(profile[1:])
    if len(fields.get(b"pHYs", b"")) == 9:
        x, y, unit = struct.unpack(">IIB", fields[b"pHYs"])
        if unit == 1 and x and y:
            dpi = x * METRES_PER_INCH, y * METRES_PER_INCH
    return Metadata(icc, fields.get(b"eXIf"), fields.get(b"XMP"), dpi, carried)


def _inflated(compressed: bytes) -> bytes | None:
    """Decompress; None where the bytes are damaged, or become more than any profile or packet has."""
    stream = zlib.decompressobj()
    try:
        inflated = stream.decompress(compressed, _INFLATED_BYTES)
    except zlib.error:
        return None
    return inflated if stream.eof else None


def chunk(kind: bytes, body: bytes) -> bytes:
    """Return a PNG chunk with its length and checksum."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def chunks_of(metadata: Metadata) -> Iterator[bytes]:
    """Yield metadata of another format as PNG chunks."""
    if metadata.icc:
        yield chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc))
    dpi = metadata.dpi or (exif.resolution(metadata.exif) if metadata.exif else None)
    if dpi:
        x, y = (min(round(value / METRES_PER_INCH), 2**31 - 1) for value in dpi)
        yield chunk(b"pHYs", struct.pack(">IIB", x, y, 1))
    if metadata.exif:
        yield chunk(b"eXIf", metadata.exif)
    if metadata.xmp:
        yield chunk(b"iTXt", XMP_KEYWORD + b"\0\0\0\0" + metadata.xmp)


def insert(encoded: bytes, chunks: tuple[bytes, ...]) -> bytes:
    """Put chunks behind the header of a PNG."""
    after_header = len(MAGIC) + 25
    return b"".join((encoded[:after_header], *chunks, memoryview(encoded)[after_header:]))


def grey_with_alpha(pixels: NDArray, alpha: NDArray) -> bytes:
    """Return a PNG of grey with alpha, H x W each, 8 or 16 bits, which cv2 cannot write."""
    height, width = pixels.shape
    samples = np.dstack((pixels, alpha))
    rows = samples.astype(samples.dtype.newbyteorder(">")).view(np.uint8).reshape(height, -1)
    # Filter 2 (up): each row as its difference from the one above.
    filtered = np.full((height, 1 + rows.shape[1]), 2, np.uint8)
    filtered[:, 1:] = rows
    filtered[1:, 1:] -= rows[:-1]
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, 4, 0, 0, 0)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(filtered.data, 1)), (b"IEND", b"")
    return MAGIC + b"".join(chunk(kind, body) for kind, body in chunks)
