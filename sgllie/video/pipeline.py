"""One segment from manifest to commit, and one video from its segments to its commit.

A segment is done when its row is there, a video when its own is. The worker that finishes the last segment of a video
joins it; when two of them finish at the same moment both do, and write the same, or one finds that it is done.
"""

import hashlib
import platform
import tempfile
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import pyarrow as pa

from sgllie.errors import Failure, VideoError, failure_of
from sgllie.methods import Method, make_method
from sgllie.runs.commits import commit_table, read_totals, write_commit
from sgllie.runs.cost import part_spent
from sgllie.runs.gpu import on_device
from sgllie.runs.memory import budgets, lenient
from sgllie.runs.names import COMMITS, FRAMES, SEGMENTS, VIDEOS, part_name
from sgllie.runs.schemas import FRAMES_SCHEMA, SEGMENTS_SCHEMA, VIDEOS_SCHEMA, Row
from sgllie.runs.shard_runner import Report, ShardRunner
from sgllie.runs.totals import Totals, add_up
from sgllie.storage import Storage, open_source, open_storage
from sgllie.storage.parquet import to_parquet
from sgllie.video.clip import FrameRow, end_of, enhance_segment
from sgllie.video.formats import output_name
from sgllie.video.info import refuse_hdr
from sgllie.video.join import Encoded, join
from sgllie.video.plan import Segment, encoded_name
from sgllie.video.reader import VideoReader
from sgllie.video.settings import VideoSettings
from sgllie.video.smoothing import Smoother
from sgllie.video.spans import Span
from sgllie.video.streams import plan_streams
from sgllie.video.totals import VIDEOS_TALLY


class VideoPipeline(ShardRunner[Segment]):
    """Runs segments, one after another, in one process.

    Args:
        settings: with their device resolved (`cpu` or `cuda`).
        root: folder or prefix of the input.
        output: of the run.
        target: folder and name of the output file, where the run is about one video; else None.
        segments: of all videos.
        report: told now and then of the frames that are done, for each video.
    """

    folder: ClassVar[str] = SEGMENTS
    noun: ClassVar[str] = "video"

    def __init__(
        self,
        settings: VideoSettings,
        root: str,
        output: Storage,
        target: tuple[str, str] | None,
        segments: Sequence[Segment],
        report: Report,
    ) -> None:
        self.settings = settings
        self.source = open_source(root, settings.s3)
        self.target = (open_storage(target[0], settings.s3), target[1]) if target else None
        self.segments = segments
        self.method = make_method(settings)
        self.memory = lenient(budgets(settings.worker_memory, settings.loads_torch)[1], settings.worker_memory)
        super().__init__(output, [self.source], SEGMENTS_SCHEMA, report, threads=1, retry_failed=False)

    def run(self, shard: int) -> Totals:
        """Bring one segment to its commit, and its video, if it was the last one of it.

        No totals are returned: what is counted is videos, and two workers may join one.
        """
        segment = self.segments[shard]
        if not self.output.exists(f"{SEGMENTS}/{part_name(shard)}"):
            super().run(shard)
        numbers = range(segment.first, segment.last + 1)
        done = all(self.output.exists(f"{SEGMENTS}/{part_name(number)}") for number in numbers)
        if done and not self.output.exists(f"{COMMITS}/{part_name(segment.video)}"):
            self._commit_video(segment)
        return {}

    def items(self, shard: int) -> list[Segment]:
        """Return the segment, which is all of a shard."""
        return [self.segments[shard]]

    def processor(self, isolated: bool) -> AbstractContextManager[Method]:
        """Return the method, always in this process: nothing but the frames of a segment would be lost with it.

        After a death it is one on the CPU: the GPU, which may have failed at a frame, would fail again.
        """
        return nullcontext(self._cpu_method if isolated else self.method)

    @cached_property
    def _cpu_method(self) -> Method:
        return make_method(on_device(self.settings, "cpu"))

    def tell(self, shard: int, done: int, failed: int) -> None:
        """Report nothing: frames are counted, not segments."""

    def is_there(self, row: Row) -> bool:
        """Tell whether the pictures of a segment are there."""
        return row["status"] == "failed" or self.output.exists(encoded_name(row["shard"]))

    def process(self, item: Segment, processor: Method) -> Row:
        """Enhance a segment, and keep its pictures until its video is joined."""
        started = time.monotonic()
        frames: list[FrameRow] = []
        row: Row = {"status": "ok", "device": self.settings.device if processor is self.method else "cpu"}
        with tempfile.TemporaryDirectory(prefix="sgllie-") as scratch:
            encoded = Path(scratch) / "segment.mp4"
            try:
                side_data = self._enhance(item, processor, encoded, frames)
                row |= {"end": end_of(frames), "side_data": sorted(side_data)}
                self.output.upload(encoded_name(item.shard), encoded)
                self.output.write(f"{FRAMES}/{part_name(item.shard)}", frames_bytes(item.path, frames))
            except Exception as error:
                row = failure_of(error, self.noun).columns()
        return completed(item, row | counted(frames), time.monotonic() - started)

    def failed_row(self, item: Segment, failure: Failure) -> Row:
        """Return the row of a segment of which nothing is known."""
        return completed(item, failure.columns() | counted([]), 0.0)

    def _place(self, segment: Segment) -> tuple[Storage, str]:
        """Return where the output of a video goes: the storage, and the path in it."""
        return self.target or (self.output, f"{VIDEOS}/{output_name(segment.path, self.settings.codec)}")

    def _enhance(self, segment: Segment, method: Method, encoded: Path, frames: list[FrameRow]) -> set[str]:
        """Enhance a segment into a local file.

        Args:
            segment: what is enhanced.
            method: what enhances it.
            encoded: the file.
            frames: gets the rows of its frames.

        Returns:
            Names of what its pictures carry beside their pixels.
        """
        settings = self.settings
        with (
            self.source.open(segment.path) as file,
            VideoReader(file, settings.threads, self.memory, settings.is_costly) as reader,
        ):
            if not self.settings.force_sdr:
                refuse_hdr(reader.info)
            plan_streams(reader, PurePosixPath(self._place(segment)[1]).suffix.lower())
            smoother = Smoother(self.settings.temporal_smoothing)
            span = Span(segment.begin, segment.end)
            for frame in enhance_segment(reader, encoded, span, method, smoother, self.settings):
                frames.append(frame)
                self.report(segment.shard, len(frames), 0, segment.path)
            return reader.side_data

    def _commit_video(self, segment: Segment) -> None:
        """Join the segments of a video, and commit its row, with what its segments and the joining took."""
        self.meter.begin()
        numbers = range(segment.first, segment.last + 1)
        rows = [commit_table(self.output, number, SEGMENTS_SCHEMA, SEGMENTS, 1).to_pylist()[0] for number in numbers]
        try:
            row = self._joined(segment, rows)
        except Exception as error:
            row = failure_of(error, self.noun).columns()
            if self.output.exists(f"{COMMITS}/{part_name(segment.video)}"):
                return  # another worker has joined it meanwhile, and removed the pictures
            self.report(segment.shard, segment.frames, 1, segment.path)
        row |= {"path": segment.path, "segments": len(rows), "bytes_in": segment.size}
        row |= summed(rows) | worked(sum(one["seconds"] for one in rows))
        spent = [part_spent(read_totals(self.output, number, SEGMENTS)) for number in numbers]
        spent.append(self.meter.read())
        self.refuse_replaced()
        write_commit(
            self.output, segment.video, [row], VIDEOS_SCHEMA, VIDEOS_TALLY, spent=add_up(spent), run=self.identity.id
        )
        for number in numbers:
            self.output.remove(encoded_name(number))

    def _joined(self, segment: Segment, rows: list[Row]) -> Row:
        """Join the encoded segments into the output; return what is known of the video."""
        bad = [row for row in rows if row["status"] != "ok" and row["error_type"] != "empty"]
        if bad:
            raise VideoError(bad[0]["error_type"], bad[0]["error"])
        good = [row for row in rows if row["status"] == "ok"]
        if not good:
            raise VideoError("not_a_video", "no picture of it can be decoded")
        storage, path = self._place(segment)
        with tempfile.TemporaryDirectory(prefix="sgllie-") as scratch, ExitStack() as opened:
            joined = Path(scratch) / "joined"
            reader = opened.enter_context(VideoReader(opened.enter_context(self.source.open(segment.path))))
            files = [opened.enter_context(self.output.open(encoded_name(row["shard"]))) for row in good]
            parts = [
                Encoded(file, row["frames"], row["end"], frozenset(row["side_data"]))
                for file, row in zip(files, good, strict=True)
            ]
            left_out = join(joined, reader, parts, self.settings.codec, PurePosixPath(path).suffix.lower())
            with joined.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            storage.upload(path, joined)
            size = joined.stat().st_size
        info = reader.info
        return {
            "status": "ok",
            "output": path,
            "bytes_out": size,
            "sha256_out": digest,
            "width": info.width,
            "height": info.height,
            "bit_depth": info.depth,
            "codec": info.codec,
            "left_out": ", ".join(left_out) or None,
            "duration": float(info.duration * info.time_base) if info.duration is not None else None,
        }


def completed(item: Segment, row: Row, seconds: float) -> Row:
    """Return a row with what every row of a segment says."""
    return row | {"path": item.path, "video": item.video} | worked(seconds)


def worked(seconds: float) -> Row:
    """Return the columns about the work."""
    return {"seconds": seconds, "finished": datetime.now(UTC), "node": platform.node()}


def counted(frames: list[FrameRow]) -> Row:
    """Return the columns that sum up frames."""
    number = max(len(frames), 1)
    return {
        "frames": len(frames),
        "repeated": sum(frame.repeated for frame in frames),
        "cuts": sum(frame.cut for frame in frames),
        "luma_mean_in": sum(frame.luma_in for frame in frames) / number,
        "luma_mean_out": sum(frame.luma_out for frame in frames) / number,
    }


def summed(rows: list[Row]) -> Row:
    """Return the same columns of a video, from those of its segments."""
    total: dict[str, Any] = {name: sum(row[name] for row in rows) for name in ("frames", "repeated", "cuts")}
    for name in ("luma_mean_in", "luma_mean_out"):
        total[name] = sum(row[name] * row["frames"] for row in rows) / max(total["frames"], 1)
    return total


def frames_bytes(path: str, rows: list[FrameRow]) -> bytes:
    """Return the Parquet file of a segment's frames."""
    columns = [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in FrameRow._fields]
    return to_parquet(pa.table([[path] * len(rows), *columns], schema=FRAMES_SCHEMA))
