"""One segment from manifest to commit, and one video from its segments to its commit.

A segment is done when its row is there, a video when its own is. The worker that finishes the last segment of a video
joins it; when two of them finish at the same moment both do, and write the same.
"""

import platform
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from sgllie.corpus import FRAMES, SEGMENTS, STATS, VIDEOS, Row, part_name, read_rows
from sgllie.images import ImageError
from sgllie.journal import Journal
from sgllie.methods import make_method
from sgllie.storage import NameRefusedError, StorageError, open_storage
from sgllie.video.clip import Encoding, FrameRow, enhance_segment
from sgllie.video.corpus import (
    SEGMENTS_SCHEMA,
    VIDEOS_SCHEMA,
    Segment,
    encoded_name,
    frames_bytes,
    read_segments,
    row_bytes,
)
from sgllie.video.reader import VideoError, VideoReader, refuse_hdr
from sgllie.video.segments import Span, join, output_name
from sgllie.video.settings import VideoSettings
from sgllie.video.smoothing import Smoother

MOST_ATTEMPTS = 5
"""A segment that was begun so often, and never came to an end, is given up."""


class VideoPipeline:
    """Runs segments, one after another, in one process.

    Args:
        settings: with their device resolved (`cpu` or `cuda`).
        root: folder or prefix of the input.
        run: folder or prefix of the run.
        target: folder and name of the output file, where the run is about one video; else None.
        report: called now and then with a segment and the number of its frames that are done.
    """

    def __init__(
        self,
        settings: VideoSettings,
        root: str,
        run: str,
        target: tuple[str, str] | None,
        report: Callable[[Segment, int], None],
    ) -> None:
        self.settings = settings
        self.source = open_storage(root, settings.s3)
        self.run_storage = open_storage(run, settings.s3)
        self.segments = read_segments(self.run_storage)
        self.target = (open_storage(target[0], settings.s3), target[1]) if target else None
        self.report = report
        assert settings.device != "auto"
        self.method = make_method(settings)
        self.encoding = Encoding(settings.codec, settings.crf, settings.preset, settings.threads)

    def run(self, shard: int) -> None:
        """Bring one segment to its commit, and its video, if it was the last one of it.

        Raises:
            StorageError: the output cannot be written; no video is to blame, and the job must stop.
        """
        segment = self.segments[shard]
        if not self.run_storage.exists(f"{SEGMENTS}/{part_name(shard)}"):
            self._commit_segment(segment)
        numbers = range(segment.first, segment.last + 1)
        done = all(self.run_storage.exists(f"{SEGMENTS}/{part_name(number)}") for number in numbers)
        if done and not self.run_storage.exists(f"{STATS}/{part_name(segment.video)}"):
            self._commit_video(segment)

    def _commit_segment(self, segment: Segment) -> None:
        journal = Journal(self.run_storage, segment.shard)
        started = time.monotonic()
        frames: list[FrameRow] = []
        with tempfile.TemporaryDirectory(prefix="sgllie-") as scratch:
            encoded = Path(scratch) / "segment.mp4"
            if journal.fruitless >= MOST_ATTEMPTS:
                row = failed(
                    "crash", f"{journal.fruitless} attempts at a part of it ended with the death of the worker"
                )
            else:
                row = self._enhance(segment, encoded, frames)
            if row["status"] == "ok":
                self.run_storage.upload(encoded_name(segment.shard), encoded)
                self.run_storage.write(f"{FRAMES}/{part_name(segment.shard)}", frames_bytes(segment.path, frames))
        row |= counted(frames) | finished(time.monotonic() - started)
        row |= {"shard": segment.shard, "path": segment.path, "attempt": journal.attempt}
        self.run_storage.write(f"{SEGMENTS}/{part_name(segment.shard)}", row_bytes(row, SEGMENTS_SCHEMA))
        journal.remove()

    def _enhance(self, segment: Segment, encoded: Path, frames: list[FrameRow]) -> Row:
        """Enhance a segment into a local file; the rows of its frames are added to `frames`."""

        def work() -> Row:
            with self.source.open(segment.path) as file, VideoReader(file, self.settings.threads) as reader:
                if not self.settings.force_sdr:
                    refuse_hdr(reader.info)
                smoother = Smoother(self.settings.temporal_smoothing)
                span = Span(segment.begin, segment.end)
                for frame in enhance_segment(reader, encoded, span, self.method, smoother, self.encoding):
                    frames.append(frame)
                    self.report(segment, len(frames))
            return {"status": "ok"}

        return guarded(work)

    def _commit_video(self, segment: Segment) -> None:
        rows = [
            read_rows(self.run_storage, f"{SEGMENTS}/{part_name(number)}")[0]
            for number in range(segment.first, segment.last + 1)
        ]
        bad = [row for row in rows if row["status"] != "ok" and row["error_type"] != "empty"]
        name = output_name(segment.path)
        storage, path = self.target or (self.run_storage, f"{VIDEOS}/{name}")
        with tempfile.TemporaryDirectory(prefix="sgllie-") as scratch:
            joined = Path(scratch) / "joined"
            suffix = PurePosixPath(path).suffix.lower()
            shards = [row["shard"] for row in rows if row["status"] == "ok"]
            outcome = bad[0] if bad else guarded(lambda: self._join(segment, shards, joined, suffix))
            row = {key: outcome.get(key) for key in VIDEOS_SCHEMA.names if key not in ("frames", "repeated", "cuts")}
            if row["status"] == "ok":
                try:
                    storage.upload(path, joined)
                    row |= {"output": path, "bytes_out": joined.stat().st_size}
                except NameRefusedError as error:
                    row |= failed("write", str(error))
        row |= {"path": segment.path, "segments": len(rows), "bytes_in": segment.size}
        row |= summed(rows) | finished(sum(one["seconds"] for one in rows))
        self.run_storage.write(f"{STATS}/{part_name(segment.video)}", row_bytes(row, VIDEOS_SCHEMA))
        for number in range(segment.first, segment.last + 1):
            self.run_storage.remove(encoded_name(number))

    def _join(self, segment: Segment, shards: list[int], joined: Path, suffix: str) -> Row:
        """Join the encoded segments into a local file; what is known of the video."""
        if not shards:
            raise VideoError("not_a_video", "no picture of it can be decoded")
        with ExitStack() as opened:
            reader = opened.enter_context(VideoReader(opened.enter_context(self.source.open(segment.path))))
            parts = [opened.enter_context(self.run_storage.open(encoded_name(shard))) for shard in shards]
            left_out = join(joined, reader, parts, self.settings.codec, suffix)
            info = reader.info
        return {
            "status": "ok",
            "width": info.width,
            "height": info.height,
            "bit_depth": info.depth,
            "codec": info.codec,
            "left_out": ", ".join(left_out) or None,
            "duration": float(info.duration * info.time_base) if info.duration is not None else None,
        }


def guarded(work: Callable[[], Row]) -> Row:
    """What the work returns, or the row of its failure."""
    try:
        return work()
    except (VideoError, ImageError) as error:
        return failed(error.error_type, str(error))
    except FileNotFoundError:
        return failed("missing", "the video was listed but is not there now")
    except (OSError, StorageError) as error:
        return failed("read", f"the video cannot be read: {error}")
    except MemoryError:
        return failed("memory", "its frames do not fit in the memory of the worker")
    except Exception as error:
        return failed("internal", f"{type(error).__name__}: {error}")


def failed(error_type: str, error: str) -> Row:
    """The columns of a failure."""
    return {"status": "failed", "error_type": error_type, "error": error}


def finished(seconds: float) -> Row:
    """The columns about the work."""
    return {"seconds": seconds, "finished": datetime.now(UTC), "node": platform.node()}


def counted(frames: list[FrameRow]) -> Row:
    """The columns that sum up frames."""
    number = max(len(frames), 1)
    return {
        "frames": len(frames),
        "repeated": sum(frame.repeated for frame in frames),
        "cuts": sum(frame.cut for frame in frames),
        "luminance_mean_in": sum(frame.luminance_in for frame in frames) / number,
        "luminance_mean_out": sum(frame.luminance_out for frame in frames) / number,
    }


def summed(rows: list[Row]) -> Row:
    """The same columns of a video, from those of its segments."""
    total: dict[str, Any] = {name: sum(row[name] for row in rows) for name in ("frames", "repeated", "cuts")}
    for name in ("luminance_mean_in", "luminance_mean_out"):
        total[name] = sum(row[name] * row["frames"] for row in rows) / max(total["frames"], 1)
    return total
