"""What is known of a shard before it is done: how often it was begun, and the rows of items that are finished.

    OUT/.partial/shard-00042-1f0c9a3e/attempt-1         written when the shard is begun
    OUT/.partial/shard-00042-1f0c9a3e/rows-1-0.parquet  rows of finished items, every few seconds
    OUT/.partial/shard-00042-1f0c9a3e/left-1            written when an attempt ended for what is no fault of an item

A worker that finds an earlier attempt takes over its rows; and where that has not said so, it knows that one of the
remaining items may have killed the process. All of it is removed when the shard is committed. The name of the folder
ends with the id of the run: what late workers of an earlier run write there, the next one never takes for its own.

A shard that is done can be taken back: its rows become those of attempt 0 (`rows-0-0.parquet`), without those of items
that are to be done again (`going.parquet`, until their outputs are removed). So whatever command comes next, it finds a
shard that is not done.
"""

import contextlib
import math
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from sgllie.errors import DamagedError, DeviceError, LeavingError, ReplacedError, StorageError, UnreachableError
from sgllie.runs.commits import commit_table, holding, read_totals, totals_in
from sgllie.runs.cost import Meter, part_spent
from sgllie.runs.names import part_name
from sgllie.runs.run_file import Identity, identity_of
from sgllie.runs.schemas import Row
from sgllie.runs.tables import read_table, to_table
from sgllie.runs.totals import Totals, add_up
from sgllie.storage import SCRATCH, Storage
from sgllie.storage.parquet import to_parquet

KEPT = "rows-0-0.parquet"
"""The rows of a commit that was taken back, without those of items that are to be done again."""
GOING = "going.parquet"
"""The rows of these."""
REMOVALS = 16
"""Outputs that are removed at the same time."""
FLUSH_SECONDS = 2.0
LEAVE_SECONDS = 20.0
"""For the last words to a storage that may be the one that is gone: its patience has been waited for already."""


class Journal:
    """The journal of one shard in the output storage.

    Attributes:
        shard: its number.
        attempt: 1 for the first time that the shard is begun.
        deaths: how many attempts before this one ended without a word that no item is to blame.
        deaths_without_progress: how many of them, in a row, ended without one finished item.
        rows: those of earlier attempts and of this one.
        kept: those of them that a commit had which was taken back.
        spent: what earlier attempts and this one have spent, as far as they have saved it.

    Args:
        meter: measures what this attempt spends, from its beginning on by default.
        part: of the shard, which has a journal of its own.
    """

    def __init__(
        self,
        output: Storage,
        shard: int,
        schema: pa.Schema,
        identity: Identity,
        meter: Meter | None = None,
        part: str = "",
    ) -> None:
        self.shard = shard
        self._output = output
        self._schema = schema
        self._identity = identity
        self._meter = meter or Meter()
        self._folder = f"{folder_of(shard, identity)}/{part}".rstrip("/")
        self.rows: list[Row] = []
        self.kept: list[Row] = []
        self.spent: Totals = {}
        self._charged: Totals = {}
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
        entries = sorted(self._output.list(self._folder), key=lambda entry: entry.path)  # KEPT before other rows
        if GOING in [entry.path for entry in entries]:
            finish_taking_back(self._output, self._folder, self._schema)
        for entry in entries:
            name = re.fullmatch(r"(attempt|left|rows)-(\d{1,4})(-\d+\.parquet)?", entry.path)
            if not name:
                continue
            attempt = int(name[2])
            (left if name[1] == "left" else begun).add(attempt)
            if name[1] == "rows":
                last_with_rows = max(last_with_rows, attempt)
                rows, spent = saved_rows(self._output, f"{self._folder}/{entry.path}", self._schema)
                self.rows += rows
                self.kept += rows if entry.path == KEPT else []
                self.spent = add_up([self.spent, spent])
        died = begun - left - {0}
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
            self._save(f"rows-{self.attempt}-{self._saved_parts}.parquet", self._unsaved)
            self._unsaved = []
            self._saved_parts += 1
        self._saved_at = time.monotonic()

    def _save(self, name: str, rows: list[Row]) -> None:
        """Save rows, and what was spent since the last ones."""
        spent = self.lap()
        self._output.write(f"{self._folder}/{name}", saved_bytes(rows, self._schema, spent))
        self.spent = add_up([self.spent, spent])

    def charge(self, spent: Totals) -> None:
        """Note what was spent beside what the meter of this attempt measures."""
        self._charged = add_up([self._charged, spent])

    def lap(self) -> Totals:
        """Return what was spent since rows were saved last."""
        spent, self._charged = add_up([self._charged, self._meter.lap()]), {}
        return spent

    def all_spent(self) -> Totals:
        """Return what earlier attempts and this one have spent until now; what is not saved is not told again."""
        return add_up([self.spent, self.lap()])

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


def saved_bytes(rows: Iterable[Row], schema: pa.Schema, spent: Totals) -> bytes:
    """Return the Parquet file of some rows, and of what was spent on them."""
    return to_parquet(to_table(rows, schema).replace_schema_metadata(holding(spent)))


def saved_rows(output: Storage, name: str, schema: pa.Schema) -> tuple[list[Row], Totals]:
    """Return the rows that were saved in a file, and what was spent on them.

    No rows where it is damaged, or gone with a worker that was taken for dead and has just committed.
    """
    try:
        table = read_table(output, name, schema)
    except DamagedError:
        return [], {}
    return table.to_pylist(), part_spent(totals_in(table.schema.metadata or {}))


def take_back(
    output: Storage, shard: int, schema: pa.Schema, folder: str, identity: Identity, is_wrong: Callable[[Row], bool]
) -> None:
    """Let some items of a shard be done again, and no others; if it is done, it no longer is.

    Wherever this is killed, the shard is as it was, or whoever begins it next brings this to its end.

    Args:
        output: of the run.
        shard: which is not at work.
        schema: of the rows.
        folder: where they are committed.
        identity: of the run.
        is_wrong: tells whether the item of a row is to be done again.
    """
    journal, commit = folder_of(shard, identity), f"{folder}/{part_name(shard)}"
    rows: list[Row] = []
    is_done = output.exists(commit)
    if is_done:
        with contextlib.suppress(DamagedError):  # all of it is done again
            rows = commit_table(output, shard, folder=folder, run=identity.id).to_pylist()
        spent = part_spent(read_totals(output, shard, folder, identity.id))
        output.remove(journal)  # what was saved before the commit
    else:
        rows = [row for name in saved_names(output, journal) for row in saved_rows(output, name, schema)[0]]
    output.write(f"{journal}/{GOING}", saved_bytes(filter(is_wrong, rows), schema, {}))
    if is_done:
        output.commit(f"{journal}/{KEPT}", saved_bytes(rows, schema, spent))
        output.remove(commit)
    finish_taking_back(output, journal, schema)


def finish_taking_back(output: Storage, journal: str, schema: pa.Schema) -> None:
    """Take the rows of items that are to be done again out of a journal, and remove their outputs.

    These would stay where an item now fails. What lies in a pack is no object of the output: a pack is written anew as
    a whole.
    """
    going = saved_rows(output, f"{journal}/{GOING}", schema)[0]
    gone = set(map(repr, going))
    for name in saved_names(output, journal):
        rows, spent = saved_rows(output, name, schema)
        right = [row for row in rows if repr(row) not in gone]
        if len(right) < len(rows):
            output.commit(name, saved_bytes(right, schema, spent))

    def remove(row: Row) -> None:
        if row.get("output") and output.exists(row["output"]):
            output.remove(row["output"])

    with ThreadPoolExecutor(REMOVALS) as pool:
        list(pool.map(remove, going))
    output.remove(f"{journal}/{GOING}")


def saved_names(output: Storage, journal: str) -> list[str]:
    """Return the names of all files of rows in a journal."""
    names = [entry.path for entry in output.list(journal)]
    return [f"{journal}/{name}" for name in names if re.fullmatch(r"rows-\d{1,4}-\d+\.parquet", name)]
