"""How the samples of a TIFF lie in the file, checked against its size. Source: TIFF 6.0, sections 3 to 8 and 15."""

import struct
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import ImageError
from sgllie.images import ifd

IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_BYTE_COUNTS, PLANAR_CONFIGURATION = 273, 277, 278, 279, 284
PREDICTOR, TILE_WIDTH, TILE_LENGTH, TILE_OFFSETS, TILE_BYTE_COUNTS, EXTRA_SAMPLES = 317, 322, 323, 324, 325, 338
SAMPLE_FORMAT, ICC = 339, 34675
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
UNCOMPRESSED = 1
HORIZONTAL = 2
PREMULTIPLIED, ALPHA = 1, 2
CODING = frozenset((COMPRESSION, 266, 292, 293, 320, 332, 336, 347, *range(512, 522), *range(529, 533)))
"""Tags that decoders need besides those of the layout: fill order, options, palette, tables of JPEG, chroma."""
_COLOURS = {WHITE_IS_ZERO: 1, BLACK_IS_ZERO: 1, RGB: 3, PALETTE: 1, CMYK: 4, YCBCR: 3}
_JPEG = 7
_COMPRESSIONS = frozenset((*range(1, 9), 32771, 32773, 32809, 32946, 34925, 50000))
"""What Pillow and its libtiff decode: plain, fax, LZW, JPEG, deflate, PackBits, ThunderScan, LZMA, Zstandard."""
_DEEP_COMPRESSIONS = frozenset((1, 5, 8, 32773, 32946))
"""What cv2 and its libtiff decode of 16 bits."""
_COLOUR_MAP = 320
_FORGIVING = frozenset((2, 3, 4, 6, _JPEG))
"""Compressions (fax, JPEG) whose decoders fill up what is missing at the end, and say nothing."""
_MOST_SAMPLES = 5
_CODING_BYTES = 1 << 20
"""Palettes have 384 kB at most, tables of JPEG 64 kB each."""
_TILE_SIDE = 4096
"""Tiles may be larger than the picture, but not larger than this as well."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How the samples lie in the file.

    Attributes:
        bits: of each sample.
        samples: of each pixel, alpha included.
        photometric: the colour model.
        planar: whether each channel has strips or tiles of its own.
        extra: what the channel behind the colours is, as in the file; None where there is none.
        predictor: 2 where samples are stored as differences from their left neighbours.
        coding: the other fields that tell how the strips or tiles are compressed.
        icc: the colour profile.
        across: columns of a tile; of a strip, those of the picture.
        down: rows of a strip or tile.
        tiled: whether they are tiles.
        offsets: of each strip or tile.
        counts: bytes of each strip or tile.
        cut: whether the file promises more bytes of them than it has.
    """

    bits: int
    samples: int
    photometric: int
    planar: bool
    extra: int | None
    predictor: int
    coding: dict[int, ifd.Field]
    icc: bytes | None
    across: int
    down: int
    tiled: bool
    offsets: NDArray[np.int64]
    counts: NDArray[np.int64]
    cut: bool


def read(first: ifd.Directory) -> tuple[int, int, Layout]:
    """Return width, height and layout of the picture of a directory.

    Raises:
        ImageError: `unsupported` for what is not handled, `truncated` or `corrupt` where pixels are missing.
    """
    width, height = first.number(IMAGE_WIDTH, 0), first.number(IMAGE_LENGTH, 0)
    if width < 1 or height < 1:
        raise ImageError("corrupt", f"the TIFF declares a size of {width} x {height}")
    bits, samples, photometric, extra = _samples(first)
    planar = samples > 1 and first.number(PLANAR_CONFIGURATION, 1) == 2
    tiled = TILE_OFFSETS in first.entries and STRIP_OFFSETS not in first.entries
    across, down = _segment_size(first, width, height, tiled)
    needed = -(-width // across) * -(-height // down) * (samples if planar else 1)
    if needed > ifd.MOST_NUMBERS:
        raise ImageError(
            "unsupported", f"TIFF images of more than {ifd.MOST_NUMBERS:,} strips or tiles are not handled"
        )
    offsets = first.numbers(TILE_OFFSETS if tiled else STRIP_OFFSETS, needed)
    if len(offsets) < needed:
        raise ImageError("corrupt", "the TIFF does not say where all its pixels are")
    if (offsets == 0).any():
        raise ImageError("unsupported", "TIFF images that leave out strips or tiles (sparse) are not handled")
    if offsets.max() >= len(first.data):
        raise ImageError("truncated", "the TIFF ends before its pixels do")
    room = len(first.data) - offsets
    counts = first.numbers(TILE_BYTE_COUNTS if tiled else STRIP_BYTE_COUNTS, needed)
    if len(counts) < needed:  # readers have always done without them
        counts = room
    compression = first.number(COMPRESSION, UNCOMPRESSED)
    if compression not in (_DEEP_COMPRESSIONS if bits == 16 else _COMPRESSIONS):
        raise ImageError("unsupported", f"TIFF images of compression {compression} at {bits} bits are not handled")
    if compression == UNCOMPRESSED and photometric != YCBCR:
        counts = _plain_counts(across, down, height, needed, 1 if planar else samples, bits, tiled)
        if (counts > room).any():
            raise ImageError("truncated", "the TIFF ends before its pixels do")
    cut = bool((counts > room).any())
    if cut and (compression in _FORGIVING or photometric == YCBCR) and not _ends(first.data, offsets, compression):
        raise ImageError("truncated", "the TIFF ends before its pixels do")
    layout = Layout(
        bits=bits,
        samples=samples,
        photometric=photometric,
        planar=planar,
        extra=extra,
        predictor=first.number(PREDICTOR, 1),
        coding=_coding(first),
        icc=profile.value if (profile := first.field(ICC)) else None,
        across=across,
        down=down,
        tiled=tiled,
        offsets=offsets,
        counts=np.minimum(counts, room),
        cut=cut,
    )
    return width, height, layout


def check_claims(data: bytes) -> None:
    """Refuse a TIFF whose first directory makes other readers take far more memory than its pixels need.

    Raises:
        ImageError: it has a tile or a field of an absurd size, or is a BigTIFF, whose fields are not looked at here.
    """
    if data[2:3] == b"+" or data[3:4] == b"+":
        raise ImageError("unsupported", "BigTIFF files are not handled")
    for first in islice(ifd.chain(data, 2), 1):
        _segment_size(first, first.number(IMAGE_WIDTH, 0), first.number(IMAGE_LENGTH, 0), TILE_WIDTH in first.entries)
        for tag, entry in first.entries.items():
            kind, count = struct.unpack_from(f"{first.order}HI", data, entry + 2)
            if count > ifd.MOST_NUMBERS and kind not in (1, 2, 7):  # bytes stay bytes
                raise ImageError("corrupt", f"tag {tag} of the TIFF claims {count:,} values")


def _samples(first: ifd.Directory) -> tuple[int, int, int, int | None]:
    """Return bits, samples, colour model and kind of the extra channel, or say what about them is not handled."""
    samples = first.number(SAMPLES_PER_PIXEL, 1)
    depths = first.numbers(BITS_PER_SAMPLE, min(samples, _MOST_SAMPLES))
    bits = int(depths[0]) if len(depths) else 1
    photometric = first.number(PHOTOMETRIC, BLACK_IS_ZERO)
    if any(value not in (1, 4) for value in first.numbers(SAMPLE_FORMAT, min(samples, _MOST_SAMPLES))):
        raise ImageError("unsupported", "TIFF images of signed or floating-point samples are not handled")
    if bits not in (1, 2, 4, 8, 16) or (depths != bits).any():
        raise ImageError("unsupported", f"TIFF images of {bits} bits are not handled, only those of 1, 2, 4, 8, 16")
    deep = photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
    shallow = photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, PALETTE) and samples == 1
    if photometric not in _COLOURS or (bits == 16 and not deep) or (bits < 8 and not shallow):
        raise ImageError(
            "unsupported",
            f"TIFF images of colour model {photometric} with {samples} channels of {bits} bits are not handled",
        )
    others = samples - _COLOURS[photometric]
    planar_palette = photometric == PALETTE and first.number(PLANAR_CONFIGURATION, 1) == 2
    if others not in (0, 1) or (others and (photometric in (CMYK, YCBCR) or planar_palette)):
        raise ImageError("unsupported", f"TIFF images of {samples} channels in this arrangement are not handled")
    return bits, samples, photometric, first.number(EXTRA_SAMPLES, 0) if others else None


def _coding(first: ifd.Directory) -> dict[int, ifd.Field]:
    """Return the fields that decoders need; a palette of 8 bits, as some writers store it, becomes one of 16."""
    coding: dict[int, ifd.Field] = {}
    for tag in CODING:
        field = first.field(tag)
        if field and len(field.value) > _CODING_BYTES:
            raise ImageError("corrupt", f"tag {tag} of the TIFF has {len(field.value):,} bytes, which makes no sense")
        coding |= {tag: field} if field else {}
    levels = first.numbers(_COLOUR_MAP)
    if len(levels) and levels.max() < 256:
        coding[_COLOUR_MAP] = ifd.integers(first.order, (levels * 257).tolist())
    return coding


def _segment_size(first: ifd.Directory, width: int, height: int, tiled: bool) -> tuple[int, int]:
    """Return columns and rows of a tile or strip, within what a decoder may be asked to hold."""
    if not tiled:
        rows = first.number(ROWS_PER_STRIP, height)
        return width, min(rows, height) if rows > 0 else height
    across, down = first.number(TILE_WIDTH, 0), first.number(TILE_LENGTH, 0)
    if across < 1 or down < 1 or across > max(width + 15, _TILE_SIDE) or down > max(height + 15, _TILE_SIDE):
        raise ImageError("corrupt", f"the TIFF declares tiles of {across} x {down} for {width} x {height} pixels")
    return across, down


def _ends(data: bytes, offsets: NDArray[np.int64], compression: int) -> bool:
    """Tell whether the last strip or tile, if it is a JPEG, has its end marker."""
    return compression == _JPEG and data.find(b"\xff\xd9", int(offsets.max())) >= 0


def _plain_counts(
    across: int, down: int, height: int, needed: int, samples: int, bits: int, tiled: bool
) -> NDArray[np.int64]:
    """Return the bytes of each strip or tile that is not compressed; the last strip may be shorter."""
    row = (across * samples * bits + 7) // 8
    counts = np.full(needed, row * down)
    if not tiled:
        each = -(-height // down)
        counts[each - 1 :: each] = row * (height - down * (each - 1))
    return counts


def plane(layout: Layout, number: int) -> Layout:
    """Return the layout of one channel of a planar file, as that of a grey picture."""
    each = len(layout.offsets) // layout.samples
    part = slice(number * each, (number + 1) * each)
    return replace(
        layout,
        samples=1,
        photometric=BLACK_IS_ZERO,
        planar=False,
        extra=None,
        offsets=layout.offsets[part],
        counts=layout.counts[part],
    )


def paired(layout: Layout) -> Layout:
    """Return the layout of two channels side by side as that of a grey picture of twice the width.

    Differences from the left neighbour would be taken from the other channel, so they stay as they are stored.
    """
    return replace(layout, samples=1, photometric=BLACK_IS_ZERO, extra=None, predictor=1, across=2 * layout.across)


def file_of(data: bytes, width: int, height: int, layout: Layout) -> bytes:
    """Return the file with a directory behind its end that tells this layout and nothing else."""
    order = ifd.byte_order(data)
    numbers: dict[int, tuple[int, ...] | NDArray[np.int64]] = {
        IMAGE_WIDTH: (width,),
        IMAGE_LENGTH: (height,),
        BITS_PER_SAMPLE: (layout.bits,) * layout.samples,
        PHOTOMETRIC: (layout.photometric,),
        SAMPLES_PER_PIXEL: (layout.samples,),
        PLANAR_CONFIGURATION: (2 if layout.planar else 1,),
        TILE_OFFSETS if layout.tiled else STRIP_OFFSETS: layout.offsets,
        TILE_BYTE_COUNTS if layout.tiled else STRIP_BYTE_COUNTS: layout.counts,
    }
    if layout.tiled:
        numbers |= {TILE_WIDTH: (layout.across,), TILE_LENGTH: (layout.down,)}
    else:
        numbers[ROWS_PER_STRIP] = (layout.down,)
    if layout.predictor != 1:
        numbers[PREDICTOR] = (layout.predictor,)
    if layout.extra is not None:
        numbers[EXTRA_SAMPLES] = (ALPHA,)
    fields = layout.coding | {tag: ifd.integers(order, values) for tag, values in numbers.items()}
    padding = b"\0" * (len(data) % 2)
    start = len(data) + len(padding)
    link = start.to_bytes(4, "little" if order == "<" else "big")
    return b"".join((data[:4], link, memoryview(data)[8:], padding, ifd.write(order, fields, start)))
