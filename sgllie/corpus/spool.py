"""Entries of a listing on disk, in order, until they are needed."""

import json
from collections.abc import Iterator
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from sgllie.storage import Entry


class Spool:
    """A temporary file of entries: of a listing of millions, what is planned after the rest."""

    def __enter__(self) -> Self:
        self._file = TemporaryFile("w+", encoding="utf-8")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, entry: Entry) -> None:
        """Append one entry."""
        self._file.write(json.dumps(entry) + "\n")

    def __iter__(self) -> Iterator[Entry]:
        self._file.seek(0)
        for line in self._file:
            yield Entry(*json.loads(line))
