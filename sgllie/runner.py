"""One shard from manifest to commit: items carried on threads, rows journalled on the way, committed at the end.

A thread carries one item all the way, and a semaphore lets only `threads` of them compute at a time: the others wait
for storage. So memory holds at most `threads` items' pixels, and there are no queues to size.
"""

import itertools
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from queue import SimpleQueue
from typing import Any, ClassVar, Generic, TypeVar

import pyarrow as pa

from sgllie.corpus import STATS, Row, part_name, stats_bytes
from sgllie.journal import Journal
from sgllie.storage import Storage

WAITING_THREADS = {"local": 1, "s3": 24}
"""Threads beyond those that compute. An S3 request takes as long as several images do to compute, a local file none."""

MOST_FRUITLESS = 5
"""A shard is given up after so many attempts in a row that ended before one more image was finished."""

Item = TypeVar("Item")


class ShardRunner(ABC, Generic[Item]):
    """Runs shards, one after another, in one process; what is done with an item is told by a class of its own.

    A shard's first attempt treats its items in this process; a later one treats them in a process of its own, since one
    of them may have killed the worker.

    Args:
        output: of the run.
        schema: of its rows.
        threads: items that are computed at the same time.
        is_remote: whether items are read from or written to S3.
        report: called with each finished row, from the thread that runs the shard.
    """

    keys: ClassVar[tuple[str, ...]] = ("path",)
    """The columns, and the attributes of an item, that tell one item from all others."""

    def __init__(
        self, output: Storage, schema: pa.Schema, threads: int, is_remote: bool, report: Callable[[Row], None]
    ) -> None:
        self.output = output
        self.schema = schema
        self.report = report
        self.width = threads + WAITING_THREADS["s3" if is_remote else "local"]
        self.pool = ThreadPoolExecutor(self.width)
        self.computing = threading.BoundedSemaphore(threads)

    @abstractmethod
    def items(self, shard: int) -> list[Item]:
        """The items of a shard, from the manifest."""

    @abstractmethod
    def carry(self, item: Item, treat: Callable[..., Any]) -> Row:
        """One item all the way: read, treated within `computing`, written. What is wrong with it is in its row."""

    @abstractmethod
    def treatment(self, isolated: bool) -> AbstractContextManager[Callable[..., Any]]:
        """What `carry` is to treat items with: in this process or, isolated, in one of its own."""

    @abstractmethod
    def give_up(self, item: Item, sentence: str) -> Row:
        """The row of an item that is not treated any more."""

    def kept(self, shard: int) -> list[Row]:
        """The rows of an earlier run of this shard that stay as they are."""
        return []

    def run(self, shard: int) -> None:
        """Bring one shard to its commit: the items that are missing.

        Raises:
            StorageError: the output cannot be written; no item is to blame, and the job must stop.
        """
        kept = self.kept(shard)
        journal = Journal(self.output, shard, self.schema)
        for row in journal.rows:
            self.report(row)
        done = {tuple(row[key] for key in self.keys) for row in itertools.chain(kept, journal.rows)}
        items = [item for item in self.items(shard) if tuple(getattr(item, key) for key in self.keys) not in done]
        for row in self._rows(items, journal):
            journal.add(row | {"shard": shard, "attempt": journal.attempt})
            self.report(row)
        self.output.write(f"{STATS}/{part_name(shard)}", stats_bytes(kept + journal.rows, self.schema))
        journal.remove()

    def _rows(self, items: list[Item], journal: Journal) -> Iterator[Row]:
        """The rows of items, each as soon as it is finished."""
        if journal.fruitless < MOST_FRUITLESS:
            with self.treatment(isolated=journal.attempt > 1) as treat:
                yield from self._threaded(items, treat)
        else:
            sentence = f"{journal.fruitless} attempts at the rest of its shard ended with the death of the worker"
            for item in items:
                yield self.give_up(item, sentence)

    def _threaded(self, items: Iterable[Item], treat: Callable[..., Any]) -> Iterator[Row]:
        """Carry items through on the pool's threads, with few more of them under way than there are threads."""
        finished: SimpleQueue[Future[Row]] = SimpleQueue()
        under_way = 0
        for item in items:
            if under_way == 2 * self.width:
                yield finished.get().result()
                under_way -= 1
            self.pool.submit(self.carry, item, treat).add_done_callback(finished.put)
            under_way += 1
        for _ in range(under_way):
            yield finished.get().result()
