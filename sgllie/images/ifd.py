"""Directories of TIFF files and EXIF blocks: their fields as bytes, read where they stand and written again.

Nothing is interpreted that need not be, so that text of any encoding and private tags survive. Source of the layout:
TIFF 6.0, section 2.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import ImageError

EXIF, GPS, INTEROPERABILITY = 34665, 34853, 40965
_NESTED = frozenset((EXIF, GPS, INTEROPERABILITY))
_SHORT, _LONG, _POINTER = 3, 4, 13
_UTF8 = 129  # text of EXIF 3.0
_SIZES = {1: 1, 2: 1, _SHORT: 2, _LONG: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, _POINTER: 4, _UTF8: 1}
_INTEGERS = {1: "u1", _SHORT: "u2", _LONG: "u4", _POINTER: "u4"}

MOST_NUMBERS = 1 << 20
"""Of one field that are looked at: more than any picture has strips, and few enough to cost no memory."""


class Field(NamedTuple):
    """One field: its type, the number of its values, and these in the byte order of the file."""

    kind: int
    length: int
    value: bytes


Fields = Mapping[int, "Field | Fields"]
"""The fields of a directory by tag; nested directories are mappings themselves."""


@dataclass(frozen=True, slots=True)
class Directory:
    """A directory in a file, of which each field is read when it is asked for.

    Attributes:
        data: the file.
        order: `<` or `>`.
        entries: where the entry of each tag stands.
        next: offset of the directory that follows, or 0.
    """

    data: bytes
    order: str
    entries: dict[int, int]
    next: int

    def field(self, tag: int, most: int | None = None) -> Field | None:
        """Return a field, or its first values; None where it is absent, of an unknown type, or beyond the file."""
        if tag not in self.entries:
            return None
        entry = self.entries[tag]
        kind, count = struct.unpack_from(f"{self.order}HI", self.data, entry + 2)
        size = _SIZES.get(kind, 0) * count
        place = entry + 8
        if size > 4:
            (place,) = struct.unpack_from(f"{self.order}I", self.data, place)
        if not size or place + size > len(self.data):
            return None
        if most is not None and most < count:
            count, size = most, _SIZES[kind] * most
        return Field(kind, count, self.data[place : place + size])

    def numbers(self, tag: int, most: int = MOST_NUMBERS) -> NDArray[np.int64]:
        """Return the integers of a field, at most so many; none where it is absent.

        Raises:
            ImageError: `corrupt` where the field is of another type.
        """
        field = self.field(tag, most)
        if field is None:
            return np.zeros(0, np.int64)
        if field.kind not in _INTEGERS:
            raise ImageError("corrupt", f"tag {tag} of the TIFF is not a number")
        return np.frombuffer(field.value, self.order + _INTEGERS[field.kind]).astype(np.int64)

    def number(self, tag: int, default: int) -> int:
        """Return the first integer of a field, or the default where it is absent."""
        numbers = self.numbers(tag, 1)
        return int(numbers[0]) if len(numbers) else default

    def text(self, tag: int, limit: int) -> bytes:
        """Return the first bytes of a field, whatever their type."""
        field = self.field(tag, limit)
        return field.value[:limit] if field else b""


def byte_order(data: bytes) -> str:
    """Return the byte order of a TIFF as `struct` and numpy write it."""
    return "<" if data[:2] == b"II" else ">"


def read(data: bytes, offset: int) -> Directory:
    """Find the entries of the directory at an offset; of equal tags the first counts.

    Raises:
        struct.error: the file ends inside the directory.
    """
    order = byte_order(data)
    (count,) = struct.unpack_from(f"{order}H", data, offset)
    tags = struct.unpack_from(order + "H10x" * count, data, offset + 2)
    entries: dict[int, int] = {}
    for number, tag in enumerate(tags):
        entries.setdefault(tag, offset + 2 + 12 * number)
    end = offset + 2 + 12 * count
    following = struct.unpack_from(f"{order}I", data, end)[0] if end + 4 <= len(data) else 0
    return Directory(data, order, entries, following)


def chain(data: bytes, limit: int) -> Iterator[Directory]:
    """Read the directories of a file one after the other, up to the first that is damaged.

    Raises:
        struct.error: the file ends inside the first.
        ImageError: `multi_frame` where there are more than the limit.
    """
    offset = int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big")
    seen: set[int] = set()
    while offset and offset not in seen:
        if len(seen) == limit:
            raise ImageError("multi_frame", f"the TIFF has more than {limit} pages; only single images are handled")
        try:
            directory = read(data, offset)
        except struct.error:
            if seen:
                return
            raise
        seen.add(offset)
        yield directory
        offset = directory.next


def fields(directory: Directory, left_out: frozenset[int] = frozenset()) -> dict[int, "Field | Fields"]:
    """Return all fields, those of nested directories included; fields that are damaged are lost.

    Raises:
        ImageError: `corrupt` where the fields, which may overlap, have more bytes than the file.
    """
    found: dict[int, Field | Fields] = {}
    room = len(directory.data)
    for tag in directory.entries:
        if tag in left_out:
            continue
        if tag in _NESTED:
            found |= _nested(directory, tag)
            continue
        field = directory.field(tag)
        if field:
            room -= len(field.value)
            found[tag] = field
        if room < 0:
            raise ImageError("corrupt", "the tags of the TIFF claim more bytes than the file has")
    return found


def _nested(directory: Directory, tag: int) -> dict[int, "Field | Fields"]:
    """Return the fields of a nested directory under its tag; nothing where it is damaged."""
    try:
        # A nested directory that holds its own pointer would lead in circles.
        inner = read(directory.data, directory.number(tag, 0))
        left_out = frozenset((EXIF, GPS) if tag == EXIF else _NESTED)
        return {tag: fields(inner, left_out)}
    except (struct.error, ImageError):
        return {}


Numbers = list[int] | tuple[int, ...] | NDArray[np.int64]


def longs(order: str, values: Numbers) -> Field:
    """Make a field of type LONG."""
    return Field(_LONG, len(values), np.asarray(values).astype(order + "u4").tobytes())


def integers(order: str, values: Numbers) -> Field:
    """Make a field of type SHORT where every value fits, as readers expect it of most tags, else of type LONG."""
    if max(values) >= 1 << 16:
        return longs(order, values)
    return Field(_SHORT, len(values), np.asarray(values).astype(order + "u2").tobytes())


def write(order: str, fields: Fields, start: int) -> bytes:
    """Write a directory for the offset `start`, an even one, with its values and nested directories behind it."""
    entries, values = [], bytearray()
    place = start + 2 + 12 * len(fields) + 4
    for tag in sorted(fields):
        field = fields[tag]
        if isinstance(field, Field):
            kind, count, value = field
        else:
            kind, count, value = _LONG, 1, write(order, field, place + len(values))
        if isinstance(field, Field) and len(value) <= 4:
            inline = value.ljust(4, b"\0")
        else:
            inline = struct.pack(f"{order}I", place + len(values))
            values += value + b"\0" * (len(value) % 2)
        entries.append(struct.pack(f"{order}HHI", tag, kind, count) + inline)
    return b"".join((struct.pack(f"{order}H", len(fields)), *entries, bytes(4), values))


def block(order: str, fields: Fields) -> bytes:
    """Write a TIFF of one directory and nothing else, which is what an EXIF block is."""
    return {"<": b"II*\0\x08\0\0\0", ">": b"MM\0*\0\0\0\x08"}[order] + write(order, fields, 8)
