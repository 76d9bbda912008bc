"""Manifest, shards and the table of statistics: what a corpus is while a job works on it.

    OUT/manifest/part-00042.parquet   the images of shard 42
    OUT/stats/part-00042.parquet      one row for each of them; the shard is done when this file exists, and only then

The Arrow schemas stand here, those of video in video/corpus.py, and nowhere else.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from sgllie.storage import Entry, Storage

MANIFEST, STATS, IMAGES, RUN, SUCCESS = "manifest", "stats", "images", "run.json", "_SUCCESS"
REPORT = "report.html"
SEGMENTS, FRAMES, VIDEOS = "segments", "frames", "videos"
SHARD_BYTES = 256 * 2**20

MANIFEST_SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("version", pa.string())])


def brightness_fields(side: str) -> list[tuple[str, pa.DataType]]:
    """The statistics that every image has before (`in`) and after (`out`)."""
    names = ["luminance_mean", "luminance_p5", "luminance_p50", "luminance_p95", "contrast", "entropy", "clipped"]
    return [(f"{name}_{side}", pa.float32()) for name in names]


STATS_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("output", pa.string()),
        ("status", pa.string()),
        ("error_type", pa.string()),
        ("error", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("bit_depth", pa.int8()),
        ("format", pa.string()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("sha256_in", pa.string()),
        ("sha256_out", pa.string()),
        *brightness_fields("in"),
        *brightness_fields("out"),
        ("factor_mean", pa.float32()),
        ("factor_min", pa.float32()),
        ("factor_max", pa.float32()),
        ("read_ms", pa.float32()),
        ("decode_ms", pa.float32()),
        ("enhance_ms", pa.float32()),
        ("encode_ms", pa.float32()),
        ("write_ms", pa.float32()),
        ("retries", pa.int16()),
        ("finished", pa.timestamp("ms")),
        ("shard", pa.int32()),
        ("attempt", pa.int16()),
        ("node", pa.string()),
    ]
)
"""One row for each listed image; absent values are null. The README says what each column means."""

Row = dict[str, Any]


class Sized(Protocol):
    """What is cut into shards: an `Entry`, or what another job has in its place."""

    @property
    def size(self) -> int | None:
        """Bytes, if they are known."""


Item = TypeVar("Item", bound=Sized)


def part_name(shard: int) -> str:
    """`part-00042.parquet`; the same in the manifest and in the statistics."""
    return f"part-{shard:05d}.parquet"


def parts(entries: Iterable[Entry]) -> set[int]:
    """The shards that a listing of manifest/ or stats/ holds."""
    names = (entry.path for entry in entries)
    return {int(name[5:-8]) for name in names if name.startswith("part-") and name.endswith(".parquet")}


def cut(entries: Iterable[Item], shard_images: int) -> Iterator[list[Item]]:
    """Cut a listing into shards of at most `shard_images` images and about SHARD_BYTES.

    A shard holds at most a sixteenth of what comes before it. Shards are run last one first, so that those left for the
    end are small and all workers finish together (guided self-scheduling, Polychronopoulos and Kuck 1987).
    """
    shard: list[Item] = []
    size = 0
    for listed, entry in enumerate(entries, start=1):
        shard.append(entry)
        size += entry.size or 0
        if len(shard) >= min(shard_images, max(32, listed // 16)) or size >= SHARD_BYTES:
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def manifest_bytes(shard: Iterable[tuple[Any, ...]], schema: pa.Schema = MANIFEST_SCHEMA) -> bytes:
    """The Parquet file of one shard's images."""
    columns = zip(*shard, strict=True)
    return to_parquet(pa.table(dict(zip(schema.names, columns, strict=True)), schema))


def read_manifest(storage: Storage, shard: int) -> list[Entry]:
    """The images of one shard."""
    table = from_parquet(storage.read(f"{MANIFEST}/{part_name(shard)}"))
    return [Entry(**row) for row in table.to_pylist()]


def stats_bytes(rows: list[Row], schema: pa.Schema = STATS_SCHEMA) -> bytes:
    """The Parquet file of these rows, in the order of their paths."""
    return to_parquet(pa.Table.from_pylist(sorted(rows, key=lambda row: row["path"]), schema))


def read_rows(storage: Storage, path: str) -> list[Row]:
    """The rows of one file of statistics."""
    return from_parquet(storage.read(path)).to_pylist()


def stats_table(storage: Storage, shard: int) -> pa.Table:
    """The statistics of one finished shard."""
    return from_parquet(storage.read(f"{STATS}/{part_name(shard)}"))


def from_parquet(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table in the bytes of a Parquet file.

    On this thread alone: with `read_table` one of Arrow's threads may free the bytes while the interpreter shuts down,
    which aborts a process that has done all its work.
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(columns=columns, use_threads=False)


def to_parquet(table: pa.Table) -> bytes:
    """A table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
