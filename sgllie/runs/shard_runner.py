"""One shard from manifest to commit: items processed on threads, rows journalled on the way, committed at the end.

A thread takes one item all the way, and a semaphore lets only `threads` of them compute at a time: the others wait for
storage. So memory holds at most `threads` items' pixels, and there are no queues to size.
"""

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Container, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import pyarrow as pa

from sgllie.errors import DamagedError, Failure, LeavingError, StuckError, failure_of
from sgllie.runs.commits import read_totals, write_commit
from sgllie.runs.cost import Meter
from sgllie.runs.journal import Journal, take_back
from sgllie.runs.names import COMMITS
from sgllie.runs.run_file import identity_of, replaced
from sgllie.runs.schemas import Row
from sgllie.runs.totals import Tally, Totals
from sgllie.runs.words import examples
from sgllie.storage import Storage

WAITING_THREADS = {"local": 1, "remote": 24}
"""Threads beyond those that compute: a request takes as long as several images do to compute, a local file no time."""

MOST_ATTEMPTS_WITHOUT_PROGRESS = 5
"""A shard whose worker died so often in a row before one more item was finished is given up."""

LOOK_SECONDS, GRACE_SECONDS = 0.2, 5.0
"""Between two looks at what takes long; and for how much longer than the deadline, within which an isolated process
that is stuck is killed by whoever waits for it."""

SLOW_SECONDS = 30.0
"""An item that is computed for longer is named."""

LEAVE_SECONDS = 0.4
"""For what is in hand when a worker is asked to end: within a second its shard is to be free for others."""

Item = TypeVar("Item")


def has_failed(row: Row) -> bool:
    """Tell whether the item of a row failed."""
    return bool(row["status"] == "failed")


class Report(Protocol):
    """Told how many items of a shard are done, and how many of these failed; `group` is what they are counted for."""

    def __call__(self, shard: int, done: int, failed: int, group: str = "") -> None:
        """Note the state of one shard; it replaces what was told of it before."""


class ComputingSlots:
    """Lets so many threads compute at a time, and knows for how long each has; used with `with`."""

    def __init__(self, slots: int) -> None:
        self._slots = threading.BoundedSemaphore(slots)
        self._since: dict[int, float] = {}

    def __enter__(self) -> None:
        self._slots.acquire()
        self._since[threading.get_ident()] = time.monotonic()

    def __exit__(self, *_: object) -> None:
        del self._since[threading.get_ident()]
        self._slots.release()

    def longer_than(self, seconds: float) -> dict[int, float]:
        """Return the threads that have computed for longer than that, and for how long, the longest first."""
        now = time.monotonic()
        return {thread: now - since for thread, since in list(self._since.items()) if now - since > seconds}


class ShardRunner(ABC, Generic[Item]):
    """Runs shards, one after another, in one process; a subclass tells what is done with an item.

    A shard's first attempt processes its items in this process; a later one may isolate each in a process of its own,
    since one of them may have killed the worker.

    Args:
        output: of the run.
        sources: what else items are read from.
        schema: of the rows.
        threads: items that are computed at the same time.
        retry_failed: whether the failed rows of finished shards are replaced, and the others kept.
        deadline: seconds that the computing of one item may take.
        report: told after each finished row.
    """

    keys: ClassVar[tuple[str, ...]] = ("path",)
    """The columns, and the attributes of an item, that tell one item from all others."""
    folder: ClassVar[str] = COMMITS
    """Where the rows of a finished shard are committed."""
    noun: ClassVar[str] = "image"
    """What an item is called in the sentences of failed rows."""
    tally: ClassVar[Tally] = Tally()
    """What the rows come to."""

    def __init__(
        self,
        output: Storage,
        sources: Iterable[Storage],
        schema: pa.Schema,
        report: Report,
        *,
        threads: int,
        retry_failed: bool,
        deadline: float = math.inf,
    ) -> None:
        self.output = output
        self.identity = identity_of(output)
        self.schema = schema
        self.report = report
        self.retry_failed = retry_failed
        is_remote = any(storage.is_remote for storage in (output, *sources))
        self.width = threads + WAITING_THREADS["remote" if is_remote else "local"]
        self.pool = ThreadPoolExecutor(self.width)
        self.computing = ComputingSlots(threads)
        self.deadline = deadline
        self.meter = Meter()
        self.used_gpu = False
        self.in_hand: dict[int, Item] = {}
        self.told = 0, 0
        self.leaves_at = math.inf

    @abstractmethod
    def items(self, shard: int) -> list[Item]:
        """Return the items of a shard, from the manifest."""

    @abstractmethod
    def processor(self, isolated: bool) -> AbstractContextManager[Callable[..., Any]]:
        """Return what `process` computes with: in this process or, isolated, in one of its own."""

    @abstractmethod
    def process(self, item: Item, processor: Any) -> Row:
        """Take one item all the way: read it, compute within `computing`, write it. What it raises becomes its row."""

    @abstractmethod
    def failed_row(self, item: Item, failure: Failure) -> Row:
        """Return the row of an item that failed."""

    def run(self, shard: int) -> Totals:
        """Bring one shard to its commit: the items that are missing; return what all its rows come to.

        Raises:
            StorageError: a storage is gone, or the output cannot be written; no item is to blame, the job must stop.
            DeviceError: the GPU does not work. This process must end.
            StuckError: an item takes longer than it may. This process must end; the next attempt isolates the item.
            LeavingError: `leave` was called, and the journal knows what is done. This process must end, since its
                threads may go on with what they have in hand.
        """
        self.meter.begin()
        self.used_gpu = False
        done = read_totals(self.output, shard, self.folder, self.identity.id)
        if done is not None:  # by a worker that died later on, or by another command
            if not (self.retry_failed and done.get("failed")):
                return done
            take_back(self.output, shard, self.schema, self.folder, self.identity, has_failed)
        try:
            return self.attempt(shard)
        except DamagedError:  # another worker has done the shard, or a pack in it, and removed what both had saved
            done = read_totals(self.output, shard, self.folder, self.identity.id)
            return self.attempt(shard) if done is None else done

    def attempt(self, shard: int) -> Totals:
        """Do what is left of a shard, and commit it; errors as of `run`."""
        journal = Journal(self.output, shard, self.schema, self.identity, self.meter)
        items = self.items(shard)
        kept = set(map(self._of_row, journal.kept))
        journal.rows = self.sound(journal, items, kept)
        self.remember(items, journal.rows)
        # With --retry-failed only what had failed is to be done, and counts.
        counted = [row for row in journal.rows if not (self.retry_failed and self._of_row(row) in kept)]
        self.told = len(counted), sum(map(has_failed, counted))
        self.tell(shard, *self.told)
        with journal.attempted():
            for row in self.rows(self._without(journal.rows, items), journal):
                journal.add({"shard": shard, "attempt": journal.attempt} | row)
                self.used_gpu |= row.get("device") == "cuda"
                if self._of_row(row) not in kept:
                    self.told = self.told[0] + 1, self.told[1] + has_failed(row)
                    self.tell(shard, *self.told)
        return self.commit(journal, shard)

    def _of_row(self, row: Row) -> tuple[Any, ...]:
        """Return what tells the item of a row from all others."""
        return tuple(row[key] for key in self.keys)

    def _of_item(self, item: Item) -> tuple[Any, ...]:
        """Return what tells an item from all others."""
        return tuple(getattr(item, key) for key in self.keys)

    def _without(self, rows: list[Row], items: list[Item]) -> list[Item]:
        """Return the items that none of these rows is about."""
        known = set(map(self._of_row, rows))
        return [item for item in items if self._of_item(item) not in known]

    def sound(self, journal: Journal, items: list[Item], kept: Container[tuple[Any, ...]]) -> list[Row]:
        """Return the rows of a journal that count: of these items, one of each, with outputs that are there.

        A worker that was taken for dead may have gone on beside another one, and a power cut may have kept rows and
        lost files; not those of a commit, whose items are `kept`.
        """
        found = {self._of_row(row): row for row in journal.rows}
        of_items = [found[key] for key in map(self._of_item, items) if key in found]
        are_there = self.pool.map(lambda row: self._of_row(row) in kept or self.is_there(row), of_items)
        return [row for row, is_there in zip(of_items, are_there, strict=True) if is_there]

    def is_there(self, row: Row) -> bool:
        """Tell whether the output that a row names is there, and of the size that it says."""
        if not row.get("output"):
            return True
        found = self.output.find(row["output"])
        return found is not None and row.get("bytes_out", row.get("bytes")) in (None, found.size)

    def remember(self, items: list[Item], rows: list[Row]) -> None:
        """Note the items of a shard, and the rows that are there before the others are begun."""

    def commit(self, journal: Journal, shard: int) -> Totals:
        """Write all rows of a shard in one step, after which it is done; return their totals."""
        columns = self.columns(shard)
        self.refuse_replaced()
        spent = journal.all_spent()
        totals = write_commit(
            self.output,
            shard,
            journal.rows,
            self.schema,
            self.tally,
            folder=self.folder,
            columns=columns,
            spent=spent,
            run=self.identity.id,
        )
        journal.remove()
        return totals

    def refuse_replaced(self) -> None:
        """Raise ReplacedError where the run in the output is no longer that of this worker."""
        if identity_of(self.output) != self.identity:
            raise replaced(self.output)

    def columns(self, shard: int) -> pa.Table | None:
        """Return `path` and further columns of the rows of a shard, which no item tells; None where there are none."""
        return None

    @property
    def is_leaving(self) -> bool:
        """Whether `leave` has been called."""
        return self.leaves_at < math.inf

    def leave(self) -> None:
        """Begin no more items, and end what is in hand or drop it; may be called by the handler of a signal."""
        self.leaves_at = time.monotonic() + LEAVE_SECONDS

    def tell(self, shard: int, done: int, failed: int) -> None:
        """Report how many rows of a shard are finished."""
        self.report(shard, done, failed)

    def rows(self, items: list[Item], journal: Journal) -> Iterator[Row]:
        """Yield the rows of items, each as soon as it is finished, with few more items under way than threads.

        Whoever leaves raises LeavingError in the end; a process of its own that is still busy is killed then.
        """
        if failure := self.given_up(journal):
            yield from (self.failed_row(item, failure) for item in items)
            return
        finished: SimpleQueue[Future[Row | None]] = SimpleQueue()
        under_way = 0
        with self.processor(isolated=journal.deaths > 0) as processor:
            for item in items:
                if under_way == 2 * self.width:
                    yield from self._next(finished, journal)
                    under_way -= 1
                self.pool.submit(self._row, item, processor).add_done_callback(finished.put)
                under_way += 1
            for _ in range(under_way):
                yield from self._next(finished, journal)
            if self.is_leaving:
                raise LeavingError

    def given_up(self, journal: Journal) -> Failure | None:
        """Return why no more attempts are made at what is left of a shard, if that is so."""
        if journal.deaths_without_progress < MOST_ATTEMPTS_WITHOUT_PROGRESS:
            return None
        attempts = f"{journal.deaths_without_progress} attempts at the rest of its shard"
        return Failure("crash", f"{attempts} ended with the death of the worker")

    def _next(self, finished: "SimpleQueue[Future[Row | None]]", journal: Journal) -> Iterator[Row]:
        """Yield the row that is finished next; none for an item that was not begun."""
        while True:
            try:
                row = finished.get(timeout=LOOK_SECONDS).result()
            except Empty:
                self.refuse_stuck(journal)
                continue
            if row is not None:
                yield row
            return

    def refuse_stuck(self, journal: Journal) -> None:
        """Raise StuckError where an item, not isolated, takes longer than it may; LeavingError when it is time."""
        if time.monotonic() > self.leaves_at:
            raise LeavingError
        stuck = self.computing.longer_than(self.deadline + GRACE_SECONDS)
        if stuck:
            journal.flush()
            raise StuckError(f"{self._in_words(stuck)}, which is longer than --deadline {self.deadline:g}")

    def slow(self) -> str:
        """Name the items that have been computed for long: `a/b.jpg: 45 s`."""
        return self._in_words(self.computing.longer_than(SLOW_SECONDS))

    def _in_words(self, threads: dict[int, float]) -> str:
        """Write what threads have in hand, and the seconds of each."""
        items = [(getattr(self.in_hand[thread], self.keys[0]), seconds) for thread, seconds in threads.items()]
        return examples([f"{name}: {seconds:.0f} s" for name, seconds in items])

    def _row(self, item: Item, processor: Callable[..., Any]) -> Row | None:
        """Return the row of one item, whatever happens to it; StorageError where it is not to blame.

        None where the item is left to others.
        """
        if self.is_leaving:
            return None
        self.in_hand[threading.get_ident()] = item
        try:
            return self.process(item, processor)
        except Exception as error:
            return self.failed_row(item, failure_of(error, self.noun))
