"""An object of a remote storage as a file that can seek."""

import io
from collections.abc import Callable
from typing import Any

READ_BYTES = 4 * 2**20
"""Bytes of a request for a part of an object."""


class ObjectFile(io.RawIOBase):
    """An object as a file: each read is a request for a range of its bytes.

    Args:
        read_range: returns the bytes of an object from one position up to, but not including, another.
        path: of the object.
        size: its bytes.
    """

    def __init__(self, read_range: Callable[[str, int, int], bytes], path: str, size: int) -> None:
        self._read_range, self._path, self._size = read_range, path, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        end = min(self._position + len(buffer), self._size)
        if self._position >= end:
            return 0
        data = self._read_range(self._path, self._position, end)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)
