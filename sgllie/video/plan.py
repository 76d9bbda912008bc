"""From listed videos to segments, which are the shards of the job.

OUT/manifest/part-00000.parquet      the listed videos
OUT/manifest/segments.parquet        their segments, numbered through
OUT/segments/part-00042.parquet      one row: segment 42 is done
OUT/frames/part-00042.parquet        a row for each of its frames
OUT/.partial/encoded/00042.mp4       its pictures, until its video is joined
OUT/commits/part-00007.parquet       one row: video 7 is done, and lies in OUT/videos/
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from sgllie.errors import DamagedError, ItemError, ReadError
from sgllie.runs.memory import MemoryBudget
from sgllie.runs.names import MANIFEST
from sgllie.runs.plan import Plan
from sgllie.runs.schemas import manifest_schema
from sgllie.runs.start import incomplete_manifest
from sgllie.runs.tables import entries_in, manifest_bytes, read_table
from sgllie.storage import SCRATCH, Storage
from sgllie.video.reader import VideoReader
from sgllie.video.spans import WHOLE, Span, cut

SEGMENT_TABLE = "segments.parquet"
ENCODED = f"{SCRATCH}/encoded"
PROBES = 16
"""Files that are looked at at the same time."""


class Segment(NamedTuple):
    """One shard of the job.

    Attributes:
        shard: its number.
        video: the number of its video in the listing.
        path: of the video, below the input.
        size: bytes of the video, if the listing told.
        begin, end: in ticks; None for the begin and the end of the video.
        frames: as far as the container tells; what progress is counted against.
        first, last: the shards of the same video.
    """

    shard: int
    video: int
    path: str
    size: int | None
    begin: int | None
    end: int | None
    frames: int
    first: int
    last: int


def plan_segments(manifest: Path, plan: Plan, source: Storage, seconds: float, memory: MemoryBudget) -> list[Segment]:
    """Cut all planned videos into segments, and add these to the local folder of the manifest.

    Args:
        manifest: the folder, in which the videos are listed.
        plan: of the videos.
        source: where they lie.
        seconds: of a segment, about.
        memory: of a worker; nothing is decoded here of a video that needs more.

    Raises:
        StorageError: the source is gone.
    """
    videos = list(entries_in(manifest, range(len(plan.shards))))
    segments: list[Segment] = []
    with ThreadPoolExecutor(PROBES) as pool:
        found = pool.map(lambda entry: spans(source, entry.path, seconds, memory), videos)
        for video, (entry, (cuts, frames)) in enumerate(zip(videos, found, strict=True)):
            first = len(segments)
            last = first + len(cuts) - 1
            for span in cuts:
                row = (len(segments), video, entry.path, entry.size, *span, frames // len(cuts), first, last)
                segments.append(Segment(*row))
    (manifest / SEGMENT_TABLE).write_bytes(manifest_bytes(segments, Segment))
    return segments


def spans(source: Storage, path: str, seconds: float, memory: MemoryBudget) -> tuple[list[Span], int]:
    """Return where to cut a video, and how many frames it has as far as it tells.

    One that cannot be opened is a single span: the worker that tries it again will say why.
    """
    try:
        with source.open(path) as file, VideoReader(file, 1, memory) as reader:
            return cut(reader, seconds), reader.info.frames
    except (ItemError, ReadError, FileNotFoundError):
        return [WHOLE], 0


def read_segments(output: Storage) -> list[Segment]:
    """Return the planned segments of a run, by their number; UsageError where their table is damaged or not there."""
    try:
        table = read_table(output, f"{MANIFEST}/{SEGMENT_TABLE}", manifest_schema(Segment))
    except DamagedError as error:
        raise incomplete_manifest(output) from error
    return [Segment(**row) for row in table.to_pylist()]


def encoded_name(shard: int) -> str:
    """Return where the pictures of a segment lie until its video is joined."""
    return f"{ENCODED}/{shard:05d}.mp4"
