"""One shard of an evaluation: the files of each picture read, and measured."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from sgllie.corpus import Row
from sgllie.evaluation.corpus import SIDES, Item, read_items, row_schema
from sgllie.evaluation.measures import Files, Measure, make_measure, measured
from sgllie.evaluation.problems import Problem, read_sides
from sgllie.evaluation.settings import EvaluateSettings
from sgllie.isolation import CrashError, Isolated
from sgllie.runner import ShardRunner
from sgllie.storage import open_storage

Treat = Callable[[Files, list[Problem]], Row]


class EvaluationPipeline(ShardRunner[Item]):
    """Runs shards of an evaluation, one after another, in one process.

    Args:
        settings: of the evaluation.
        roots: folder or prefix of each side.
        report: called with each finished row.
    """

    def __init__(self, settings: EvaluateSettings, roots: dict[str, str], report: Callable[[Row], None]) -> None:
        self.settings = settings
        self.sources = {side: open_storage(root, settings.s3) for side, root in roots.items()}
        self.measure: Measure = make_measure(settings, set(roots))
        is_remote = any(uri.startswith("s3://") for uri in (*roots.values(), settings.output))
        output = open_storage(settings.output, settings.s3)
        super().__init__(output, row_schema(self.measure.fields), settings.threads, is_remote, report)

    def items(self, shard: int) -> list[Item]:
        """The pictures of a shard."""
        return read_items(self.output, shard)

    def treatment(self, isolated: bool) -> AbstractContextManager[Treat]:
        """Measuring, in this process or in one of its own."""
        if isolated:
            return Isolated(measuring, self.settings, set(self.sources))
        return nullcontext(partial(measured, self.measure))

    def carry(self, item: Item, treat: Treat) -> Row:
        """Read the files of one picture, and measure it."""
        paths = {side: getattr(item, side) for side in SIDES}
        files, missing = read_sides(self.sources, paths, item.problem)
        try:
            with self.computing:
                row = treat(files, missing)
        except CrashError:
            return self.give_up(item, "decoding or measuring this picture killed its process")
        return row | {"path": item.path}

    def give_up(self, item: Item, sentence: str) -> Row:
        """A row without any value."""
        return {"path": item.path, "status": "failed", "error_type": "crash", "error": sentence}


def measuring(settings: EvaluateSettings, sides: set[str]) -> Treat:
    """What an isolated process calls."""
    return partial(measured, make_measure(settings, sides))
