"""Entries of a listing on disk, in order, until they are needed."""

import json
from array import array
from collections.abc import Iterable, Iterator
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from sgllie.storage import Entry


class Spool:
    """A temporary file of entries: of a listing of millions, what is planned after the rest; 8 bytes of each stay."""

    def __enter__(self) -> Self:
        self._file = TemporaryFile()
        self._places = array("Q")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, entry: Entry) -> None:
        """Append one entry."""
        self._places.append(self._file.tell())
        self._file.write(json.dumps(entry).encode() + b"\n")

    def __iter__(self) -> Iterator[Entry]:
        self._file.seek(0)
        for line in self._file:
            yield Entry(*json.loads(line))

    def in_order(self, order: Iterable[int]) -> Iterator[Entry]:
        """Yield entries by their numbers."""
        for number in order:
            self._file.seek(self._places[number])
            yield Entry(*json.loads(self._file.readline()))
