"""One shard from manifest to commit: read, treat and write on threads, journal on the way, commit at the end.

A thread carries one image all the way, and a semaphore lets only `threads` of them compute at a time: the others wait
for storage. So memory holds at most `threads` decoded images, and there are no queues to size.
"""

import itertools
import platform
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import UTC, datetime

from sgllie.corpus import IMAGES, STATS, Row, part_name, read_manifest, read_rows, stats_bytes
from sgllie.isolation import IsolatedTreatment
from sgllie.journal import Journal
from sgllie.methods import make_method
from sgllie.settings import EnhanceSettings
from sgllie.storage import Entry, NameRefusedError, StorageError, open_storage
from sgllie.treatment import Treated, Treatment, failed

WAITING_THREADS = {"local": 1, "s3": 24}
"""Threads beyond those that compute. An S3 request takes as long as several images do to compute, a local file none."""

MOST_FRUITLESS = 5
"""A shard is given up after so many attempts in a row that ended before one more image was finished."""


class ShardPipeline:
    """Runs shards, one after another, in one process.

    Args:
        settings: with their device resolved (`cpu` or `cuda`).
        root: folder or prefix of the input.
        report: called with each finished row, from the thread that runs the shard.
    """

    def __init__(self, settings: EnhanceSettings, root: str, report: Callable[[Row], None]) -> None:
        self.settings = settings
        self.source = open_storage(root, settings.s3)
        self.output = open_storage(settings.output, settings.s3)
        self.report = report
        self.treatment = Treatment(settings, make_method(settings))
        kind = "s3" if root.startswith("s3://") or settings.output.startswith("s3://") else "local"
        self.width = settings.threads + WAITING_THREADS[kind]
        self.pool = ThreadPoolExecutor(self.width)
        self.computing = threading.BoundedSemaphore(settings.threads)

    def run(self, shard: int) -> None:
        """Bring one shard to its commit: the images that are missing, or with `retry_failed` those that failed.

        Raises:
            StorageError: the output cannot be written; no image is to blame, and the job must stop.
        """
        kept: list[Row] = []
        if self.settings.retry_failed:
            kept = [row for row in read_rows(self.output, f"{STATS}/{part_name(shard)}") if row["status"] != "failed"]
        journal = Journal(self.output, shard)
        for row in journal.rows:
            self.report(row)
        done = {row["path"] for row in itertools.chain(kept, journal.rows)}
        entries = [entry for entry in read_manifest(self.output, shard) if entry.path not in done]
        for row in self._rows(entries, journal):
            journal.add(row | {"shard": shard, "attempt": journal.attempt})
            self.report(row)
        self.output.write(f"{STATS}/{part_name(shard)}", stats_bytes(kept + journal.rows))
        journal.remove()

    def _rows(self, entries: list[Entry], journal: Journal) -> Iterator[Row]:
        """The rows of images, each as soon as it is finished."""
        if journal.attempt == 1:
            yield from self._threaded(entries, self.treatment)
        elif journal.fruitless < MOST_FRUITLESS:
            isolated = IsolatedTreatment(self.settings)
            try:
                yield from self._threaded(entries, isolated)
            finally:
                isolated.close()
        else:
            sentence = f"{journal.fruitless} attempts at the rest of its shard ended with the death of the worker"
            for entry in entries:
                yield self._finish(entry, failed(entry.path, {}, "crash", sentence))

    def _threaded(self, entries: Iterable[Entry], treat: Callable[[str, bytes], Treated]) -> Iterator[Row]:
        """Carry images through on the pool's threads, with few more of them under way than there are threads."""
        waiting = iter(entries)
        under_way: set[Future[Row]] = set()
        while True:
            for entry in itertools.islice(waiting, 2 * self.width - len(under_way)):
                under_way.add(self.pool.submit(self._counted, entry, treat))
            if not under_way:
                return
            finished, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in finished:
                yield future.result()

    def _counted(self, entry: Entry, treat: Callable[[str, bytes], Treated]) -> Row:
        """One image all the way, and how many requests had to be repeated for it, all of them made by this thread."""
        before = self.source.retries + self.output.retries
        row = self._carry(entry, treat)
        return row | {"retries": self.source.retries + self.output.retries - before}

    def _carry(self, entry: Entry, treat: Callable[[str, bytes], Treated]) -> Row:
        """One image all the way."""
        started = time.perf_counter()
        try:
            data = self.source.read(entry.path)
        except FileNotFoundError:
            return self._finish(entry, failed(entry.path, {}, "missing", "the image was listed but is not there now"))
        except (OSError, StorageError) as error:
            return self._finish(entry, failed(entry.path, {}, "read", f"the image cannot be read: {error}"))
        read_ms = (time.perf_counter() - started) * 1000
        with self.computing:
            treated = treat(entry.path, data)
        treated.row["read_ms"] = read_ms
        return self._finish(entry, treated)

    def _finish(self, entry: Entry, treated: Treated) -> Row:
        """Write the output, if there is one, and complete the row."""
        row = treated.row | {"path": entry.path, "node": platform.node()}
        if treated.data is not None:
            started = time.perf_counter()
            row["output"] = f"{IMAGES}/{treated.name}"
            try:
                self.output.write(row["output"], treated.data)
            except NameRefusedError as error:
                row |= {"status": "failed", "error_type": "write", "error": str(error)}
                row |= {"output": None, "bytes_out": None, "sha256_out": None}
            row["write_ms"] = (time.perf_counter() - started) * 1000
        row["finished"] = datetime.now(UTC).replace(tzinfo=None)
        return row
