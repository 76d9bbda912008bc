"""The few values inside an EXIF block (a TIFF structure) that must change when the pixels do.

Values are patched where they stand: everything else in the block, maker notes with absolute offsets included, keeps its
bytes and its place. A damaged block is carried as it is; it never fails an image. Source of the layout: EXIF 2.32
(CIPA DC-008), section 4.
"""

import struct

from sgllie.images import ifd

ORIENTATION = 0x0112
X_RESOLUTION, Y_RESOLUTION, RESOLUTION_UNIT = 0x011A, 0x011B, 0x0128
PIXEL_X_DIMENSION, PIXEL_Y_DIMENSION = 0xA002, 0xA003
_INTEGERS = {1: "B", 3: "H", 4: "I"}


def orientation(tiff: bytes) -> int:
    """Return the Orientation tag, 1 to 8; 1 where it is absent or makes no sense."""
    try:
        order, entries, _ = _directory(tiff)
        value = _integer(tiff, order, entries[ORIENTATION])
    except (struct.error, KeyError):
        return 1
    return value if 1 <= value <= 8 else 1


def resolution(tiff: bytes) -> tuple[float, float] | None:
    """Return horizontal and vertical resolution in dots per inch, where the block tells both."""
    try:
        order, entries, _ = _directory(tiff)
        unit = _integer(tiff, order, entries[RESOLUTION_UNIT]) if RESOLUTION_UNIT in entries else 2
        per_inch = {2: 1.0, 3: 2.54}[unit]
        x, y = (_rational(tiff, order, entries[tag]) * per_inch for tag in (X_RESOLUTION, Y_RESOLUTION))
    except (struct.error, KeyError, ZeroDivisionError):
        return None
    return (x, y) if x > 0 and y > 0 else None


def refreshed(tiff: bytes, *, upright: bool) -> bytes:
    """Return the block as it must accompany changed pixels.

    The link to the thumbnail is cut, since it would still show the old picture. With `upright` (the pixels have been
    turned) Orientation becomes 1, and the dimensions are exchanged where the turn exchanged them.
    """
    try:
        order, entries, link = _directory(tiff)
        block = bytearray(tiff)
        struct.pack_into(f"{order}I", block, link, 0)
        if upright and ORIENTATION in entries:
            turned = orientation(tiff) >= 5
            _put_integer(block, order, entries[ORIENTATION], 1)
            if turned and ifd.EXIF in entries:
                _exchange_dimensions(block, order, _integer(tiff, order, entries[ifd.EXIF]))
    except (struct.error, KeyError):
        return tiff
    return bytes(block)


def _directory(tiff: bytes, offset: int | None = None) -> tuple[str, dict[int, int], int]:
    """Return byte order, the position of each tag's entry, and the position of the link to the next directory."""
    order = {b"II": "<", b"MM": ">"}[bytes(tiff[:2])]
    if offset is None:
        (offset,) = struct.unpack_from(f"{order}I", tiff, 4)
    (count,) = struct.unpack_from(f"{order}H", tiff, offset)
    tags = struct.unpack_from(order + "H10x" * count, tiff, offset + 2)
    return order, {tag: offset + 2 + 12 * i for i, tag in enumerate(tags)}, offset + 2 + 12 * count


def _integer_code(tiff: bytes | bytearray, order: str, entry: int) -> str:
    (kind,) = struct.unpack_from(f"{order}H", tiff, entry + 2)
    return order + _INTEGERS[kind]


def _integer(tiff: bytes | bytearray, order: str, entry: int) -> int:
    return struct.unpack_from(_integer_code(tiff, order, entry), tiff, entry + 8)[0]


def _put_integer(block: bytearray, order: str, entry: int, value: int) -> None:
    struct.pack_into(_integer_code(block, order, entry), block, entry + 8, value)


def _rational(tiff: bytes, order: str, entry: int) -> float:
    (place,) = struct.unpack_from(f"{order}I", tiff, entry + 8)
    numerator, denominator = struct.unpack_from(f"{order}II", tiff, place)
    return numerator / denominator


def _exchange_dimensions(block: bytearray, order: str, offset: int) -> None:
    _, entries, _ = _directory(bytes(block), offset)
    x, y = entries[PIXEL_X_DIMENSION], entries[PIXEL_Y_DIMENSION]
    # Type, count and value move together: the two entries may be of different integer types.
    block[x + 2 : x + 12], block[y + 2 : y + 12] = block[y + 2 : y + 12], block[x + 2 : x + 12]
