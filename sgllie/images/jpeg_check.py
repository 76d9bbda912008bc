"""Whether the compressed data of a JPEG fill its picture exactly, for decoders that do not tell.

The codes are followed from block to block without decoding a pixel. Source: ITU-T T.81, annexes B, C and F.
"""

import re
import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from sgllie.kernel import exact_kernel

_TABLES, _RESTART_INTERVAL, _START_OF_SCAN = 0xC4, 0xDD, 0xDA
_SEQUENTIAL = (0xC0, 0xC1)
_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")
_OTHER_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


def is_whole(data: bytes, segments: Iterable[tuple[int, int, int]]) -> bool:
    """Tell whether no compressed bytes are missing, left over or impossible to decode.

    Progressive files, and those with a scan for each component, cannot be followed without decoding them, and count as
    whole.

    Args:
        data: the file.
        segments: marker, start and end of each segment from the beginning.
    """
    tables = np.zeros((8, 1 << 16), np.uint16)
    frame, interval = b"", 0
    for marker, start, end in segments:
        body = data[start + 4 : end]
        if marker == _TABLES:
            _add_tables(tables, body)
        elif marker == _RESTART_INTERVAL:
            interval = int.from_bytes(body[:2])
        elif marker in _SEQUENTIAL:
            frame = body
        elif marker == _START_OF_SCAN:
            break
    if not frame or body[0] != frame[5]:
        return True
    dc, ac, units = _blocks(frame, body)
    stop = _OTHER_MARKER.search(data, end)
    parts = _RESTART.split(data[end : stop.start() if stop else len(data)])
    each = interval or units
    if len(parts) != -(-units // each):
        return False
    counts = [each] * (len(parts) - 1) + [units - each * (len(parts) - 1)]
    return all(_fits(part, tables, dc, ac, count) for part, count in zip(parts, counts, strict=True))


def _add_tables(tables: NDArray[np.uint16], body: bytes) -> None:
    """Enter Huffman tables: length and symbol of the code that each 16 bits begin with, 0 where there is none.

    The first four rows are for DC, the others for AC.
    """
    place = 0
    while place + 17 <= len(body):
        row = tables[(body[place] >> 4 & 1) * 4 + (body[place] & 3)]
        lengths = body[place + 1 : place + 17]
        row[:] = 0
        code, symbol = 0, place + 17
        for length, count in enumerate(lengths, 1):
            span = 1 << (16 - length)
            for value in body[symbol : symbol + count]:
                row[code : code + span] = length << 8 | value
                code += span
            symbol += count
        place = symbol


def _blocks(frame: bytes, scan: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Return the rows of the tables for each block of a unit (MCU), and the number of units in the picture."""
    height, width, components = struct.unpack_from(">HHB", frame, 1)
    factors = {frame[6 + 3 * i]: (frame[7 + 3 * i] >> 4, frame[7 + 3 * i] & 15) for i in range(components)}
    if components == 1:
        factors = {frame[6]: (1, 1)}  # what stands alone is stored row by row
    dc: list[int] = []
    ac: list[int] = []
    for i in range(components):
        across, down = factors[scan[1 + 2 * i]]
        dc += [scan[2 + 2 * i] >> 4 & 3] * (across * down)
        ac += [4 + (scan[2 + 2 * i] & 3)] * (across * down)
    most_across, most_down = (max(factor[side] for factor in factors.values()) for side in (0, 1))
    units = -(-width // (8 * most_across)) * -(-height // (8 * most_down))
    return np.array(dc), np.array(ac), units


def _fits(part: bytes, tables: NDArray[np.uint16], dc: NDArray[np.int64], ac: NDArray[np.int64], units: int) -> bool:
    """Tell whether compressed bytes up to a marker hold exactly this number of units."""
    # Bytes 0xFF before a marker fill up, and some cameras add zeros; in the data 0xFF is followed by a 0.
    stream = np.frombuffer(part.rstrip(b"\xff").replace(b"\xff\0", b"\xff") + bytes(4), np.uint8)
    used = (_used_bits(stream, len(stream) - 4, tables, dc, ac, units) + 7) // 8
    return used > 0 and not stream[used:].any()


@exact_kernel
def _used_bits(
    stream: NDArray[np.uint8],
    size: int,
    tables: NDArray[np.uint16],
    dc: NDArray[np.int64],
    ac: NDArray[np.int64],
    units: int,
) -> int:
    """Follow the codes of so many units; return the bits that they take, or -1 where they lead nowhere."""
    position = 0
    for _ in range(units):
        for block in range(len(dc)):
            table, coefficient = dc[block], 0
            while coefficient < 64:
                byte = position >> 3
                three = int(stream[byte]) << 16 | int(stream[byte + 1]) << 8 | int(stream[byte + 2])
                entry = int(tables[table, three >> (8 - (position & 7)) & 0xFFFF])
                run, bits = entry >> 4 & 15, entry & 15
                position += (entry >> 8) + bits
                if entry >> 8 == 0 or position > 8 * size:
                    return -1
                if coefficient == 0:
                    coefficient, table = 1, ac[block]
                elif bits == 0 and run != 15:
                    break
                else:
                    coefficient += run + 1
            if coefficient > 64:
                return -1
    return position
