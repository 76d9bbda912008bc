"""One shard of an evaluation: the files of each picture read, and measured."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from sgllie.corpus.packed import packed
from sgllie.errors import Failure
from sgllie.evaluate.matching import SIDES, Item
from sgllie.evaluate.measures import Measurer
from sgllie.evaluate.memory import PictureMemory
from sgllie.evaluate.problems import read_sides
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.runs.isolation import Isolated
from sgllie.runs.schemas import Row, row_schema
from sgllie.runs.shard_runner import Report, ShardRunner
from sgllie.runs.tables import read_manifest
from sgllie.storage import open_source, open_storage


class EvaluatePipeline(ShardRunner[Item]):
    """Runs shards of an evaluation, one after another, in one process.

    Args:
        settings: of the evaluation.
        roots: folder or prefix of each side.
        report: told of finished rows.
    """

    def __init__(self, settings: EvaluateSettings, roots: dict[str, str], report: Report) -> None:
        self.settings = settings
        self.sources = {side: packed(open_source(root, settings.s3)) for side, root in roots.items()}
        self.measurer = Measurer(settings, set(roots))
        self.memory = PictureMemory(settings.worker_memory, self.measurer.measure.pixel_bytes)
        super().__init__(
            open_storage(settings.output, settings.s3),
            self.sources.values(),
            row_schema(self.measurer.measure.fields),
            report,
            threads=settings.threads,
            retry_failed=settings.retry_failed,
            deadline=settings.deadline,
        )

    def items(self, shard: int) -> list[Item]:
        """Return the pictures of a shard."""
        return read_manifest(self.output, shard, Item)

    def processor(self, isolated: bool) -> AbstractContextManager[Callable[..., Row]]:
        """Return the measurer of this process, or of processes of their own."""
        if isolated:
            return Isolated(self.settings.threads, self.deadline, Measurer, self.settings, set(self.sources))
        return nullcontext(self.measurer)

    def process(self, item: Item, processor: Callable[..., Row]) -> Row:
        """Read the files of one picture, and measure it."""
        with self.memory.reading(item.size):
            files, missing = read_sides(self.sources, {side: getattr(item, side) for side in SIDES}, item.problem)
            with self.memory.measuring(files, processor is not self.measurer), self.computing:
                row = processor(files, missing)
        return row | {"path": item.path}

    def failed_row(self, item: Item, failure: Failure) -> Row:
        """Return a row without any value."""
        return {"path": item.path} | failure.columns()
