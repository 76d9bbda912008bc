"""A run over videos in its output folder: begun, resumed or refused, and finished.

For one video that is written to a file the run lies in a hidden folder beside it: `.OUT.mp4.run`.
"""

import dataclasses
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from sgllie.corpus import MANIFEST, SEGMENTS, STATS, SUCCESS, Row, part_name, parts, read_manifest, read_rows
from sgllie.listing import is_pattern
from sgllie.methods import describe_weights
from sgllie.plan import Plan
from sgllie.run import Images, begin, describe, mark_finished, planned, read_json, read_run, refuse_differences
from sgllie.storage import LocalStorage, Storage, StorageError, UsageError, open_storage, split_uri
from sgllie.video.clip import WHOLE
from sgllie.video.corpus import SEGMENT_TABLE, Segment, read_segments, segments_bytes
from sgllie.video.reader import EXTENSIONS, VideoError, VideoReader
from sgllie.video.segments import CONTAINERS, Span, cut, output_name
from sgllie.video.settings import VideoSettings

LISTED_TOGETHER = 1000
"""Videos in one part of the manifest, at most."""
PROBES = 16
"""Files that are looked at at the same time."""
NAMED_FAILURES = 5


@dataclass(frozen=True)
class VideoRun:
    """One run, as it lies in its output.

    Attributes:
        settings: of the present command.
        output: where it lies.
        root: folder or prefix that all paths are relative to.
        target: folder and name of the output file, where the run is about one video; else None.
        plan: what the input came to.
        ignored: files of the input that are no videos by their name: how many, and the first few.
        segments: all of them, by their number.
        shards: the numbers of those that are not done, or whose video is not.
        resumed: whether an earlier command began it.
    """

    settings: VideoSettings
    output: Storage
    root: str
    target: tuple[str, str] | None
    plan: Plan
    ignored: tuple[int, list[str]]
    segments: list[Segment]
    shards: list[int]
    resumed: bool


def prepare(settings: VideoSettings) -> VideoRun:
    """List the input, and begin a run or find the one that is to be resumed. Nothing is written for a dry run.

    Raises:
        UsageError: there is nothing to do, or the output holds something else.
    """
    target = single_target(settings)
    folder = run_folder(target) if target else settings.output
    output = open_storage(folder, settings.s3)
    weights = describe_weights(settings)
    in_the_way = read_run(output)
    earlier = None if settings.overwrite or is_removed(output, target, settings) else in_the_way
    if target and not in_the_way and not settings.overwrite and exists(target, settings):
        raise UsageError(f"output {settings.output} is there already; --overwrite replaces it")
    with TemporaryDirectory(prefix="sgllie-") as scratch:
        manifest = Path(scratch) / MANIFEST
        manifest.mkdir()
        videos = Images(dataclasses.replace(settings, output=folder), EXTENSIONS, "videos")
        plan = planned(videos, LISTED_TOGETHER, output_name, manifest)
        run_json = describe(settings, videos, plan, weights)
        root = videos.listing.root
        if earlier:
            refuse_differences(earlier, run_json, settings.output)
            segments = read_segments(output)
        elif settings.retry_failed:
            raise UsageError(f"--retry-failed: there is no run in {settings.output}")
        else:
            segments = all_segments(manifest, plan, open_storage(root, settings.s3), settings)
            if not settings.dry_run:
                sources = (settings.input, root)
                begin(output, settings.output, sources if in_the_way else None, manifest, run_json)
    if settings.retry_failed:
        forget_failed(output, segments, settings.dry_run)
    shards = open_shards(output, segments) if earlier else [segment.shard for segment in segments]
    ignored = (videos.listing.ignored, videos.listing.ignored_examples)
    return VideoRun(settings, output, root, target, plan, ignored, segments, shards, resumed=bool(earlier))


def single_target(settings: VideoSettings) -> tuple[str, str] | None:
    """Folder and name of the output, if one video is to be written to one file."""
    suffix = PurePosixPath(settings.output).suffix.lower()
    if suffix not in EXTENSIONS | set(CONTAINERS):
        return None
    if suffix not in CONTAINERS:
        raise UsageError(f"output {settings.output}: the suffix must be one of {', '.join(CONTAINERS)}")
    is_local = "://" not in settings.input
    is_several = is_pattern(settings.input, is_local) or (is_local and Path(settings.input).is_dir())
    if is_several or PurePosixPath(settings.input).suffix.lower() not in EXTENSIONS:
        sentence = f"output {settings.output} is one file, but input {settings.input} is not one video by its name"
        raise UsageError(f"{sentence}; choose a folder for the output")
    if split_uri(settings.input) == split_uri(settings.output):
        raise UsageError(f"output {settings.output} is the input itself; choose another one")
    if not exists(split_uri(settings.input), settings):
        raise UsageError(f"input {settings.input} does not exist")
    return split_uri(settings.output)


def exists(place: tuple[str, str], settings: VideoSettings) -> bool:
    """Whether there is a file of this folder and name; UsageError if nobody can tell."""
    folder, name = place
    try:
        return open_storage(folder, settings.s3).exists(name)
    except StorageError as error:
        raise UsageError(f"{folder}/{name} cannot be reached: {error}") from error


def is_removed(output: Storage, target: tuple[str, str] | None, settings: VideoSettings) -> bool:
    """Whether the file that a finished run has written is not there any more, so that it has to be made anew."""
    return bool(target and read_json(output, SUCCESS) and not exists(target, settings))


def run_folder(target: tuple[str, str]) -> str:
    """The hidden folder of a run about one video, beside its output."""
    return f"{target[0].rstrip('/')}/.{target[1]}.run"


def all_segments(folder: Path, plan: Plan, source: Storage, settings: VideoSettings) -> list[Segment]:
    """The segments of all planned videos, written to the local folder of the manifest."""
    listed = LocalStorage(str(folder.parent))
    entries = [entry for number in range(len(plan.shards)) for entry in read_manifest(listed, number)]
    segments: list[Segment] = []
    with ThreadPoolExecutor(PROBES) as pool:
        found = pool.map(lambda entry: spans(source, entry.path, settings.segment_seconds), entries)
        for video, (entry, (cuts, frames)) in enumerate(zip(entries, found, strict=True)):
            first = len(segments)
            last = first + len(cuts) - 1
            for span in cuts:
                row = (len(segments), video, entry.path, entry.size, *span, frames // len(cuts), first, last)
                segments.append(Segment(*row))
    (folder / SEGMENT_TABLE).write_bytes(segments_bytes(segments))
    return segments


def spans(source: Storage, path: str, seconds: float) -> tuple[list[Span], int]:
    """Where to cut a video, and how many frames it has as far as it tells.

    One that cannot be opened is a single span: the worker that tries it again will say why.
    """
    try:
        with source.open(path) as file, VideoReader(file, threads=1) as reader:
            return cut(reader, seconds), reader.info.frames
    except (VideoError, StorageError, OSError):
        return [WHOLE], 0


def forget_failed(output: Storage, segments: list[Segment], dry_run: bool) -> None:
    """Take back the rows of failed videos and of their failed segments, so that they are done again."""
    done = parts(output.list(STATS))
    videos = {segment.video for segment in segments}
    if len(done) < len(videos):
        raise UsageError(f"--retry-failed: {len(videos) - len(done)} videos are not finished; run without it first")
    if dry_run:
        return
    failed = {video for video in done if read_rows(output, f"{STATS}/{part_name(video)}")[0]["status"] == "failed"}
    if failed:
        output.remove(SUCCESS)
    for segment in segments:
        if segment.video in failed:
            # The pictures of its good segments are gone too.
            output.remove(f"{SEGMENTS}/{part_name(segment.shard)}")
    for video in failed:
        output.remove(f"{STATS}/{part_name(video)}")


def open_shards(output: Storage, segments: list[Segment]) -> list[int]:
    """The segments that are not done, and one segment of each video that only remains to be joined."""
    videos, done = parts(output.list(STATS)), parts(output.list(SEGMENTS))
    waiting = [segment for segment in segments if segment.video not in videos]
    left = [segment.shard for segment in waiting if segment.shard not in done]
    begun = {segments[shard].video for shard in left}
    return left + [segment.shard for segment in waiting if segment.shard == segment.last and segment.video not in begun]


def finish(run: VideoRun) -> dict[str, Any]:
    """Count the rows, write _SUCCESS, clear away what was temporary; the content of _SUCCESS is returned.

    Raises:
        StorageError: the rows are not one for each video, or the output cannot be written.
    """
    totals = count(run.output)
    if totals["videos"] != run.plan.images:
        raise StorageError(f"{run.output.uri}/{STATS} holds {totals['videos']} rows for {run.plan.images} videos")
    mark_finished(run.output, totals)
    if run.target:
        beside = open_storage(run.target[0], run.settings.s3)
        beside.remove(LocalStorage.SCRATCH)
        if totals["failed"]:
            beside.remove(split_uri(run.output.uri)[1])  # other settings may do better, and have to be free to try
    return totals


def count(output: Storage) -> dict[str, Any]:
    """The totals over the rows of all videos."""
    with ThreadPoolExecutor(PROBES) as pool:
        names = [f"{STATS}/{part_name(video)}" for video in sorted(parts(output.list(STATS)))]
        rows: list[Row] = [row for found in pool.map(lambda name: read_rows(output, name), names) for row in found]
    good = [row for row in rows if row["status"] == "ok"]
    frames = max(sum(row["frames"] for row in good), 1)
    means = {
        name: round(sum(row[name] * row["frames"] for row in good) / frames, 4)
        for name in ("luminance_mean_in", "luminance_mean_out")
    }
    return {
        "videos": len(rows),
        "ok": len(good),
        "failed": len(rows) - len(good),
        "errors": dict(Counter(row["error_type"] for row in rows if row["status"] == "failed").most_common()),
        "failures": [f"{row['path']}: {row['error']}" for row in rows if row["status"] == "failed"][:NAMED_FAILURES],
        "left_out": [f"{row['path']}: {row['left_out']}" for row in good if row["left_out"]][:NAMED_FAILURES],
        "frames": sum(row["frames"] for row in good),
        "repeated": sum(row["repeated"] for row in good),
        "bytes_in": sum(row["bytes_in"] or 0 for row in rows),
        "bytes_out": sum(row["bytes_out"] or 0 for row in rows),
        **means,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }
