"""What is known of a shard before it is done: how often it was begun, and the rows of items that are finished.

    OUT/.partial/shard-00042-1f0c9a3e/attempt-1         written when the shard is begun
    OUT/.partial/shard-00042-1f0c9a3e/rows-1-0.parquet  rows of finished items, every few seconds
    OUT/.partial/shard-00042-1f0c9a3e/left-1            written when an attempt ended for what is no fault of an item

A worker that finds an earlier attempt takes over its rows; and where that has not said so, it knows that one of the
remaining items may have killed the process. All of it is removed when the shard is committed. The name of the folder
ends with the id of the run: what late workers of an earlier run write there, the next one never takes for its own.
"""

import contextlib
import math
import re
import threading
import time
import uuid
from collections.abc import Container, Iterator, Sequence

import pyarrow as pa

from sgllie.errors import DamagedError, DeviceError, LeavingError, ReplacedError, StorageError, UnreachableError
from sgllie.runs.run_file import Identity, identity_of
from sgllie.runs.schemas import Row
from sgllie.runs.tables import read_rows, row_bytes
from sgllie.storage import SCRATCH, Storage

FLUSH_SECONDS = 2.0
LEAVE_SECONDS = 20.0
"""For the last words to a storage that may be the one that is gone: its patience has been waited for already."""


class Journal:
    """The journal of one shard in the output storage.

    Attributes:
        attempt: 1 for the first time that the shard is begun.
        deaths: how many attempts before this one ended without a word that no item is to blame.
        deaths_without_progress: how many of them, in a row, ended without one finished item.
        rows: those of earlier attempts and of this one.
    """

    def __init__(self, output: Storage, shard: int, schema: pa.Schema, identity: Identity) -> None:
        self._output = output
        self._schema = schema
        self._identity = identity
        self._folder = folder_of(shard, identity)
        self.rows: list[Row] = []
        self._unsaved: list[Row] = []
        self._saved_parts = 0
        self.attempt, self.deaths, self.deaths_without_progress = self._take_over()
        # Where workers die young, one item is progress that must be known: an attempt without any blames the items.
        self._saved_at = -math.inf if self.deaths else time.monotonic()
        self._begin()

    def _begin(self) -> None:
        """Take the first number that no worker beside this one has taken since the listing."""
        token = uuid.uuid4().hex.encode()  # of several that create the same object at once, data that differ tell one
        try:
            while not self._output.create(f"{self._folder}/attempt-{self.attempt}", token):
                self.attempt += 1
        except StorageError:  # such as a full disk, on which a file without its data stays
            self._try_to_leave()
            raise

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
        Where another run has taken the place of this one, nothing is saved.
        """
        try:
            yield
        except ReplacedError:  # the output is no longer this run's
            raise
        except DeviceError:
            self.flush()
            raise
        except LeavingError:
            if identity_of(self._output) == self._identity:  # or else that may be why workers were told to leave
                self._leave()
            raise
        except UnreachableError:
            leaving = threading.Thread(target=self._try_to_leave, daemon=True)
            leaving.start()
            leaving.join(LEAVE_SECONDS)
            raise
        except (StorageError, RuntimeError):  # such as want of threads
            self._try_to_leave()
            raise

    def _try_to_leave(self) -> None:
        """Leave, unless the output is what is gone."""
        with contextlib.suppress(StorageError):
            self._leave()

    def _leave(self) -> None:
        """Say that no item is to blame, for which there is room on a full disk, and save the rows."""
        self._output.write(f"{self._folder}/left-{self.attempt}", b"")
        self.flush()

    def remove(self) -> None:
        """Forget the shard, once it is committed."""
        self._output.remove(self._folder)


def folder_of(shard: int, identity: Identity) -> str:
    """Return where the journal of a shard lies."""
    return f"{SCRATCH}/shard-{shard:05d}-{identity.id[:8]}"


def replace_rows(output: Storage, shard: int, schema: pa.Schema, rows: Sequence[Row], without: Container[str]) -> None:
    """Add rows to the journal of a shard, as of an attempt before the first; those of some paths are left out of it.

    Args:
        output: of the run.
        shard: which is not at work.
        schema: of the rows.
        rows: what is added.
        without: the paths.
    """
    folder = folder_of(shard, identity_of(output))
    known: list[Row] = []
    for entry in list(output.list(folder)):
        if entry.path.startswith("rows-"):
            with contextlib.suppress(DamagedError):
                known += read_rows(output, f"{folder}/{entry.path}", schema)
            output.remove(f"{folder}/{entry.path}")
    left = {row["path"]: row for row in (*known, *rows) if row["path"] not in without}
    output.write(f"{folder}/rows-0-0.parquet", row_bytes(left.values(), schema))
