"""The video job: segments of videos over a pool of Ray Data actors, each of which holds the model."""

import time
from typing import Any

import numpy as np
import ray

from sgllie.corpus import FRAMES, STATS, VIDEOS
from sgllie.distributed.cluster import beside_driver
from sgllie.distributed.shards import (
    REPORT_SECONDS,
    Job,
    carry_out,
    run_batch,
    shard_dataset,
    watch,
)
from sgllie.memory import keep_freed_memory
from sgllie.progress import duration
from sgllie.settings import failures_allowed
from sgllie.video.corpus import Segment
from sgllie.video.progress import display
from sgllie.video.run import VideoRun, count, finish, prepare
from sgllie.video.settings import VideoSettings

COUNT_SECONDS = 5.0
"""Between two looks at how many videos have failed."""


@ray.remote(num_cpus=0)
class FrameBoard:
    """Collects from all workers how many frames of each segment are done; a segment run again replaces its count."""

    def __init__(self) -> None:
        self.segments: dict[int, tuple[str, int]] = {}

    def set(self, shard: int, path: str, done: int) -> None:
        """Note the state of a segment."""
        self.segments[shard] = (path, done)

    def read(self) -> dict[str, int]:
        """The frames that are done of each video."""
        frames: dict[str, int] = {}
        for path, done in self.segments.values():
            frames[path] = frames.get(path, 0) + done
        return frames


class SegmentWorker:
    """One actor of the pool: holds a pipeline, and runs the segments that Ray Data hands to it."""

    def __init__(
        self,
        settings: VideoSettings,
        root: str,
        run: str,
        target: tuple[str, str] | None,
        board: Any,
    ) -> None:
        import cv2

        from sgllie.video.pipeline import VideoPipeline

        keep_freed_memory()
        cv2.setNumThreads(1)  # decoding, enhancement and encoding are the parallel ones
        self.board = board
        self.reported = 0.0
        self.pipeline = VideoPipeline(settings, root, run, target, self.report)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Run the segments of a batch."""
        return run_batch(batch, self.pipeline.run)

    def report(self, segment: Segment, done: int) -> None:
        """Tell the board now and then."""
        if done >= segment.frames or time.monotonic() - self.reported > REPORT_SECONDS:
            self.board.set.remote(segment.shard, segment.path, done)
            self.reported = time.monotonic()


def video(settings: VideoSettings) -> int:
    """Run the job to its end.

    Returns:
        The exit code: 0 all videos are there, 3 finished with failed videos, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    return carry_out(Job(prepare, opening, work, finish, closing), settings)


def work(run: VideoRun) -> str | None:
    """Run the segments that are left; the reason, if the job was stopped before the end."""
    limit = run.settings.max_failures
    allowed = failures_allowed(limit, run.plan.images)
    board = beside_driver(FrameBoard)
    counted = time.monotonic()
    with display([run.segments[shard] for shard in run.shards]) as shown:

        def look() -> str | None:
            nonlocal counted
            shown.update(ray.get(board.read.remote()))
            if limit is not None and time.monotonic() - counted > COUNT_SECONDS:
                counted = time.monotonic()
                failed = count(run.output)["failed"]
                if failed > allowed:
                    return f"{failed} videos have failed, more than --max-failures {limit} allows"
            return None

        arguments = (run.root, run.output.uri, run.target, board)
        return watch(shard_dataset(SegmentWorker, run.settings, run.shards, *arguments), look)


def opening(run: VideoRun) -> str:
    """What is about to be done, in words."""
    settings, plan = run.settings, run.plan
    ignored, examples = run.ignored
    frames = sum(segment.frames for segment in run.segments)
    lines = [
        f"{plan.images:,} videos ({plan.size / 1e6:,.1f} MB, about {frames:,} frames) in {settings.input}, "
        f"{len(run.segments):,} segments" + (f", {len(run.shards):,} of them left" if run.resumed else "")
    ]
    if ignored:
        named = ", ".join(examples[:5]) + (", ..." if ignored > 5 else "")
        lines.append(f"{ignored:,} other files ignored: {named}")
    if settings.dry_run:
        lines.append(f"Dry run: they would be enhanced into {settings.output}; nothing was written.")
    return "\n".join(lines)


def closing(run: VideoRun, totals: dict[str, Any], seconds: float) -> str:
    """What was done, in words."""
    output = run.settings.output
    outcome = f"{totals['ok']:,} enhanced"
    if totals["failed"]:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in totals["errors"].items())
        outcome += f", {totals['failed']:,} failed ({kinds})"
    repeated = f" ({totals['repeated']:,} damaged ones repeated)" if totals["repeated"] else ""
    lines = [
        f"{totals['videos']:,} videos: {outcome}; {totals['frames']:,} frames{repeated}; "
        f"mean luminance {totals['luminance_mean_in']:.2f} -> {totals['luminance_mean_out']:.2f}; {duration(seconds)}."
    ]
    if not run.shards:
        lines[0] += " All of it was there already."
    lines += totals["failures"]
    lines += [f"{video} is not in the output, whose container cannot hold it" for video in totals["left_out"]]
    if not run.target:
        lines.append(f"Videos in {output}/{VIDEOS}, one row for each in {output}/{STATS}.")
    elif totals["ok"]:
        lines.append(f"A row for each of its frames in {run.output.uri}/{FRAMES}.")
    return "\n".join(lines)
