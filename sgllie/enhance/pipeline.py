"""One shard of an enhancement: images read, processed and written."""

import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime

from sgllie.enhance.isolated import isolated_processor
from sgllie.enhance.memory import UNKNOWN_FILE_BYTES, budgets, worker_bytes
from sgllie.enhance.processor import ImageProcessor, ImageResult, failed_result
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import TALLY
from sgllie.errors import Failure, NameRefusedError, failure_of
from sgllie.runs.allocator import make_room
from sgllie.runs.names import IMAGES
from sgllie.runs.schemas import STATS_SCHEMA, Row
from sgllie.runs.shard_runner import Report, ShardRunner
from sgllie.runs.tables import read_manifest
from sgllie.storage import Entry, open_source, open_storage

Processor = Callable[[str, bytes], ImageResult]


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
        self.source = open_source(root, settings.s3)
        self.image_processor = ImageProcessor(settings, self._admitted)
        self.most_bytes = worker_bytes(settings)
        self.files, self.pixels = budgets(settings)
        super().__init__(
            open_storage(settings.output, settings.s3),
            [self.source],
            STATS_SCHEMA,
            report,
            threads=settings.threads,
            retry_failed=settings.retry_failed,
            deadline=settings.deadline,
            has_gpu=settings.device == "cuda",
        )

    def items(self, shard: int) -> list[Entry]:
        """Return the images of a shard."""
        return read_manifest(self.output, shard, Entry)

    def processor(self, isolated: bool) -> AbstractContextManager[Processor]:
        """Return the image processor of this process, or of processes of their own."""
        if isolated:
            return isolated_processor(self.settings, self.pixels.total)
        return nullcontext(self.image_processor)

    def failed_row(self, item: Entry, failure: Failure) -> Row:
        """Return the row of an image of which nothing is known."""
        return completed(item, {"status": "failed"} | failure._asdict())

    def process(self, item: Entry, processor: Processor) -> Row:
        """Take one image all the way, and count the requests that had to be repeated for it, all by this thread."""
        retries = self.source.retries + self.output.retries
        size = UNKNOWN_FILE_BYTES if item.size is None else item.size
        self.pixels.check(size)
        known: Row = {}
        started = time.perf_counter()
        with self.files.held(min(size, self.files.total)):
            try:
                data = self.source.read(item.path)
                known = {"bytes_in": len(data), "read_ms": (time.perf_counter() - started) * 1000}
                result = processor(item.path, data)
            except Exception as error:
                result = failed_result(item.path, {}, failure_of(error))
            row = self._write(result) | known
        return completed(item, row | {"retries": self.source.retries + self.output.retries - retries})

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
            row |= {"status": "failed", "output": None, "bytes_out": None, "sha256_out": None}
            row |= failure_of(error)._asdict()
        return row | {"write_ms": (time.perf_counter() - started) * 1000}


def completed(item: Entry, row: Row) -> Row:
    """Return a row with what every row of an image says."""
    return row | {"path": item.path, "node": platform.node(), "finished": datetime.now(UTC).replace(tzinfo=None)}
