"""Whether a TIFF holds more pictures than its first directory shows."""

import math
import re
import struct

from sgllie.errors import ImageError
from sgllie.images import ifd
from sgllie.images.tiff_layout import (
    BITS_PER_SAMPLE,
    COMPRESSION,
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    SAMPLES_PER_PIXEL,
    STRIP_OFFSETS,
    UNCOMPRESSED,
)

_DESCRIPTION = 270
_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _SUB_DIRECTORIES = 254, 255, 330
_DEPTH, _METAMORPH_PLANES, _DNG_VERSION = 32997, 33629, 50706
_REDUCED, _OLD_REDUCED = 1, 2
_LIMIT = 64
"""Directories that are looked at: a picture has a few smaller copies of itself, not thousands."""
_DESCRIPTION_BYTES = 1 << 16


def read_first(data: bytes) -> ifd.Directory:
    """Return the first directory of a TIFF that shows one picture, besides smaller copies of it.

    Raises:
        ImageError: `multi_frame` for several pictures, in whatever way they are kept; `unsupported` where the first
            is only the preview of another.
    """
    directories = list(ifd.chain(data, _LIMIT))
    if not directories:
        raise ImageError("corrupt", "the TIFF has no directory")
    first, *others = directories
    if _DNG_VERSION in first.entries or data[8:10] == b"CR":
        raise ImageError("unsupported", "the file is a raw photograph, which is not handled")
    others += _sub_directories(first)
    if others and _is_reduced(first):
        raise ImageError("unsupported", "the first picture of the TIFF is only a preview of another")
    pages = 1 + sum(not _is_reduced(other) for other in others)
    if pages == 1 and any(_pixels(other) > _pixels(first) for other in others):
        raise ImageError("unsupported", "the first picture of the TIFF is smaller than another in it")
    pages = max(pages, _planes(data, first))
    if pages > 1:
        raise ImageError("multi_frame", f"the TIFF has {pages} pages; only single images are handled")
    return first


def _sub_directories(first: ifd.Directory) -> list[ifd.Directory]:
    found = []
    for offset in first.numbers(_SUB_DIRECTORIES, _LIMIT):
        try:
            found.append(ifd.read(first.data, int(offset)))
        except struct.error:
            continue
    return found


def _is_reduced(directory: ifd.Directory) -> bool:
    """Tell whether a directory says that it holds a smaller copy of another."""
    reduced = directory.number(_NEW_SUBFILE_TYPE, 0) & _REDUCED
    return bool(reduced) or directory.number(_SUBFILE_TYPE, 0) == _OLD_REDUCED


def _pixels(directory: ifd.Directory) -> int:
    return directory.number(IMAGE_WIDTH, 0) * directory.number(IMAGE_LENGTH, 0)


def _planes(data: bytes, first: ifd.Directory) -> int:
    """Return the number of pictures that one directory stands for.

    Microscopes and ImageJ write the pixels of a stack behind each other, and tell their number elsewhere. Text may
    outlive the stack that it was written for, so it counts only where the file has room for a second picture.
    """
    metamorph = first.field(_METAMORPH_PLANES)
    planes = max(first.number(_DEPTH, 1), metamorph.length if metamorph else 1)
    samples, bits = first.number(SAMPLES_PER_PIXEL, 1), first.number(BITS_PER_SAMPLE, 1)
    size = (first.number(IMAGE_WIDTH, 0) * samples * bits + 7) // 8 * first.number(IMAGE_LENGTH, 0)
    start = min(first.numbers(STRIP_OFFSETS), default=len(data))
    if first.number(COMPRESSION, UNCOMPRESSED) == UNCOMPRESSED and size and len(data) - start >= 2 * size:
        description = first.text(_DESCRIPTION, _DESCRIPTION_BYTES)
        planes = max(planes, _described(description, _pixels(first) * samples, samples))
    return planes


def _described(description: bytes, values: int, samples: int) -> int:
    """Return the number of pictures that a description tells: of ImageJ, tifffile or OME.

    Args:
        description: the text.
        values: numbers in one picture.
        samples: channels of one picture.
    """
    if description.startswith(b"ImageJ="):
        told = re.search(rb"^images=(\d{1,9})\s*$", description, re.MULTILINE)
        return int(told[1]) if told else 1
    shape = re.match(rb'(?:\{"shape": ?\[|shape=\()([\d, ]+)[\])]', description)
    if shape:
        sides = [int(side) for side in re.findall(rb"\d{1,9}", shape[1])]
        return math.prod(sides) // values
    if b"<OME" in description:
        sizes = dict(re.findall(rb'\bSize([ZCT])="(\d{1,9})"', description))
        return math.prod(int(size) for size in sizes.values()) // samples
    return 1
