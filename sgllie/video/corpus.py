"""What a corpus of videos is while a job works on it: the Arrow schemas of its tables, beside those of `corpus`.

OUT/manifest/part-00000.parquet      the listed videos
OUT/manifest/segments.parquet        their segments, numbered through: the shards of the job
OUT/segments/part-00042.parquet      one row: segment 42 is done
OUT/frames/part-00042.parquet        a row for each of its frames
OUT/.partial/encoded/00042.mp4       its pictures, until its video is joined
OUT/stats/part-00007.parquet         one row: video 7 is done, and lies in OUT/videos/
"""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from sgllie.corpus import MANIFEST, Row, from_parquet, to_parquet
from sgllie.storage import LocalStorage, Storage
from sgllie.video.clip import FrameRow

SEGMENT_TABLE = "segments.parquet"
ENCODED = f"{LocalStorage.SCRATCH}/encoded"


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


SEGMENT_TABLE_SCHEMA = pa.schema(
    [
        ("shard", pa.int32()),
        ("video", pa.int32()),
        ("path", pa.string()),
        ("size", pa.int64()),
        ("begin", pa.int64()),
        ("end", pa.int64()),
        ("frames", pa.int64()),
        ("first", pa.int32()),
        ("last", pa.int32()),
    ]
)

FRAMES_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("time", pa.float64()),
        ("luminance_mean_in", pa.float32()),
        ("luminance_mean_out", pa.float32()),
        ("factor_mean", pa.float32()),
        ("cut", pa.bool_()),
        ("repeated", pa.bool_()),
    ]
)
"""One row for each frame of a segment; time is in seconds."""

COUNTED = [
    ("frames", pa.int64()),
    ("repeated", pa.int64()),
    ("cuts", pa.int64()),
    ("luminance_mean_in", pa.float32()),
    ("luminance_mean_out", pa.float32()),
]
OUTCOME = [("path", pa.string()), ("status", pa.string()), ("error_type", pa.string()), ("error", pa.string())]
WORK = [("seconds", pa.float32()), ("finished", pa.timestamp("ms", tz="UTC")), ("node", pa.string())]

SEGMENTS_SCHEMA = pa.schema([("shard", pa.int32()), *OUTCOME, *COUNTED, ("attempt", pa.int16()), *WORK])
"""One row for each segment; seconds is how long its enhancement took."""

VIDEOS_SCHEMA = pa.schema(
    [
        *OUTCOME,
        ("output", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bit_depth", pa.int8()),
        ("codec", pa.string()),
        ("duration", pa.float64()),
        *COUNTED,
        ("segments", pa.int32()),
        ("left_out", pa.string()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
        *WORK,
    ]
)
"""One row for each video; duration is in seconds, as the container tells, and seconds the sum over its segments."""


def segments_bytes(segments: Iterable[Segment]) -> bytes:
    """The Parquet file of the planned segments."""
    return to_parquet(pa.Table.from_pylist([segment._asdict() for segment in segments], SEGMENT_TABLE_SCHEMA))


def read_segments(output: Storage) -> list[Segment]:
    """The planned segments of a run, by their number."""
    table = from_parquet(output.read(f"{MANIFEST}/{SEGMENT_TABLE}"))
    return [Segment(**row) for row in table.to_pylist()]


def frames_bytes(path: str, rows: list[FrameRow]) -> bytes:
    """The Parquet file of a segment's frames."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in FrameRow._fields]
    return to_parquet(pa.table([[path] * len(rows), *columns], schema=FRAMES_SCHEMA))


def row_bytes(row: Row, schema: pa.Schema) -> bytes:
    """The Parquet file of one row."""
    return to_parquet(pa.Table.from_pylist([row], schema))


def encoded_name(shard: int) -> str:
    """Where the pictures of a segment lie until its video is joined."""
    return f"{ENCODED}/{shard:05d}.mp4"
