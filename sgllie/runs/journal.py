"""What is known of a shard before it is done: how often it was begun, and the rows of items that are finished.

    OUT/.partial/shard-00042/attempt-1          written when the shard is begun
    OUT/.partial/shard-00042/rows-1-0.parquet   rows of finished items, every few seconds
    OUT/.partial/shard-00042/left-1             written when an attempt ended for what is no fault of an item

A worker that finds an earlier attempt takes over its rows; and where that has not said so, it knows that one of the
remaining items may have killed the process. All of it is removed when the shard is committed.
"""

import contextlib
import math
import re
import time
from collections.abc import Container, Iterator, Sequence

import pyarrow as pa

from sgllie.errors import DamagedError, DeviceError, LeavingError, StorageError
from sgllie.runs.schemas import Row
from sgllie.runs.tables import read_rows, row_bytes
from sgllie.storage import SCRATCH, Storage

FLUSH_SECONDS = 2.0


class Journal:
    """The journal of one shard in the output storage.

    Attributes:
        attempt: 1 for the first time that the shard is begun.
        deaths: how many attempts before this one ended without being asked to.
        deaths_without_progress: how many of them, in a row, ended without one finished item.
        rows: those of earlier attempts and of this one.
    """

    def __init__(self, output: Storage, shard: int, schema: pa.Schema) -> None:
        self._output = output
        self._schema = schema
        self._folder = folder_of(shard)
        self.rows: list[Row] = []
        self._unsaved: list[Row] = []
        self._saved_parts = 0
        self.attempt, self.deaths, self.deaths_without_progress = self._take_over()
        # Where workers die young, one item is progress that must be known: an attempt without any blames the items.
        self._saved_at = -math.inf if self.deaths else time.monotonic()
        self._output.write(f"{self._folder}/attempt-{self.attempt}", b"")

    def _take_over(self) -> tuple[int, int, int]:
        """Read the rows of earlier attempts; return the number of this one, of deaths, and of those after the rows."""
        begun, left = set[int](), set[int]()
        last_with_rows = 0
        for entry in self._output.list(self._folder):
            name = re.fullmatch(r"(attempt|left|rows)-(\d{1,4})(-\d+\.parquet)?", entry.path)
            if not name:
                continue
            attempt = int(name[2])
            (left if name[1] == "left" else begun).add(attempt)
            if name[1] == "rows":
                last_with_rows = max(last_with_rows, attempt)
                # It may be damaged, or gone with a worker that was taken for dead and has just committed.
                with contextlib.suppress(DamagedError):
                    self.rows += read_rows(self._output, f"{self._folder}/{entry.path}", self._schema)
        died = begun - left - {0}  # of which `replace_rows` makes rows
        return max(begun, default=0) + 1, len(died), sum(attempt > last_with_rows for attempt in died)

    def add(self, row: Row) -> None:
        """Note one finished item; it is saved within a few seconds."""
        self.rows.append(row)
        self._unsaved.append(row)
        if time.monotonic() - self._saved_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Save the rows that are not saved yet."""
        if self._unsaved:
            name = f"{self._folder}/rows-{self.attempt}-{self._saved_parts}.parquet"
            self._output.write(name, row_bytes(self._unsaved, self._schema))
            self._unsaved = []
            self._saved_parts += 1
        self._saved_at = time.monotonic()

    @contextlib.contextmanager
    def attempted(self) -> Iterator[None]:
        """Save the rows where the block ends early, and that no item is to blame for it, unless one may be.

        One may be what a GPU failed at, or what took too long; not why a worker was told to end, or could not go on.
        """
        try:
            yield
        except DeviceError:
            self.flush()
            raise
        except LeavingError:
            self._leave()
            raise
        except (StorageError, RuntimeError):  # such as want of threads
            with contextlib.suppress(StorageError):  # the output may be what is gone
                self._leave()
            raise

    def _leave(self) -> None:
        try:
            self.flush()
        finally:  # on a full disk there is room for this
            self._output.write(f"{self._folder}/left-{self.attempt}", b"")

    def remove(self) -> None:
        """Forget the shard, once it is committed."""
        self._output.remove(self._folder)


def folder_of(shard: int) -> str:
    """Return where the journal of a shard lies."""
    return f"{SCRATCH}/shard-{shard:05d}"


def replace_rows(output: Storage, shard: int, schema: pa.Schema, rows: Sequence[Row], without: Container[str]) -> None:
    """Add rows to the journal of a shard, as of an attempt before the first; those of some paths are left out of it.

    Args:
        output: of the run.
        shard: which is not at work.
        schema: of the rows.
        rows: what is added.
        without: the paths.
    """
    folder = folder_of(shard)
    known: list[Row] = []
    for entry in list(output.list(folder)):
        if entry.path.startswith("rows-"):
            with contextlib.suppress(DamagedError):
                known += read_rows(output, f"{folder}/{entry.path}", schema)
            output.remove(f"{folder}/{entry.path}")
    left = {row["path"]: row for row in (*known, *rows) if row["path"] not in without}
    output.write(f"{folder}/rows-0-0.parquet", row_bytes(left.values(), schema))
