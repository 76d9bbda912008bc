"""BMP files: their headers, and the pixels behind them.

No library that is at hand reads the masks of all headers, and some take padding for alpha or an OS/2 palette for grey;
uncompressed pixels are simple enough to be read here. Source of the layout: Microsoft's documentation of
BITMAPCOREHEADER, BITMAPINFOHEADER and BITMAPV5HEADER, and of bitmap compression.
"""

import struct
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.errors import ImageError
from sgllie.images.metadata import METRES_PER_INCH, Header, Metadata

_OS2_HEADER, _INFO_HEADER, _HEADER_WITH_ALPHA, _HEADER_WITH_PROFILE = 12, 40, 56, 124
_COLOUR_SPACE, _PROFILE = 56, 112
"""Where that header tells the kind of colour space, and place and size of the profile."""
_EMBEDDED = b"DEBM"
"""The kind of a profile within the file: `MBED` as a little-endian number."""
_HEADER_SIZES = frozenset((_OS2_HEADER, *range(16, 65), 108, 124))
_PLAIN, _RLE8, _RLE4, _MASKS, _ALPHA_MASKS = 0, 1, 2, 3, 6
_OTHER_COMPRESSIONS = {4: "a JPEG or RLE24 data", 5: "a PNG", 11: "CMYK", 12: "CMYK", 13: "CMYK"}
_USUAL_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 24: (0xFF0000, 0xFF00, 0xFF, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}


@dataclass(frozen=True, slots=True)
class Layout:
    """How the pixels lie in the file.

    Attributes:
        offset: of the first row.
        bits: of each pixel.
        compression: as in the header.
        bottom_up: whether the lowest row comes first.
        masks: the bits of red, green, blue and alpha, where there is no palette.
        palette: entries x 3 (RGB), uint8.
    """

    offset: int
    bits: int
    compression: int
    bottom_up: bool
    masks: tuple[int, ...]
    palette: NDArray[np.uint8]


def read(data: bytes) -> tuple[Header, Layout]:
    """Read the header of a BMP and compare its size with that of the file."""
    offset, size = struct.unpack_from("<II", data, 10)
    if size not in _HEADER_SIZES:
        raise ImageError("not_an_image", "the bytes begin like a BMP but make no sense as one")
    if 14 + size > len(data):
        raise ImageError("truncated", "the BMP ends inside its header")
    fields = data[14 : 14 + size].ljust(124, b"\0")
    if size == _OS2_HEADER:
        width, height, _, bits = struct.unpack_from("<HHHH", fields, 4)
        compression, colours, dpi = _PLAIN, 0, None
    else:
        width, height, _, bits, compression, _, x, y, colours = struct.unpack_from("<iiHHIIiiI", fields, 4)
        dpi = (x * METRES_PER_INCH, y * METRES_PER_INCH) if x > 0 and y > 0 else None
    _check_kind(bits, compression)
    if bits not in (1, 2, 4, 8, 16, 24, 32) or width <= 0 or height == 0:
        raise ImageError("not_an_image", "the bytes begin like a BMP but make no sense as one")
    masks, end = _masks(data, size, bits, compression)
    palette = _palette(data[end:offset], bits, colours, 3 if size == _OS2_HEADER else 4)
    if offset < end:
        raise ImageError("corrupt", "the pixels of the BMP begin inside its header")
    if compression not in (_RLE8, _RLE4) and offset + _stride(width, bits) * abs(height) > len(data):
        raise ImageError("truncated", "the BMP is shorter than its header says")
    layout = Layout(offset, bits, compression, height > 0, masks, palette)
    mode = "RGB" if bits > 8 else "L" if (palette == palette[:, :1]).all() else "P"
    return Header(width, abs(height), mode, min(bits, 8), Metadata(_profile(data, fields), dpi=dpi)), layout


def _profile(data: bytes, fields: bytes) -> bytes | None:
    """Return the colour profile that a header points to, if its file holds it."""
    place, size = struct.unpack_from("<II", fields, _PROFILE)
    profile = data[14 + place : 14 + place + size]
    return profile if fields[_COLOUR_SPACE:][:4] == _EMBEDDED and len(profile) == size > 0 else None


def _stride(width: int, bits: int) -> int:
    """Return the bytes of a row, which is filled up to a multiple of four."""
    return (width * bits + 31) // 32 * 4


def _check_kind(bits: int, compression: int) -> None:
    """Refuse what the file may hold instead of rows of pixels."""
    if compression in _OTHER_COMPRESSIONS:
        raise ImageError("unsupported", f"a BMP that holds {_OTHER_COMPRESSIONS[compression]} is not handled")
    expected = {_PLAIN: (1, 2, 4, 8, 16, 24, 32), _RLE8: (8,), _RLE4: (4,), _MASKS: (16, 32), _ALPHA_MASKS: (16, 32)}
    if bits == 64 or (compression in expected and 0 < bits <= 32 and bits not in expected[compression]):
        raise ImageError("unsupported", f"a BMP of {bits} bits with compression {compression} is not handled")
    if compression not in expected:
        raise ImageError("not_an_image", "the bytes begin like a BMP but make no sense as one")


def _masks(data: bytes, size: int, bits: int, compression: int) -> tuple[tuple[int, ...], int]:
    """Return the masks of red, green, blue and alpha, and where the header ends with them.

    They stand behind the first 40 bytes, whether the header counts them to itself or not. The fourth is alpha only
    where the header has a place for it, and the fourth byte of plain pixels is padding.
    """
    if compression not in (_MASKS, _ALPHA_MASKS):
        return _USUAL_MASKS.get(bits, ()), 14 + size
    count = 4 if size >= _HEADER_WITH_ALPHA or compression == _ALPHA_MASKS else 3
    masks = struct.unpack_from(f"<{count}I", data, 14 + _INFO_HEADER) + (0,) * (4 - count)
    for mask in masks:
        lowest = mask & -mask
        if mask >> bits or mask & (mask + lowest):
            raise ImageError("unsupported", f"a BMP with the colour mask {mask:#x} is not handled")
    if 0 in masks[:3] or masks[0] | masks[1] | masks[2] | masks[3] != sum(masks):
        raise ImageError("unsupported", "a BMP whose colour masks overlap or are empty is not handled")
    return masks, 14 + max(size, _INFO_HEADER + 4 * count)


def _palette(stored: bytes, bits: int, colours: int, entry: int) -> NDArray[np.uint8]:
    """Return the palette that lies between the header and the pixels, entries x 3 (RGB)."""
    if bits > 8:
        return np.zeros((0, 3), np.uint8)
    largest = 1 << bits
    count = min(colours or largest, largest, len(stored) // entry)
    if not count:
        raise ImageError("corrupt", "the BMP has no palette")
    return np.frombuffer(stored, np.uint8, count * entry).reshape(count, entry)[:, 2::-1]


def decode(data: bytes, header: Header, layout: Layout) -> tuple[NDArray, NDArray | None]:
    """Decode the pixels.

    Returns:
        Pixels, H x W x 3 (RGB) or H x W (grey), and alpha, H x W, or None; uint8.
    """
    width, height = header.width, header.height
    alpha = None
    rows: NDArray
    pixels: NDArray
    if layout.compression in (_RLE8, _RLE4):
        rows = _run_lengths(memoryview(data)[layout.offset :], width, height, layout.compression == _RLE4)
    else:
        stride = _stride(width, layout.bits)
        rows = np.frombuffer(data, np.uint8, stride * height, layout.offset).reshape(height, stride)
    if layout.bottom_up:
        rows = rows[::-1]
    if layout.bits <= 8:
        pixels = _coloured(_indices(rows, width, layout), layout.palette, header.mode)
    elif layout.bits == 24:
        pixels = cv2.cvtColor(np.ascontiguousarray(rows[:, : 3 * width]).reshape(height, width, 3), cv2.COLOR_BGR2RGB)
    else:
        samples = np.ascontiguousarray(rows).view("<u2" if layout.bits == 16 else "<u4")[:, :width]
        pixels = np.dstack([_channel(samples, mask) for mask in layout.masks[:3]])
        alpha = _channel(samples, layout.masks[3]) if layout.masks[3] else None
        if alpha is not None and not alpha.any():
            alpha = None  # writers that fill the bits of alpha with zeros mean an opaque picture
    return pixels, alpha


def _indices(rows: NDArray, width: int, layout: Layout) -> NDArray:
    """Return the entry of the palette of each pixel, H x W, uint8."""
    if layout.bits == 8 or layout.compression == _RLE4:
        return rows[:, :width]
    each = 8 // layout.bits
    shifts = np.arange(8 - layout.bits, -1, -layout.bits, dtype=np.uint8)
    unpacked = rows[:, : -(-width // each), None] >> shifts & ((1 << layout.bits) - 1)
    return unpacked.reshape(len(rows), -1)[:, :width]


def _coloured(indices: NDArray[np.uint8], palette: NDArray[np.uint8], mode: str) -> NDArray[np.uint8]:
    """Look every pixel up in the palette: H x W of a grey one, H x W x 3 of others."""
    if indices.max() >= len(palette):
        raise ImageError(
            "corrupt", f"a pixel of the BMP has colour {indices.max()}, the palette {len(palette)} colours"
        )
    return np.ascontiguousarray(palette[:, 0])[indices] if mode == "L" else palette[indices]


def _channel(samples: NDArray, mask: int) -> NDArray[np.uint8]:
    """Return the bits under a mask, scaled to 0..255, H x W."""
    shift, bits = (mask & -mask).bit_length() - 1, mask.bit_count()
    if bits > 16:
        shift, bits = shift + bits - 16, 16
    highest = (1 << bits) - 1
    values = samples >> shift & highest
    if bits == 8:
        return values.astype(np.uint8)
    return np.rint(np.arange(highest + 1) * (255 / highest)).astype(np.uint8)[values]


def _run_lengths(stored: memoryview, width: int, height: int, halves: bool) -> NDArray[np.uint8]:
    """Decode RLE8, or RLE4 (`halves`), to one byte for each pixel, H x W; pixels that are passed over stay 0."""
    pixels = np.zeros((height, width), np.uint8)
    x = y = position = 0
    while y < height:
        if position + 2 > len(stored):
            if (x, y) == (width, height - 1):
                break
            raise ImageError("truncated", "the BMP ends before its pixels do")
        count, value = stored[position], stored[position + 1]
        position += 2
        if count:  # a run of one value, or of two that take turns
            run = np.resize((value >> 4, value & 15), count) if halves else np.full(count, value)
        elif value == 0:  # end of the row
            x, y = 0, y + 1
            continue
        elif value == 1:  # end of the picture
            break
        elif value == 2:  # a step to the right and on
            x, y, position = x + stored[position], y + stored[position + 1], position + 2
            continue
        else:  # values as they are, filled up to an even number of bytes
            size = (value + 1) // 2 if halves else value
            run = np.frombuffer(stored[position : position + size], np.uint8)
            position += size + size % 2
            if halves:
                run = np.stack((run >> 4, run & 15), axis=1).ravel()[:value]
        if x + len(run) > width:
            raise ImageError("corrupt", "a run of pixels of the BMP goes beyond its row")
        pixels[y, x : x + len(run)] = run
        x += len(run)
    return pixels


def insert(encoded: bytes, metadata: Metadata) -> bytes:
    """Write resolution and colour profile into a BMP."""
    if metadata.dpi:
        x, y = (min(round(value / METRES_PER_INCH), 2**31 - 1) for value in metadata.dpi)
        encoded = encoded[:38] + struct.pack("<ii", x, y) + encoded[46:]
    return _insert_profile(encoded, metadata.icc) if metadata.icc else encoded


def _insert_profile(encoded: bytes, icc: bytes) -> bytes:
    """Put a profile behind the pixels of a BMP, and the header in front that has a place for it."""
    offset, size = struct.unpack_from("<II", encoded, 10)
    header = bytearray(encoded[14 : 14 + size].ljust(_HEADER_WITH_PROFILE, b"\0"))
    palette, rows = encoded[14 + size : offset], encoded[offset:]
    struct.pack_into("<I", header, 0, _HEADER_WITH_PROFILE)
    header[_COLOUR_SPACE : _COLOUR_SPACE + 4] = _EMBEDDED
    struct.pack_into("<II", header, _PROFILE, len(header) + len(palette) + len(rows), len(icc))
    start = 14 + len(header) + len(palette)
    first = b"BM" + struct.pack("<IHHI", start + len(rows) + len(icc), 0, 0, start)
    return b"".join((first, header, palette, rows, icc))
