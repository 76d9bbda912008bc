"""What is known of a file that one worker writes, before it is whole: parts of it, and the rows of each.

    OUT/.partial/shard-00042-1f0c9a3e/pack-7/attempt-1          written when the file is begun
    OUT/.partial/shard-00042-1f0c9a3e/pack-7/data-1-0-0-17-6543 blocks 0 to 16 of it in 6,543 bytes, by attempt 1
    OUT/.partial/shard-00042-1f0c9a3e/pack-7/rows-1-0.parquet   the rows of the images in them, written just after

A part counts when its rows are there and it has all its bytes, and only if the parts before it do. A worker that was
taken for dead may still be writing; since its parts carry the number of its attempt, the rows and the bytes that are
taken over are always its own or those of another, never a mixture.
"""

import contextlib
import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from sgllie.errors import DamagedError
from sgllie.runs.journal import Journal
from sgllie.runs.schemas import Row
from sgllie.runs.tables import read_rows


class Segment(NamedTuple):
    """A part of a file: who wrote it, the numbers of its first block and of the one behind it, and its bytes."""

    attempt: int
    number: int
    first: int
    end: int
    size: int

    @property
    def name(self) -> str:
        """What it is called in the folder of its shard."""
        return f"data-{self.attempt}-{self.number}-{self.first}-{self.end}-{self.size}"

    @property
    def rows_name(self) -> str:
        """What the table of its rows is called."""
        return f"rows-{self.attempt}-{self.number}.parquet"


class Segments(Journal):
    """The journal of a part of a shard that writes one file, whose rows are not held in memory.

    Attributes:
        end: the number of the block behind the last one that is saved.
    """

    def _begin(self) -> None:
        """Take a number, and over what earlier attempts have saved of the file."""
        self.rows.clear()
        self.end = 0
        self._data = bytearray()
        self._blocks = 0
        self._segments: list[Segment] = []
        super()._begin()
        found = self._found()
        while following := [segment for segment in found if segment.first == self.end]:
            segment = max(following)
            found.remove(segment)
            with contextlib.suppress(DamagedError):
                self._rows_of(segment)
                self._append(segment)

    def _found(self) -> list[Segment]:
        """Return the segments of earlier attempts."""
        sizes = {entry.path: entry.size for entry in self._output.list(self._folder)}
        numbers = (map(int, name.split("-")[1:]) for name in sizes if re.fullmatch(r"data(-\d+){5}", name))
        return [segment for segment in itertools.starmap(Segment, numbers) if segment.size == sizes.get(segment.name)]

    def _rows_of(self, segment: Segment) -> list[Row]:
        return read_rows(self._output, f"{self._folder}/{segment.rows_name}", self._schema)

    def _append(self, segment: Segment) -> None:
        self._segments.append(segment)
        self.end = segment.end

    @property
    def is_awaited(self) -> bool:
        """Tell whether any progress must be saved soon: where workers die young, an attempt without it blames items."""
        return self.deaths > 0 and self._saved_parts == 0

    @property
    def unsaved_bytes(self) -> int:
        """Bytes of the blocks that are not saved yet."""
        return len(self._data)

    def add_block(self, data: bytes, rows: list[Row]) -> None:
        """Note the next block, and the rows of its images; `flush` saves it."""
        self._data += data
        self._unsaved += rows
        self._blocks += 1

    def flush(self) -> None:
        """Save the blocks that are not saved yet, and the rows of their images."""
        if not self._blocks:
            return
        segment = Segment(self.attempt, self._saved_parts, self.end, self.end + self._blocks, len(self._data))
        self._output.write(f"{self._folder}/{segment.name}", bytes(self._data))
        self._save(segment.rows_name, self._unsaved)
        self._data, self._unsaved, self._blocks = bytearray(), [], 0
        self._saved_parts += 1
        self._append(segment)

    def complete(self) -> None:
        """Have the whole file, which is written, reach its disk before its rows count."""
        self._output.commit(f"{self._folder}/complete", b"")

    def all_rows(self) -> list[Row]:
        """Return the rows of the images in all blocks, saved or not."""
        return [row for segment in self._segments for row in self._rows_of(segment)] + self._unsaved

    def data(self) -> Iterator[bytes]:
        """Yield all blocks, a segment at a time; DamagedError where one is gone."""
        for segment in self._segments:
            name = f"{self._folder}/{segment.name}"
            try:
                data = self._output.read(name)
            except FileNotFoundError as error:
                raise DamagedError(f"{self._output.uri}/{name} is not there any more") from error
            yield data
        yield bytes(self._data)
