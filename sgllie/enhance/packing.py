"""A tar or a Parquet file of a shard: its images are enhanced side by side, and written in their order.

Blocks are read one after another; the images of a few of them are under way at a time, within the memory that a worker
has for files. Finished blocks are saved in segments, which become the new pack in one step at the end.
"""

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, wait
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from sgllie.corpus.pack import Block, Content, Pack, Replacement
from sgllie.corpus.packed import column_of, open_pack
from sgllie.enhance.processor import ImageResult, completed, failed_result, written_columns
from sgllie.errors import Failure, ItemError, LeavingError, NameRefusedError, ReadError, failure_of
from sgllie.runs.journal import Journal
from sgllie.runs.names import IMAGES
from sgllie.runs.schemas import NO_OUTPUT, Row
from sgllie.runs.segments import Segments
from sgllie.runs.shard_runner import LOOK_SECONDS
from sgllie.storage import Entry
from sgllie.storage.base import LARGEST_READ

if TYPE_CHECKING:
    from sgllie.enhance.pipeline import ImagePipeline, Processor

SEGMENT_BYTES = 64 * 2**20
"""Of what is saved together: what a worker that is killed loses, at most."""
UNDER_WAY_BYTES = 256 * 2**20
"""Of the files of images that are under way at a time, where the memory of the worker allows as much."""
COPIES = 4
"""Of what is read at once, memory holds so many: as it is stored, as images, as it is written, and what follows it."""
NOT_THERE = Failure("missing", "the image was listed but is not there now")
UNREADABLE = Failure("read", "the file could not be read to its end when it was listed; --overwrite begins anew")


class Outcome(NamedTuple):
    """What became of one image of a pack: its row, None where it is no part of the run, and what takes its place."""

    row: Row | None
    replacement: Replacement


class UnderWay(NamedTuple):
    """A block whose images are being enhanced."""

    block: Block
    outcomes: list[Future[Outcome]]


class PackAttempt:
    """One attempt at a pack.

    Args:
        pipeline: whose shard it is part of.
        shard: the journal of the shard.
        part: what the journal of the pack is called in it.
        path: of the pack, below the input and below images/ alike.
        listed: its images; the pack itself is among them where its listing did not reach its end.
        kept: rows of those that an earlier run has written, by their path.
    """

    def __init__(
        self,
        pipeline: "ImagePipeline",
        shard: Journal,
        part: str,
        path: str,
        listed: list[Entry],
        kept: dict[str, Row],
    ) -> None:
        self.pipeline, self.shard, self.path, self.listed, self.kept = pipeline, shard, path, listed, kept
        self.column = column_of(listed[0].path)
        self.pack: Pack | None = None
        self.failure: Failure | None = None
        """Why the pack cannot be read to its end."""
        self.journal = Segments(pipeline.output, shard.shard, pipeline.schema, pipeline.identity, pipeline.meter, part)
        self.items = {item.path: item for item in listed}
        """Those of which there is no row yet."""
        self.done, self.failed = pipeline.told
        done = self.journal.all_rows()
        pipeline.moments.learn(done)
        self._count(done)
        self.holds_images = any(item.path != path for item in listed)
        # The first images of a listing end in the midst of a pack, and so does the new pack.
        self.last = listed[-1].path if pipeline.settings.limit is not None else None
        self.is_over = self.last is not None and self.last not in self.items

    def rows(self) -> Iterator[Row]:
        """Write the new pack, then yield the rows of all its images; errors as of `ShardRunner.run`.

        Its own journal is removed once that of the shard has them.
        """
        with self.journal.attempted(), self.pipeline.processor(isolated=self.journal.deaths > 0) as processor:
            for block, rows in self._settled(processor):
                self.journal.add_block(block, rows)
                self._count(rows)
                if self.journal.unsaved_bytes >= SEGMENT_BYTES or self.journal.is_awaited:
                    self.journal.flush()
            rows = self._written(self.journal.all_rows() + self._rows_left())
        self.journal.complete()
        self.shard.charge(self.journal.all_spent())
        yield from rows
        self.shard.flush()
        self.journal.remove()

    @property
    def _origin(self) -> Row:
        return {"shard": self.shard.shard, "attempt": self.journal.attempt}

    def _count(self, rows: list[Row]) -> None:
        """Note that these rows are finished, and report how many are, without those that were there before."""
        for row in rows:
            self.items.pop(row["path"], None)
        new = [row["status"] for row in rows if row["path"] not in self.kept]
        self.done += len(new)
        self.failed += new.count("failed")
        self.pipeline.tell(self.shard.shard, self.done, self.failed)

    def _settled(self, processor: "Processor") -> Iterator[tuple[bytes, list[Row]]]:
        """Yield the bytes and the rows of one block after another, with several under way.

        Whoever leaves raises LeavingError, at the first block that is not finished or in the end.
        """
        under_way: deque[UnderWay] = deque()
        for block, cost in self._blocks():
            while under_way and self._is_next(under_way, block.size):
                yield self._settle(under_way.popleft())
            begin = self.pipeline.pool.submit
            outcomes = [begin(self._outcome, image, processor, cost) for image in block.images]
            under_way.append(UnderWay(block, outcomes))
        while under_way:
            yield self._settle(under_way.popleft())
        if self.pipeline.is_leaving:
            raise LeavingError

    def _is_next(self, under_way: "deque[UnderWay]", size: int) -> bool:
        """Tell whether the first block is finished, or has to be before another one of so many bytes is begun."""
        most_bytes = min(UNDER_WAY_BYTES, self.pipeline.files.total)
        unfinished = [sum(not outcome.done() for outcome in one.outcomes) for one in under_way]
        is_full = sum(one.block.size for one in under_way) + size > most_bytes
        return unfinished[0] == 0 or is_full or sum(unfinished) >= 2 * self.pipeline.width

    def _blocks(self) -> Iterator[tuple[Block, Row]]:
        """Yield the blocks that are to be done, and what it cost to read each, until the end, the limit or the damage.

        Raises:
            StorageError: the storage is gone.
        """
        source = self.pipeline.source
        try:
            self._refuse_changes()
            largest = min(LARGEST_READ, self.pipeline.pixels.total // COPIES)
            self.pack = open_pack(source, self.path, self.column, largest)
            blocks = self.pack.blocks(self.journal.end) if self.pack else iter(())
            while not (self.is_over or self.pipeline.is_leaving):
                started, retries = time.perf_counter(), source.retries
                block = next(blocks, None)
                if block is None:
                    return
                names = [f"{self.path}/{image.name}" for image in block.images]
                if self.last in names:
                    self.is_over = True
                    block = replace(block, images=block.images[: names.index(self.last) + 1])
                milliseconds = (time.perf_counter() - started) * 1000 / max(len(names), 1)
                yield block, {"read_ms": milliseconds, "retries": source.retries - retries}
            # What follows the last image up to the next one belongs to it, as the label of a sample does.
            yield from ((block, {}) for block in itertools.takewhile(lambda block: not block.images, blocks))
        except (ItemError, ReadError, FileNotFoundError) as error:
            self.failure = failure_of(error, "file")

    def _refuse_changes(self) -> None:
        """Raise ReadError if the pack is not the one that was listed, since blocks of two must not be mixed."""
        first = self.listed[0]
        listed = first.version if first.path == self.path else (first.version or "").rpartition(":")[0]
        found = self.pipeline.source.find(self.path)
        if found is not None and (found.version or "") != (listed or ""):
            raise ReadError("it has changed since it was listed; --overwrite begins anew")

    def _settle(self, one: UnderWay) -> tuple[bytes, list[Row]]:
        """Wait for the images of a block; return its bytes in the new pack, and its rows."""
        for outcome in one.outcomes:
            while not wait([outcome], LOOK_SECONDS).done:
                self.pipeline.refuse_stuck(self.journal)
        outcomes = [outcome.result() for outcome in one.outcomes]
        rows = [outcome.row for outcome in outcomes if outcome.row is not None]
        return one.block.written([outcome.replacement for outcome in outcomes]), rows

    def _outcome(self, image: Content, processor: "Processor", cost: Row) -> Outcome:
        """Return what becomes of one image; LeavingError where it is left to others."""
        if self.pipeline.is_leaving:
            raise LeavingError
        path = f"{self.path}/{image.name}"
        earlier = self._earlier(self.kept[path]) if path in self.kept else None
        if earlier:
            return earlier
        item = self.items.get(path)
        if item is None:  # left out of the listing
            return Outcome(None, Replacement(image.name, image.data))
        self.pipeline.in_hand[threading.get_ident()] = item
        result = self._result(item, image, processor)
        row = completed(item, self._origin | cost | result.row | {"moment": self.pipeline.moments.name(item)})
        if result.data is None:
            return Outcome(row, Replacement(image.name, None))
        row |= {"output": f"{IMAGES}/{result.name}"}
        return Outcome(row, Replacement(result.name.removeprefix(f"{self.path}/"), result.data))

    def _earlier(self, row: Row) -> Outcome | None:
        """Return an image of an earlier run as it was written; None where it cannot be read any more."""
        try:
            data = self.pipeline.written.read(row["output"])
        except (FileNotFoundError, ReadError):
            return None
        return Outcome(row, Replacement(row["output"].removeprefix(f"{IMAGES}/{self.path}/"), data))

    def _result(self, item: Entry, image: Content, processor: "Processor") -> ImageResult:
        """Return an image enhanced; or as it is, where it cannot be enhanced and is to be copied then."""
        given_up = self.pipeline.given_up(self.journal)
        if given_up or image.failure or image.data is None:
            result = failed_result(item.path, {}, given_up or image.failure or NOT_THERE)
        else:
            level = self.pipeline.level(item, processor)
            try:
                result = processor(item.path, image.data, level)
            except Exception as error:
                result = failed_result(item.path, {"bytes_in": len(image.data)}, failure_of(error))
        if result.data is not None or image.data is None or self.pipeline.settings.on_failure == "leave-out":
            return result
        return replace(result, data=image.data, row=result.row | written_columns(image.data))

    def _rows_left(self) -> list[Row]:
        """Return the rows of images that the pack did not hold, and of the pack itself where it is damaged."""
        rows = [self._failed_row(item) for item in self.items.values()]
        self._count(rows)
        return rows

    def _failed_row(self, item: Entry) -> Row:
        failure = self.failure or (UNREADABLE if item.path == self.path else NOT_THERE)
        return completed(item, failure.columns() | {"moment": self.pipeline.moments.name(item)} | self._origin)

    def _written(self, rows: list[Row]) -> list[Row]:
        """Write the new pack; return the rows that say so. An earlier one stays where there is no other."""
        try:
            if self.pack is None:
                rows = [self.kept.get(item.path) or self._failed_row(item) for item in self.listed]
            elif self.holds_images:
                self.pipeline.output.assemble(f"{IMAGES}/{self.path}", self.pack.joined(self.journal.data()))
        except NameRefusedError as error:
            rows = [row | NO_OUTPUT | failure_of(error).columns() for row in rows]
        return rows
