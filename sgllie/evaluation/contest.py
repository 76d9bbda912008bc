"""One method on one image: what `sgllie compare` does in its workers."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, NamedTuple

import pyarrow as pa

from sgllie import images
from sgllie.corpus import MANIFEST, Row, from_parquet, part_name
from sgllie.evaluation.compare_settings import INPUT, CompareSettings
from sgllie.evaluation.corpus import row_schema
from sgllie.evaluation.image_measure import Pixels, eight_bit_rgb, value
from sgllie.evaluation.problems import Problem, Problems, read_sides
from sgllie.images import ImageError
from sgllie.isolation import CrashError, Isolated
from sgllie.methods import make_method
from sgllie.metrics import METRICS
from sgllie.report.gallery import thumbnail
from sgllie.runner import ShardRunner
from sgllie.storage import open_storage

THUMBNAIL_BYTES = 30_000

MANIFEST_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        ("method", pa.string()),
        ("truth", pa.string()),
        ("problem", pa.string()),
        ("shown", pa.bool_()),
    ]
)


class Attempt(NamedTuple):
    """One method on one image; `truth` is its reference, and `shown` asks for a thumbnail of the result."""

    path: str
    size: int | None
    version: str
    method: str
    truth: str | None
    problem: str | None
    shown: bool


def result_schema(metrics: list[str]) -> pa.Schema:
    """The columns of a row with these metrics."""
    values = [(name, pa.float64()) for name in (*metrics, "milliseconds")]
    return row_schema([("method", pa.string()), *values, ("thumbnail", pa.string())])


class Contest:
    """All methods, made once, and what is measured on their results. Thread-safe."""

    def __init__(self, settings: CompareSettings) -> None:
        self.settings = settings
        self.methods = {label: make_method(method) for label, method in settings.method_settings.items()}
        self.metrics = [METRICS[name] for name in settings.chosen_metrics(has_input=True)]
        self.warm: set[str] = set()

    def __call__(self, attempt: Attempt, files: Mapping[str, bytes], missing: Sequence[Problem]) -> Row:
        """The columns of one attempt, whatever happens.

        Args:
            attempt: what to do.
            files: the bytes of the image (`before`) and its reference (`truth`), as far as they could be read.
            missing: why others could not.
        """
        problems = Problems(missing)
        row: Row = {}
        try:
            if "before" in files:
                row = self._measure(attempt, files["before"], files.get("truth"), problems)
        except ImageError as error:
            problems.add(error.error_type, str(error))
        except MemoryError:
            problems.add("memory", "the image does not fit in the memory of its worker; see --max-pixels")
        except Exception as error:
            problems.add("method", f"{type(error).__name__}: {error}")
        return row | problems.columns()

    def _measure(self, attempt: Attempt, data: bytes, truth: bytes | None, problems: Problems) -> Row:
        image = self._decoded(data)
        reference = self._decoded(truth) if truth is not None else None
        row: Row = {}
        enhanced = image
        if attempt.method != INPUT:
            method = self.methods[attempt.method]
            if attempt.method not in self.warm:
                method(image)  # compiled, loaded and cached by the first call, which is no measure of the others
                self.warm.add(attempt.method)
            started = time.perf_counter()
            enhanced = method(image)
            row["milliseconds"] = (time.perf_counter() - started) * 1000
        if attempt.shown:
            row["thumbnail"] = thumbnail(eight_bit_rgb(enhanced), THUMBNAIL_BYTES).uri
        others = {"truth": reference, "input": image}
        for metric in self.metrics:
            try:
                row[metric.name] = value(metric, enhanced, others)
            except ValueError as error:
                problems.add("not_measurable", str(error))
        return row

    def _decoded(self, data: bytes) -> Pixels:
        return images.decode(data, max_pixels=self.settings.max_pixels, exif_orientation="apply").pixels


class ComparePipeline(ShardRunner[Attempt]):
    """Runs shards of a comparison, one after another, in one process.

    Args:
        settings: with their device resolved.
        roots: folder or prefix of the images (`before`) and of the references (`truth`).
        report: called with each finished row.
    """

    keys: ClassVar[tuple[str, ...]] = ("path", "method")

    def __init__(self, settings: CompareSettings, roots: dict[str, str], report: Callable[[Row], None]) -> None:
        self.settings = settings
        self.sources = {side: open_storage(root, settings.s3) for side, root in roots.items()}
        self.contest = Contest(settings)
        is_remote = any(uri.startswith("s3://") for uri in (*roots.values(), settings.output))
        schema = result_schema([metric.name for metric in self.contest.metrics])
        super().__init__(open_storage(settings.output, settings.s3), schema, settings.threads, is_remote, report)

    def items(self, shard: int) -> list[Attempt]:
        """The attempts of a shard."""
        table = from_parquet(self.output.read(f"{MANIFEST}/{part_name(shard)}"))
        return [Attempt(**row) for row in table.to_pylist()]

    def treatment(self, isolated: bool) -> AbstractContextManager[Callable[..., Row]]:
        """The contest, in this process or in one of its own."""
        return Isolated(Contest, self.settings) if isolated else nullcontext(self.contest)

    def carry(self, item: Attempt, treat: Callable[..., Row]) -> Row:
        """Read one image, and have the method try it."""
        files, missing = read_sides(self.sources, {"before": item.path, "truth": item.truth}, item.problem)
        try:
            with self.computing:
                row = treat(item, files, missing)
        except CrashError:
            return self.give_up(item, f"{item.method} on this image killed its process")
        return row | {"path": item.path, "method": item.method}

    def give_up(self, item: Attempt, sentence: str) -> Row:
        """A row without any value."""
        status = {"status": "failed", "error_type": "crash", "error": sentence}
        return {"path": item.path, "method": item.method} | status
