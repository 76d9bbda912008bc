"""Everything the report says about all rows, gathered a file of statistics at a time, in memory that does not grow."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sgllie.report.distribution import Distribution, Floats
from sgllie.report.leaders import Leaders
from sgllie.report.timeline import Timeline
from sgllie.runs.schemas import luma_fields

STAGES = ("read", "decode", "enhance", "encode", "write")
SAMPLE, SHOWN, EXAMPLES = 24, 6, 5
GRID = 40
"""Steps of brightness, before and after, in the table of what became what."""


@dataclass(frozen=True)
class Choice:
    """A reason to look at an image: its name, what the reader is told, and a key that is highest where it holds."""

    name: str
    title: str
    reason: str
    key: Callable[[pa.Table], Floats]


CHOICES = (
    Choice("darkest", "Darkest", "the lowest mean brightness before", lambda t: -column(t, "luma_mean_in")),
    Choice("brightest", "Brightest", "the highest mean brightness before", lambda t: column(t, "luma_mean_in")),
    Choice("changed", "Most changed", "the largest change of mean brightness", lambda t: change(t)),
    Choice(
        "luma_clipped",
        "Most clipped luma",
        "the most pixels after whose luma is clipped, wholly black or white",
        lambda t: column(t, "luma_clipped_out"),
    ),
)


class Aggregates:
    """Counts, distributions and a few chosen rows; `add` takes one table of statistics after another.

    Attributes:
        status, errors, formats, devices, nodes: how many images have each.
        retried: images that were finished at a second or later attempt at their shard.
        bytes_in, bytes_out, retries: of all images.
        brightness: of each column of brightness, over the images that have an output.
        grid: images by mean brightness before (first axis) and after, in GRID steps of 0..1 each.
        stages: milliseconds of each stage, over the images that went through it.
        sample: a uniform sample of the images that have an output.
        chosen: by the name of a choice, the enhanced images that lead it.
        failures: by error type, a uniform sample of the images that failed.
    """

    def __init__(self) -> None:
        self.status: Counter[str] = Counter()
        self.errors: Counter[str] = Counter()
        self.formats: Counter[str] = Counter()
        self.devices: Counter[str] = Counter()
        self.nodes: Counter[str] = Counter()
        self.retried = self.bytes_in = self.bytes_out = self.retries = 0
        self.brightness = {name: Distribution(bins_of(name)) for side in ("in", "out") for name, _ in luma_fields(side)}
        self.grid = np.zeros((GRID, GRID), np.int64)
        self.stages = {stage: Distribution(np.geomspace(1e-3, 1e7, 1001)) for stage in STAGES}
        self.timeline = Timeline()
        self.sample = Leaders(SAMPLE)
        self.chosen = {choice.name: Leaders(SHOWN) for choice in CHOICES}
        self.failures: dict[str, Leaders] = {}
        self._random = np.random.default_rng(0)  # the same rows give the same report

    def add(self, table: pa.Table) -> None:
        """Take in the rows of one file."""
        for name, counter in (
            ("status", self.status),
            ("error_type", self.errors),
            ("format", self.formats),
            ("device", self.devices),
            ("node", self.nodes),
        ):
            for found in pc.value_counts(table[name].drop_null()).to_pylist():
                counter[found["values"]] += found["counts"]
        self.retried += pc.sum(pc.greater(table["attempt"], 1)).as_py() or 0
        self.bytes_in += pc.sum(table["bytes_in"]).as_py() or 0
        self.bytes_out += pc.sum(table["bytes_out"]).as_py() or 0
        self.retries += pc.sum(table["retries"]).as_py() or 0
        self.timeline.add(table["finished"].drop_null().cast(pa.int64()).to_numpy())
        for stage, distribution in self.stages.items():
            distribution.add(column(table, f"{stage}_ms"))
        has_luma = pc.is_valid(table["luma_mean_in"])  # label maps have none
        self._add_brightness(table.filter(pc.and_(pc.not_equal(table["status"], "failed"), has_luma)))
        self._add_failures(table.filter(pc.equal(table["status"], "failed")))

    def _add_brightness(self, done: pa.Table) -> None:
        for name, distribution in self.brightness.items():
            distribution.add(column(done, name))
        before, after = column(done, "luma_mean_in"), column(done, "luma_mean_out")
        self.grid += np.histogram2d(before, after, GRID, [[0, 1], [0, 1]])[0].astype(np.int64)
        self.sample.add(done, self._random.random(len(done)))
        enhanced = done.filter(pc.equal(done["status"], "ok"))
        for choice in CHOICES:
            self.chosen[choice.name].add(enhanced, choice.key(enhanced))

    def _add_failures(self, failed: pa.Table) -> None:
        keys = self._random.random(len(failed))
        for kind in failed["error_type"].unique().to_pylist():
            of_kind = pc.equal(failed["error_type"], kind)
            examples = self.failures.setdefault(kind, Leaders(EXAMPLES))
            examples.add(failed.filter(of_kind), keys[of_kind.to_numpy()])


def aggregate(tables: Iterable[pa.Table]) -> Aggregates:
    """Gather all tables."""
    aggregates = Aggregates()
    for table in tables:
        aggregates.add(table)
    return aggregates


def column(table: pa.Table, name: str) -> Floats:
    """Return the values of a column that are not null, as float64."""
    return table[name].drop_null().to_numpy().astype(np.float64)


def change(table: pa.Table) -> Floats:
    """Return by how much the mean brightness changed."""
    return np.abs(column(table, "luma_mean_out") - column(table, "luma_mean_in"))


def bins_of(name: str) -> Floats:
    """Return the edges of 200 bins over the range of a column of brightness."""
    highest = {"entropy": 16.0, "contrast": 0.5}.get(name.rpartition("_")[0], 1.0)
    return np.linspace(0, highest, 201)
