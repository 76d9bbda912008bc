"""The header of a BMP file."""

import struct

from sgllie.errors import ImageError
from sgllie.images.metadata import METRES_PER_INCH, Header, Metadata


def read(data: bytes) -> Header:
    """Read the header of a BMP and compare its size with that of the file."""
    offset, header_size = struct.unpack_from("<II", data, 10)
    if header_size == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
        compression, dpi = 0, None
    else:
        width, height, _, bits, compression, _, x, y = struct.unpack_from("<iiHHIIii", data, 18)
        dpi = (x * METRES_PER_INCH, y * METRES_PER_INCH) if x > 0 and y > 0 else None
    if header_size < 12 or bits not in (1, 2, 4, 8, 16, 24, 32) or width <= 0 or height == 0:
        raise ImageError("not_an_image", "the bytes begin like a BMP but make no sense as one")
    if compression in (4, 5):
        raise ImageError("unsupported", "a BMP that wraps a JPEG or PNG is not handled")
    compressed = compression in (1, 2)
    if not compressed and offset + (width * bits + 31) // 32 * 4 * abs(height) > len(data):
        raise ImageError("truncated", "the BMP is shorter than its header says")
    mode = "P" if bits <= 8 else "RGB"
    return Header(width, abs(height), mode, min(bits, 8), Metadata(dpi=dpi))


def insert_resolution(encoded: bytes, dpi: tuple[float, float] | None) -> bytes:
    """Write the resolution into the header of a BMP."""
    if dpi is None:
        return encoded
    x, y = (min(round(value / METRES_PER_INCH), 2**31 - 1) for value in dpi)
    return encoded[:38] + struct.pack("<ii", x, y) + encoded[46:]
