"""A run over videos in its output folder: planned, resumed or refused, counted and finished.

For one video that is written to a file the run lies in a hidden folder beside it: `.OUT.mp4.run`.
"""

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import ClassVar

from sgllie.corpus.listing import Listing, is_pattern
from sgllie.errors import StorageError, UsageError
from sgllie.methods import describe_weights
from sgllie.runs.commits import all_totals, commit_table
from sgllie.runs.cost import describe as describe_spent
from sgllie.runs.inputs import plan_inputs
from sgllie.runs.memory import budgets, lenient
from sgllie.runs.names import COMMITS, FRAMES, RUN, SEGMENTS, STATS, SUCCESS, VIDEOS, part_name, parts
from sgllie.runs.plan import Plan
from sgllie.runs.progress import Display
from sgllie.runs.run import Pipeline, Run, mark_finished
from sgllie.runs.run_file import Json, describe, identity_of, now, read_json, read_result
from sgllie.runs.schemas import VIDEOS_SCHEMA
from sgllie.runs.shard_runner import Report
from sgllie.runs.start import Opened, open_run
from sgllie.runs.tables import some_of
from sgllie.runs.totals import Totals, add_up
from sgllie.runs.words import duration, examples, outcomes, plural
from sgllie.storage import SCRATCH, Storage, absolute_uri, open_storage, split_uri
from sgllie.video.formats import CONTAINERS, EXTENSIONS, check_suffix, output_name
from sgllie.video.plan import ENCODED, Segment, encoded_name, plan_segments, read_segments
from sgllie.video.progress import display
from sgllie.video.settings import VideoSettings
from sgllie.video.totals import sums

LISTED_TOGETHER = 1000
"""Videos in one part of the manifest, at most."""
NAMED_FAILURES = 5


@dataclass(frozen=True, kw_only=True)
class VideoRun(Run[VideoSettings]):
    """One run; the root of its input is `roots["input"]`, its shards are segments.

    Attributes:
        target: folder and name of the output file, where the run is about one video; else None.
        segments: all of them, by their number.
    """

    noun: ClassVar[str] = "videos"
    starts_early: ClassVar[bool] = False
    """A segment takes long, and what is done of it would be lost to the cluster."""

    target: tuple[str, str] | None
    segments: list[Segment]

    def make_pipeline(self, report: Report) -> Pipeline:
        """Make the pipeline of a worker."""
        from sgllie.video.pipeline import VideoPipeline

        return VideoPipeline(self.settings, self.roots["input"], self.output, self.target, self.segments, report)

    def display(self) -> AbstractContextManager[Display]:
        """Show the frames of each video that is at work."""
        return display([self.segments[shard] for shard in self.shards])

    @property
    def threads(self) -> None:
        """None: those of the settings are threads of the codecs, and say nothing of the processors that a GPU needs."""
        return

    @property
    def commit_sizes(self) -> dict[int, int]:
        """One row for each video."""
        return commit_sizes(self.plan)

    @property
    def order(self) -> list[int]:
        """Video after video, since the pictures of one are kept until all of it is done."""
        return sorted(self.shards)

    def failed(self, results: Mapping[int, Totals]) -> int:
        """Count the videos that have failed: the totals of their segments do not say it."""
        return super().failed(committed(self.output))

    def describe_plan(self) -> str:
        """Say how many videos and segments there are, what is ignored, and what a dry run would do."""
        settings, plan = self.settings, self.plan
        frames = sum(segment.frames for segment in self.segments)
        found = (
            f"{plural(plan.items, 'videos')} ({plan.size / 1e6:,.1f} MB, about {frames:,} frames) in {settings.input}"
        )
        left = f", {len(self.shards):,} of them left" if self.resumed else ""
        lines = [f"{found}, {plural(len(self.segments), 'segments')}{left}", *self.notes]
        if settings.dry_run:
            lines.append(f"Dry run: they would be enhanced into {settings.output}; nothing was written.")
        return "\n".join(lines)

    def finalize(self, totals: Mapping[int, Totals]) -> Json:
        """Sum up what stands at the ends of the files of all videos, and write _SUCCESS."""
        videos = committed(self.output)
        together = add_up(videos.values())
        result = sums(together) | {
            "failures": named(self.output, videos, "failed", "error"),
            "left_out": named(self.output, videos, "left_out", "left_out"),
            "finished": now(),
        }
        result |= self.spent(together)
        if result["videos"] != self.plan.items:
            raise StorageError(f"{self.output.uri}/{COMMITS} has {result['videos']} rows for {self.plan.items} videos")
        mark_finished(self.output, result)
        if self.target:
            beside = open_storage(self.target[0], self.settings.s3)
            with suppress(OSError):  # it is not there, or holds what is not of this run
                os.rmdir(os.path.join(self.target[0], SCRATCH))
            if result["failed"]:
                beside.remove(split_uri(self.output.uri)[1])  # other settings may do better, and must be free to try
        return result

    def summarize(self, totals: Json, seconds: float) -> str:
        """Say how many videos were enhanced, what is wrong with the others, and where they are."""
        output = self.settings.output
        repeated = f" ({totals['repeated']:,} damaged ones repeated)" if totals["repeated"] else ""
        luma = f"mean luma {totals['luma_mean_in']:.2f} -> {totals['luma_mean_out']:.2f}"
        frames = f"{plural(totals['frames'], 'frames')}{repeated}"
        done = f"{plural(totals['videos'], 'videos')}: {outcomes(totals, 'enhanced')}; {frames}; {luma}"
        lines = [f"{done}; {duration(seconds)}."]
        if not self.shards:
            lines[0] += " All of it was there already."
        lines += totals["failures"]
        lines += [f"Not in the output: {video}" for video in totals["left_out"]]
        lines.append(describe_spent(totals, totals["videos"], self.settings.price))
        if not self.target:
            lines.append(f"Videos in {output}/{VIDEOS}, one row for each in {output}/{STATS}.")
        elif totals["ok"]:
            lines.append(f"A row for each of its frames in {self.output.uri}/{FRAMES}.")
        return "\n".join(lines)


def prepare(settings: VideoSettings) -> VideoRun:
    """Find the run that is to be resumed, or list the input and begin one. Nothing is written for a dry run.

    Raises:
        UsageError: there is nothing to do, or the output holds something else.
    """
    target = single_target(settings)
    folder = run_folder(target) if target else settings.output
    output = open_storage(folder, settings.s3)
    replace = settings.overwrite or is_removed(output, target, settings)
    if target and not settings.overwrite and not has_run(output) and exists(target, settings):
        raise UsageError(f"output {settings.output} is there already; --overwrite replaces it")
    planned: list[Segment] = []

    def list_input(manifest: Path) -> tuple[Plan, Json]:
        listing = Listing(settings.input, settings.s3, absolute_uri(folder), EXTENSIONS)
        names = partial(output_name, codec=settings.codec)
        plan, inputs = plan_inputs(listing, settings.limit, names, LISTED_TOGETHER, manifest, noun="videos")
        if replace or not has_run(output):
            source = open_storage(inputs["roots"]["input"], settings.s3)
            memory = lenient(budgets(settings.worker_memory)[1], settings.worker_memory)
            planned.extend(plan_segments(manifest, plan, source, settings.segment_seconds, memory))
        return plan, inputs

    description = describe(settings, {"input": settings.input}, {}, describe_weights(settings))
    run = open_run(settings, output, description, list_input, replace=replace)
    segments = read_segments(output) if run.resumed else planned
    if run.resumed and not settings.dry_run:
        forget_damaged(run, segments)
    if settings.retry_failed and not settings.dry_run:
        forget_failed(run, segments)
    shards = open_shards(output, segments) if run.resumed else [segment.shard for segment in segments]
    left = dict.fromkeys(shards, 1)
    return VideoRun(settings, *run, left, committed(output) if run.resumed else {}, target=target, segments=segments)


def commit_sizes(plan: Plan) -> dict[int, int]:
    """Return how many rows each commit of a run over videos has, by its number: one, since each is about a video."""
    return dict.fromkeys(range(plan.items), 1)


def has_run(output: Storage) -> bool:
    """Tell whether there is a run in an output."""
    return read_json(output, RUN) is not None


def single_target(settings: VideoSettings) -> tuple[str, str] | None:
    """Return folder and name of the output, if one video is to be written to one file."""
    suffix = PurePosixPath(settings.output).suffix.lower()
    if suffix not in EXTENSIONS | set(CONTAINERS):
        return None
    check_suffix(settings.output, settings.codec)
    is_local = "://" not in settings.input
    is_several = is_pattern(settings.input) or (is_local and Path(settings.input).is_dir())
    if is_several or PurePosixPath(settings.input).suffix.lower() not in EXTENSIONS:
        sentence = f"output {settings.output} is one file, but input {settings.input} is not one video by its name"
        raise UsageError(f"{sentence}; choose a folder for the output")
    if split_uri(settings.input) == split_uri(settings.output):
        raise UsageError(f"output {settings.output} is the input itself; choose another one")
    if not exists(split_uri(settings.input), settings):
        raise UsageError(f"input {settings.input} does not exist")
    return split_uri(settings.output)


def exists(place: tuple[str, str], settings: VideoSettings) -> bool:
    """Tell whether there is a file of this folder and name; UsageError if nobody can tell."""
    folder, name = place
    try:
        return open_storage(folder, settings.s3).exists(name)
    except StorageError as error:
        raise UsageError(f"{folder}/{name} cannot be reached: {error}") from error


def is_removed(output: Storage, target: tuple[str, str] | None, settings: VideoSettings) -> bool:
    """Tell whether the file that a finished run has written is not there any more, so that it has to be made anew."""
    return bool(target and read_result(output) and not exists(target, settings))


def run_folder(target: tuple[str, str]) -> str:
    """Return the hidden folder of a run about one video, beside its output."""
    return f"{target[0].rstrip('/')}/.{target[1]}.run"


def forget_damaged(run: Opened, segments: list[Segment]) -> None:
    """Take back rows that cannot be read, and those of segments without their pictures whose video is not done."""
    output = run.output
    pictures = {f"{ENCODED}/{entry.path}" for entry in output.list(ENCODED)}  # removed after their video is committed
    done = committed(output)
    undone = [segment for segment in segments if segment.video not in done]
    names = {entry.path for entry in output.list(COMMITS)}  # empty ones, too
    lost = [f"{COMMITS}/{name}" for name in sorted({part_name(one.video) for one in undone} & names)]
    names = {entry.path for entry in output.list(SEGMENTS)}
    waiting = [one.shard for one in undone if part_name(one.shard) in names]
    sound = all_totals(output, waiting, SEGMENTS, identity_of(output).id)
    for shard in waiting:
        if shard not in sound or not (sound[shard].get("failed") or encoded_name(shard) in pictures):
            lost.append(f"{SEGMENTS}/{part_name(shard)}")
    if lost:
        run.notes.append(f"{plural(len(lost), 'files')} damaged, whose videos are done again: {examples(lost)}")
        for name in (SUCCESS, *lost):
            output.remove(name)


def forget_failed(run: Opened, segments: list[Segment]) -> None:
    """Take back the rows of failed videos and of their failed segments, so that they are done again."""
    output = run.output
    failed = {video for video, totals in committed(output).items() if totals.get("failed")}
    if failed:
        output.remove(SUCCESS)
    for segment in segments:
        if segment.video in failed:
            # The pictures of its good segments are gone too.
            output.remove(f"{SEGMENTS}/{part_name(segment.shard)}")
    for video in failed:
        output.remove(f"{COMMITS}/{part_name(video)}")


def committed(output: Storage) -> dict[int, Totals]:
    """Return the totals of the videos that are done."""
    return all_totals(output, parts(output.list(COMMITS)), run=identity_of(output).id)


def open_shards(output: Storage, segments: list[Segment]) -> list[int]:
    """Return the segments that are not done, and one segment of each video that only remains to be joined."""
    videos, done = parts(output.list(COMMITS)), parts(output.list(SEGMENTS))
    waiting = [segment for segment in segments if segment.video not in videos]
    left = [segment.shard for segment in waiting if segment.shard not in done]
    begun = {segments[shard].video for shard in left}
    return left + [segment.shard for segment in waiting if segment.shard == segment.last and segment.video not in begun]


def named(output: Storage, videos: Mapping[int, Totals], mark: str, column: str) -> list[str]:
    """Return `path: text` of the first videos whose totals have a mark, with the text of a column of their rows."""
    marked = [video for video, totals in sorted(videos.items()) if totals.get(mark)][:NAMED_FAILURES]
    columns = some_of(VIDEOS_SCHEMA, "path", column)
    rows = [row for video in marked for row in commit_table(output, video, columns).to_pylist()]
    return [f"{row['path']}: {row[column]}" for row in rows]
