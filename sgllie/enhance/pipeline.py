"""One shard of an enhancement: images read, processed and written."""

import hashlib
import itertools
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import BinaryIO

import pyarrow as pa

from sgllie.corpus.pack import pack_of
from sgllie.corpus.packed import packed
from sgllie.corpus.rig import Rig
from sgllie.enhance.isolated import isolated_processor
from sgllie.enhance.moments import Moments
from sgllie.enhance.packing import PackAttempt
from sgllie.enhance.processor import ImageProcessor, ImageResult, Processor, completed, failed_result
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import TALLY
from sgllie.errors import Failure, NameRefusedError, ReadError, failure_of
from sgllie.network.factor import Level
from sgllie.runs.allocator import make_room
from sgllie.runs.journal import Journal
from sgllie.runs.memory import budgets, file_bytes, worker_bytes
from sgllie.runs.names import IMAGES, MANIFEST, part_name
from sgllie.runs.schemas import NO_OUTPUT, STATS_SCHEMA, Row
from sgllie.runs.shard_runner import Report, ShardRunner
from sgllie.runs.tables import read_manifest, read_table
from sgllie.runs.totals import Totals
from sgllie.settings import split_names
from sgllie.storage import Entry, open_source, open_storage

PART_BYTES = 8 * 2**20
"""Of a file that is copied."""


class ImagePipeline(ShardRunner[Entry]):
    """Runs shards of an enhancement, one after another, in one process.

    Args:
        settings: with their device resolved (`cpu` or `cuda`).
        root: folder or prefix of the input.
        report: told of finished rows.
    """

    tally = TALLY

    def __init__(self, settings: EnhanceSettings, root: str, report: Report) -> None:
        self.settings = settings
        self.source = packed(open_source(root, settings.s3))
        self.written = packed(open_storage(settings.output, settings.s3))
        self.image_processor = ImageProcessor(settings, self._admitted)
        self.rig = Rig(settings.rig) if settings.rig else None
        self.listed: list[Entry] = []
        self.moments = Moments(self.rig)
        self.most_bytes = worker_bytes(settings.worker_memory, settings.loads_torch)
        self.files, self.pixels = budgets(settings.worker_memory, settings.loads_torch)
        super().__init__(
            open_storage(settings.output, settings.s3),
            [self.source],
            STATS_SCHEMA,
            report,
            threads=settings.at_once,
            retry_failed=settings.retry_failed,
            deadline=settings.deadline,
        )

    def items(self, shard: int) -> list[Entry]:
        """Return the images of a shard."""
        return read_manifest(self.output, shard, Entry)

    def columns(self, shard: int) -> pa.Table | None:
        """Return the columns that the manifest of a shard has of the input list."""
        names = split_names(self.settings.columns)
        return read_table(self.output, f"{MANIFEST}/{part_name(shard)}", names=["path", *names]) if names else None

    def processor(self, isolated: bool) -> AbstractContextManager[Processor]:
        """Return the image processor of this process, or of processes of their own."""
        if isolated:
            return isolated_processor(self.settings, self.pixels.total)
        return nullcontext(self.image_processor)

    def attempt(self, shard: int) -> Totals:
        """Do what is left of a shard, and commit it; errors as of `run`."""
        self.is_pack = cache(lambda path: self.source.find(path) is not None)
        self.is_written = cache(lambda pack: self.output.exists(f"{IMAGES}/{pack}"))
        return super().attempt(shard)

    def pack_of(self, path: str) -> str | None:
        """Return the tar or Parquet file that an image lies in; a folder may be called like one."""
        pack = pack_of(path)
        return pack if pack is not None and self.is_pack(pack) else None

    def is_there(self, row: Row) -> bool:
        """Tell whether the output that a row names is there; of one in a pack, whether the pack is."""
        pack = self.pack_of(row["path"])
        return super().is_there(row) if pack is None else not row["output"] or self.is_written(pack)

    def rows(self, items: list[Entry], journal: Journal) -> Iterator[Row]:
        """Yield the rows of images as these are finished, and those of a tar or Parquet file when that is written."""
        packs = {self.pack_of(item.path) for item in items} - {None}
        kept: dict[str | None, dict[str, Row]] = defaultdict(dict)
        for row in journal.kept:
            if row["status"] != "failed":
                kept[self.pack_of(row["path"])][row["path"]] = row
        # A pack is written as a whole, and all of its rows come again.
        journal.rows = [row for row in journal.rows if self.pack_of(row["path"]) not in packs]
        left = {item.path for item in items}
        listed = itertools.groupby(self.listed, lambda item: self.pack_of(item.path))
        first = 0
        for pack, found in ((pack, list(group)) for pack, group in listed):
            if pack is None:
                yield from super().rows([item for item in found if item.path in left], journal)
            elif pack in packs:
                yield from PackAttempt(self, journal, f"pack-{first}", pack, found, kept[pack]).rows()
            first += len(found)

    def remember(self, items: list[Entry], rows: list[Row]) -> None:
        """Note the images of the shard, and what is known of their moments."""
        self.listed = items
        self.moments = Moments(self.rig, items, rows)

    def level(self, item: Entry, processor: Processor) -> Level | None:
        """Return the level that an image shares with others of its moment, if it does; nobody waits with a slot."""

        def measure(one: Entry) -> Level | None:
            self.in_hand[threading.get_ident()] = one
            size = file_bytes(one.size)
            try:
                self.pixels.check(size)
                with self.files.held(min(size, self.files.total)):
                    return processor.level(one.path, self.source.read(one.path))
            except Exception as error:
                failure_of(error)  # its own row will say it
                return None

        level = self.moments.level(item, measure)
        self.in_hand[threading.get_ident()] = item
        return level

    def failed_row(self, item: Entry, failure: Failure) -> Row:
        """Return the row of an image of which nothing is known."""
        return completed(item, failure.columns() | {"moment": self.moments.name(item)} | self._original(item))

    def process(self, item: Entry, processor: Processor) -> Row:
        """Take one image all the way, and count the requests that had to be repeated for it, all by this thread."""
        retries = self.source.retries + self.output.retries
        level = self.level(item, processor)
        size = file_bytes(item.size)
        self.pixels.check(size)
        known: Row = {}
        started = time.perf_counter()
        with self.files.held(min(size, self.files.total)):
            try:
                data = self.source.read(item.path)
                known = {"bytes_in": len(data), "read_ms": (time.perf_counter() - started) * 1000}
                result = processor(item.path, data, level)
            except Exception as error:
                result = failed_result(item.path, {}, failure_of(error))
            row = self._write(result) | known
        if row["status"] == "failed":
            row |= self._original(item)
        row["moment"] = self.moments.name(item)
        return completed(item, row | {"retries": self.source.retries + self.output.retries - retries})

    def _original(self, item: Entry) -> Row:
        """Copy an image that failed, if that is asked for and can be done; return the columns that say so."""
        if self.settings.on_failure == "leave-out":
            return {}
        hashed = HashedFile()
        try:
            with self.source.open(item.path) as file:
                self.output.assemble(f"{IMAGES}/{item.path}", hashed.parts(file))
        except (FileNotFoundError, ReadError, NameRefusedError):
            return {}
        return {"output": f"{IMAGES}/{item.path}", "bytes_out": hashed.size, "sha256_out": hashed.digest.hexdigest()}

    @contextmanager
    def _admitted(self, needed: int) -> Iterator[None]:
        """Compute within memory for so many bytes, and as one of `threads`; nobody waits for bytes with a slot."""
        with self.pixels.held(needed), self.computing:
            make_room(needed, self.most_bytes)
            yield

    def _write(self, result: ImageResult) -> Row:
        """Write the output, if there is one; return the row that says so."""
        if result.data is None:
            return result.row
        started = time.perf_counter()
        row = result.row | {"output": f"{IMAGES}/{result.name}"}
        try:
            self.output.write(row["output"], result.data)
        except NameRefusedError as error:
            row |= NO_OUTPUT | failure_of(error).columns()
        return row | {"write_ms": (time.perf_counter() - started) * 1000}


class HashedFile:
    """The bytes of a file that is read in parts: how many they were, and their SHA-256."""

    def __init__(self) -> None:
        self.size = 0
        self.digest = hashlib.sha256()

    def parts(self, file: BinaryIO) -> Iterator[bytes]:
        """Yield all bytes of a file."""
        while part := file.read(PART_BYTES):
            self.size += len(part)
            self.digest.update(part)
            yield part
