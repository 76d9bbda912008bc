"""Helpers of the tests that run `sgllie video` in this process: what the actors would do, one segment after another."""

import pyarrow.dataset as ds

from sgllie.runs.job import InProcess, finish
from sgllie.video.pipeline import VideoPipeline
from sgllie.video.run import VideoRun, prepare
from sgllie.video.settings import VideoSettings

QUICK = {"preset": "superfast", "threads": 1, "device": "cpu"}


def settings_for(source, output, **options) -> VideoSettings:
    return VideoSettings(str(source), str(output), **QUICK | options)


def pipeline_of(run: VideoRun) -> VideoPipeline:
    return run.make_pipeline(lambda shard, done, failed, group="": None)


def work(settings: VideoSettings) -> dict:
    """Run the job to its end; its totals."""
    run = prepare(settings)
    if run.shards:
        pipeline = pipeline_of(run)
        for shard in run.shards:
            pipeline.run(shard)
    return finish(run, {}, InProcess())


def rows(output, table="stats") -> list[dict]:
    """All rows of a run, in the order of their paths."""
    return sorted(ds.dataset(output / table).to_table().to_pylist(), key=lambda row: row["path"])


def row_of(source, output, **options) -> dict:
    """Enhance one video into a file; its row."""
    work(settings_for(source, output, **options))
    return rows(output.parent / f".{output.name}.run")[0]
