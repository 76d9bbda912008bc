"""One shard of a comparison: trials run and measured."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar

import pyarrow as pa

from sgllie.compare.settings import CompareSettings
from sgllie.compare.trial import Trial, TrialRunner
from sgllie.corpus.packed import packed
from sgllie.errors import Failure
from sgllie.evaluate.memory import PictureMemory
from sgllie.evaluate.problems import UNDEFINED, read_sides
from sgllie.runs.gpu import on_device
from sgllie.runs.isolation import Isolated
from sgllie.runs.schemas import Row, row_schema
from sgllie.runs.shard_runner import Report, ShardRunner
from sgllie.runs.tables import read_manifest
from sgllie.storage import open_source, open_storage


class ComparePipeline(ShardRunner[Trial]):
    """Runs shards of a comparison, one after another, in one process.

    Args:
        settings: with their device resolved.
        roots: folder or prefix of the images (`before`) and of the references (`truth`).
        report: told of finished rows.
    """

    keys: ClassVar[tuple[str, ...]] = ("path", "method")

    def __init__(self, settings: CompareSettings, roots: dict[str, str], report: Report) -> None:
        self.settings = settings
        self.sources = {side: packed(open_source(root, settings.s3)) for side, root in roots.items()}
        self.trial_runner = TrialRunner(settings)
        with_torch = any(method.loads_torch for method in settings.method_settings.values())
        self.memory = PictureMemory(settings.worker_memory, self.trial_runner.pixel_bytes, with_torch)
        values = [(name, pa.float64()) for name in (*(one.name for one in self.trial_runner.metrics), "milliseconds")]
        texts = [(name, pa.string()) for name in ("device", UNDEFINED, "thumbnail")]
        super().__init__(
            open_storage(settings.output, settings.s3),
            self.sources.values(),
            row_schema([("method", pa.string()), *values, *texts]),
            report,
            threads=settings.threads,
            retry_failed=settings.retry_failed,
            deadline=settings.deadline,
        )

    def items(self, shard: int) -> list[Trial]:
        """Return the trials of a shard."""
        return read_manifest(self.output, shard, Trial)

    def processor(self, isolated: bool) -> AbstractContextManager[Callable[..., Row]]:
        """Return the trial runner of this process, or of processes of their own, which compute on the CPU."""
        if isolated:
            return Isolated(self.settings.threads, self.deadline, TrialRunner, on_device(self.settings, "cpu"))
        return nullcontext(self.trial_runner)

    def process(self, item: Trial, processor: Callable[..., Row]) -> Row:
        """Read one image, and have the method try it."""
        with self.memory.reading(item.size):
            files, missing = read_sides(self.sources, {"before": item.path, "truth": item.truth}, item.problem)
            with self.memory.measuring(files, processor is not self.trial_runner), self.computing:
                row = processor(item, files, missing)
        return row | {"path": item.path, "method": item.method}

    def failed_row(self, item: Trial, failure: Failure) -> Row:
        """Return a row without any value."""
        return {"path": item.path, "method": item.method} | failure.columns()
