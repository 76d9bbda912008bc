"""The chunks of a WebP file. Source of the layout: the WebP container specification, RFC 9649."""

import struct

from sgllie.errors import ImageError
from sgllie.images import exif, xmp
from sgllie.images.metadata import EXIF_PREFIX, Header, Metadata

_PICTURES = frozenset((b"VP8 ", b"VP8L"))
"""Of which decoders take the first, and so must whoever tells its size."""
_READ = _PICTURES | {b"ANIM", b"ANMF", b"ALPH", b"ICCP", b"EXIF", b"XMP "}


def read(data: bytes, *, upright: bool) -> Header:
    """Walk the chunks of a WebP."""
    if 8 + int.from_bytes(data[4:8], "little") > len(data):
        raise ImageError("truncated", "the WebP is shorter than its header says")
    chunks: dict[bytes, bytes] = {}
    start = 12
    while start + 8 <= len(data):
        kind, size = data[start : start + 4], int.from_bytes(data[start + 4 : start + 8], "little")
        if kind in _READ and not (kind in _PICTURES and not _PICTURES.isdisjoint(chunks)):
            chunks.setdefault(kind, data[start + 8 : start + 8 + size])
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
    tiff, packet = chunks.get(b"EXIF"), chunks.get(b"XMP ")
    orientation = 1
    if tiff:
        tiff = tiff.removeprefix(EXIF_PREFIX)
        orientation = exif.orientation(tiff)
        tiff = exif.refreshed(tiff, upright=upright)
    if packet:
        packet = xmp.refreshed(packet, upright=upright)
    metadata = Metadata(chunks.get(b"ICCP"), tiff, packet, lossless=lossless)
    return Header(width, height, "RGBA" if alpha else "RGB", 8, metadata, orientation)
