"""Whether a file ends before its container does, from the sizes that the container's outermost parts promise.

MP4 and QuickTime: ISO/IEC 14496-12, 4.2. Matroska: RFC 8794, 4 and RFC 9559, 5.1. AVI: RIFF, as of Microsoft, 1991.
"""

import os
from typing import BinaryIO

MOST_BOXES = 64
"""Boxes of an MP4 file that are looked at: a fragmented one may have thousands."""
EBML, SEGMENT = bytes.fromhex("1a45dfa3"), bytes.fromhex("18538067")


def is_cut_off(file: BinaryIO) -> bool:
    """Tell whether a file holds fewer bytes than it promises; False for formats that promise nothing."""
    size = file.seek(0, os.SEEK_END)
    head = read_at(file, 0, 12)
    if head.startswith(b"RIFF") and head[8:] == b"AVI ":
        return 8 + int.from_bytes(head[4:8], "little") > size
    if head.startswith(EBML):
        return end_of_segment(file) > size
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return end_of_boxes(file, size) > size
    return False


def read_at(file: BinaryIO, position: int, count: int) -> bytes:
    """Return bytes from a position on, fewer where the file ends."""
    file.seek(position)
    return file.read(count)


def end_of_boxes(file: BinaryIO, size: int) -> int:
    """Return where the last of an MP4 file's outermost boxes ends."""
    position = 0
    for _ in range(MOST_BOXES):
        head = read_at(file, position, 16)
        if len(head) < 8 or position >= size:
            break
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: up to the end of the file
            break
        position += length
    return position


def end_of_segment(file: BinaryIO) -> int:
    """Return where the segment of a Matroska file ends, which holds all but its header; 0 where it does not tell."""
    _, header_size, position = read_size(file, 0)
    identity, size, position = read_size(file, position + (header_size or 0))
    return position + size if identity == SEGMENT and size is not None else 0


def read_size(file: BinaryIO, position: int) -> tuple[bytes, int | None, int]:
    """Return identity and size of an element of EBML with an identity of four bytes, and where its content begins.

    The number of leading zeros of a size's first byte tells how many bytes follow; all ones mean that it is unknown.
    """
    head = read_at(file, position, 12).ljust(12, b"\0")
    following = 8 - head[4].bit_length()
    if following > 7:
        return head[:4], None, position + 12
    bits = 7 * (following + 1)
    size = int.from_bytes(head[4 : 5 + following], "big") & ((1 << bits) - 1)
    return head[:4], None if size == (1 << bits) - 1 else size, position + 5 + following
