"""Simulate a job of a hundred million images: all of it but the pixels, and hours of each step at 1 and 1,000 workers.

    python benchmarks/simulation.py [--images 100000000] [--shard-seconds 0.0055] [--scratch FOLDER]

A listing makes up names, and a pipeline makes up rows, random where real ones are; everything else is the job's own
code: planning, committing, counting, compaction, the end, resuming, the report. All of it runs in one process, one
shard after another. Printed are seconds, seconds of processors (which others on the machine do not lengthen, and which
leave out what was waited for), and from these the hours for a hundred million, on one worker and on 1,000. What runs in
the driver takes as long with any number of workers; what runs in workers is divided by them, on paper. With fewer
`--images` steps are scaled by the images, or by the shards, of which a hundred million have at most 20,000. The
scheduling of Ray is not simulated: `--shard-seconds` is what the handing out of a shard costs the driver, as
`python benchmarks/shards.py` measures it.
"""

import argparse
import hashlib
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from sgllie.corpus.listing import Listing
from sgllie.enhance.run import EnhanceRun
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import TALLY
from sgllie.methods import describe_weights
from sgllie.report import ReportSettings, write_report
from sgllie.runs.commits import write_commit
from sgllie.runs.compaction import outdated, write_stats_file
from sgllie.runs.inputs import plan_inputs
from sgllie.runs.plan import Plan
from sgllie.runs.run import Pipeline
from sgllie.runs.run_file import Json, describe
from sgllie.runs.schemas import STATS_SCHEMA, Row
from sgllie.runs.shard_runner import Report
from sgllie.runs.start import open_run, survey
from sgllie.runs.tables import read_manifest
from sgllie.runs.totals import Totals
from sgllie.storage import Entry, Storage, open_storage

ALL = 100_000_000
SHARDS = 20_000
WORKERS = 1000
LUMA = [name for name in STATS_SCHEMA.names if name.startswith(("luma_", "contrast_", "entropy_", "factor_"))]
TIMES = ("read_ms", "decode_ms", "enhance_ms", "encode_ms", "write_ms")


class Names(Listing):
    """A listing of images that are not there.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__("/simulated")

    def _resolve(self) -> tuple[str, str]:
        return self.source, "tree"

    def _entries(self) -> Iterator[Entry]:
        for number in range(self.count):
            version = f"{number:032x}"
            yield Entry(f"drive-{number // 1000:06d}/camera-front/frame-{number:09d}.jpg", 350_000, version)


class RowMaker(Pipeline):
    """Commits shards of which nothing was enhanced."""

    def __init__(self, output: Storage) -> None:
        self.output = output
        self.generator = np.random.default_rng(0)

    def run(self, shard: int) -> Totals:
        """Make up the rows of a shard, and commit them."""
        entries = read_manifest(self.output, shard, Entry)
        numbers = self.generator.random((len(entries), len(LUMA) + len(TIMES)))
        rows = [row_of(shard, entry, values.tolist()) for entry, values in zip(entries, numbers, strict=True)]
        spent = {"core_seconds": 10.0, "gpu_seconds": 0.0}
        return write_commit(self.output, shard, rows, STATS_SCHEMA, TALLY, spent=spent)


def row_of(shard: int, entry: Entry, values: list[float]) -> Row:
    """Return a row that is as hard to store as a real one."""
    assert entry.size is not None
    digest = hashlib.sha256(entry.path.encode()).hexdigest()
    row: Row = {"path": entry.path, "output": f"images/{entry.path}", "status": "ok", "shard": shard, "attempt": 1}
    row |= {"format": "jpeg", "mode": "RGB", "bit_depth": 8, "width": 1920, "height": 1080, "device": "cpu"}
    row |= {"bytes_in": entry.size, "bytes_out": entry.size + int(values[0] * 1e5), "retries": 0, "node": "node"}
    row |= {"sha256_in": digest, "sha256_out": digest[::-1], "finished": datetime.now(UTC).replace(tzinfo=None)}
    return row | dict(zip((*LUMA, *TIMES), values, strict=True))


class SimulatedRun(EnhanceRun):
    """A run whose workers make up rows."""

    def make_pipeline(self, report: Report) -> Pipeline:
        """Make the pipeline of a worker."""
        return RowMaker(self.output)


class Steps:
    """The seconds that each step took."""

    def __init__(self) -> None:
        self.last = moment()

    def done(self, name: str, times: float, *, divided: bool = False) -> None:
        """Print what the step that has just ended took, and will take.

        Args:
            name: of the step.
            times: what a hundred million images take in its place.
            divided: among workers; else it is the driver's.
        """
        seconds, processors = moment() - self.last
        tell(name, seconds, processors, processors * times, divided=divided)
        self.last = moment()


def moment() -> NDArray[np.float64]:
    """Return the time, and that of the processors of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def tell(name: str, seconds: float, processors: float, for_all: float, *, divided: bool) -> None:
    """Print what a step takes."""
    hours = for_all / 3600
    many = hours / WORKERS if divided else hours
    print(f"{name:34} {seconds:9.1f} s {processors:9.1f} s  {hours:8.2f} h  {many:8.3f} h", flush=True)


def list_names(count: int, manifest: Path) -> tuple[Plan, Json]:
    """Plan the images that are not there, as `sgllie enhance` plans others."""
    return plan_inputs(Names(count), None, str, EnhanceSettings.shard_images, manifest)


def prepare(settings: EnhanceSettings, count: int) -> EnhanceRun:
    """Begin the run, or find it again."""
    description = describe(settings, {"input": settings.input}, {}, describe_weights(settings))
    run = open_run(settings, open_storage(settings.output), description, partial(list_names, count))
    return SimulatedRun(settings, *run, *survey(settings, run))


def simulate(count: int, output: Path, shard_seconds: float) -> None:
    """Take a job from its listing to its report."""
    settings = EnhanceSettings("/simulated", str(output), device="cpu")
    print(f"{count:,} images: seconds, of them processors'; hours of {ALL:,} on one worker, and on {WORKERS:,}")
    images, steps = ALL / count, Steps()
    run = prepare(settings, count)
    steps.done("names made up, planned, written", images)
    pipeline = run.make_pipeline(lambda shard, done, failed, group="": None)
    results = {shard: pipeline.run(shard) for shard in run.order}
    steps.done("rows made up, committed", images, divided=True)
    tell(f"{SHARDS:,} shards handed out, on paper", 0, 0, SHARDS * shard_seconds, divided=False)
    again = prepare(settings, count)
    steps.done("resumed: footers of all commits", SHARDS / len(results))
    assert not again.shards
    waiting = outdated(run.output, run.commit_sizes)
    steps.done("which files of rows are to be made", SHARDS / len(results))
    for file in waiting:
        write_stats_file(run.output, file)
    steps.done("compaction", images, divided=True)
    run.finalize(results)
    steps.done("counted, _SUCCESS", SHARDS / len(results))
    write_report(ReportSettings(str(output)))
    steps.done("report", images)
    for folder in ("manifest", "commits", "stats"):
        sizes = [path.stat().st_size for path in (output / folder).iterdir()]
        print(f"{folder:9} {len(sizes):7,} files {sum(sizes) / 1e6:10,.1f} MB, {sum(sizes) / count:.0f} bytes/image")


def main() -> None:
    """Simulate."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=ALL)
    parser.add_argument("--shard-seconds", type=float, default=0.0055, help="of the driver, for one shard")
    parser.add_argument("--scratch", type=Path, help="folder for the output; by default that of the system")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="sgllie-benchmark-", dir=options.scratch) as folder:
        simulate(options.images, Path(folder, "out"), options.shard_seconds)


if __name__ == "__main__":
    main()
