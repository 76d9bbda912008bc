"""One video, or one segment of it, from file to file: decode, enhance without flicker, encode.

    from sgllie import Enhancer
    from sgllie.video.clip import enhance_video

    enhance_video("dark.mp4", "bright.mp4", Enhancer.load())

Decoding, enhancement and encoding run on a thread each.
"""

import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO, NamedTuple

from sgllie.errors import VideoError
from sgllie.methods import Method
from sgllie.metrics.brightness import brightness
from sgllie.video.ahead import ahead
from sgllie.video.encoder import SegmentWriter
from sgllie.video.formats import check_suffix
from sgllie.video.info import refuse_hdr
from sgllie.video.join import Encoded, join
from sgllie.video.reader import Picture, VideoReader
from sgllie.video.settings import TEMPORAL_SMOOTHING, Encoding
from sgllie.video.smoothing import Smoother
from sgllie.video.spans import WHOLE, Span
from sgllie.video.streams import plan_streams

BATCH = 4
"""Frames that go through the network together."""


class FrameRow(NamedTuple):
    """What is noted of one frame.

    Attributes:
        time, duration: when it is shown in the output, and for how long, in seconds.
        luma_in, luma_out: mean luma, 0 to 1.
        factor: the mean of its map.
        cut: whether it begins a new scene.
        repeated: whether it repeats another frame, in the place of a damaged one.
    """

    time: float
    duration: float
    luma_in: float
    luma_out: float
    factor: float | None
    cut: bool
    repeated: bool


def enhance_video(
    source: str | BinaryIO,
    target: str | Path,
    method: Method,
    *,
    temporal_smoothing: float = TEMPORAL_SMOOTHING,
    encoding: Encoding | None = None,
    force_sdr: bool = False,
) -> list[FrameRow]:
    """Enhance one video in a single pass.

    Args:
        source: a path, or a binary file that can seek.
        target: the file to write: .mp4, .m4v, .mov, .mkv or .ts. It is replaced if it is there.
        method: an `Enhancer`, or whatever `make_method` made.
        temporal_smoothing: weight of the past in the factor map of each frame; 0 enhances each frame by itself.
        encoding: codec, quality and threads.
        force_sdr: enhance HDR video as if it were SDR.

    Returns:
        A row for each frame of the output. What the output lacks of the input is told by a warning in the log.

    Raises:
        VideoError: it is no video, of a kind that cannot be enhanced, or with a stream that the target cannot hold.
        UsageError: the suffix of the target is none of those above, or of a container that cannot hold the codec.
    """
    encoding = encoding or Encoding()
    target = Path(target)
    suffix = check_suffix(str(target), encoding.codec)
    with (
        TemporaryDirectory(prefix=".sgllie-", dir=target.parent) as scratch,
        VideoReader(source, encoding.threads) as reader,
    ):
        segment, joined = Path(scratch) / "segment.mp4", Path(scratch) / "joined"
        if not force_sdr:
            refuse_hdr(reader.info)
        plan_streams(reader, suffix)
        rows = list(enhance_segment(reader, segment, WHOLE, method, Smoother(temporal_smoothing), encoding))
        reader.rewind()
        left_out = join(joined, reader, [encoded(segment, rows, reader)], encoding.codec, suffix)
        joined.replace(target)
    if left_out:
        logging.getLogger(__name__).warning("%s: not in the output: %s", target, ", ".join(left_out))
    return rows


def enhance_segment(
    reader: VideoReader, target: Path, span: Span, method: Method, smoother: Smoother, encoding: Encoding
) -> Iterator[FrameRow]:
    """Enhance one span of a video into an MP4 file without sound; yield a row for each frame, as it is encoded.

    The smoother must be new: it is shown the frames before the span first.

    Raises:
        VideoError: it cannot be decoded, or holds no frame within the span.
    """
    info = reader.info
    # One frame before the span at least, to be repeated if the first of the span is damaged.
    pictures = ahead(batches(reader.pictures(span.begin, span.end, max(smoother.lead, 1))), depth=2)
    enhanced = ahead(enhance_pictures(pictures, span.begin, method, smoother), depth=BATCH)
    writer = SegmentWriter(target, info, encoding)
    try:
        count = 0
        for picture, row in enhanced:
            writer.add(picture)
            time, duration = info.seconds(picture.pts), picture.duration * info.time_base
            yield row._replace(time=float(time), duration=float(duration))
            count += 1
        if not count:
            raise VideoError("empty", "it holds no picture in the place where its container says that there are some")
        writer.close()
    finally:
        writer.container.close()


def encoded(file: Path, rows: list[FrameRow], reader: VideoReader) -> Encoded:
    """Return what is to be known of a segment to join it, from the rows of its frames."""
    return Encoded(str(file), len(rows), end_of(rows), frozenset(reader.side_data))


def end_of(rows: list[FrameRow]) -> float:
    """Return when the last frame ends, in seconds of the output."""
    return rows[-1].time + rows[-1].duration if rows else 0.0


def batches(pictures: Iterable[Picture]) -> Iterator[list[Picture]]:
    """Yield pictures in lists of at most BATCH."""
    waiting = iter(pictures)
    while batch := list(itertools.islice(waiting, BATCH)):
        yield batch


def enhance_pictures(
    batched: Iterable[list[Picture]], begin: int | None, method: Method, smoother: Smoother
) -> Iterator[tuple[Picture, FrameRow]]:
    """Yield the pictures from `begin` on, enhanced; those before it are only shown to the smoother."""
    for batch in batched:
        factors = method.factor_maps([picture.pixels for picture in batch])
        for picture, own in zip(batch, factors, strict=True):
            factor, is_cut = smoother(picture.pixels, own)
            if begin is not None and picture.pts < begin:
                continue
            enhanced = method.apply(picture.pixels, factor)
            levels = brightness(picture.pixels), brightness(enhanced)
            mean = float(factor.mean()) if factor.size else None
            row = FrameRow(0.0, 0.0, *levels, mean, is_cut, picture.repeated)
            yield picture._replace(pixels=enhanced), row
