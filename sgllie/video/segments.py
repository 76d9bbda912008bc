"""A video in parts: where to cut it, how a part is encoded, and how the parts are joined without encoding again."""

import bisect
import heapq
import io
import itertools
import math
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

import av
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from sgllie.enhancer import Pixels
from sgllie.errors import VideoError
from sgllie.video import yuv
from sgllie.video.reader import Colour, Picture, VideoInfo, VideoReader, reason
from sgllie.video.settings import Codec

ENCODERS: dict[Codec, str] = {"h264": "libx264", "h265": "libx265", "ffv1": "ffv1"}
DEPTHS: dict[Codec, tuple[int, ...]] = {"h264": (8, 10), "h265": (8, 10, 12), "ffv1": (8, 10, 12, 14, 16)}
CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts"}
"""Suffixes of outputs and FFmpeg's names of the formats. Timestamps are exact; .mkv holds milliseconds, .ts 1/90 ms."""

SMALLEST_H265 = 64
"""x265 (4.1) writes outside its memory for frames of 33 x 17, in the cost propagation of its lookahead."""

SWSCALE = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND)


class Span(NamedTuple):
    """A part of a video: from a timestamp up to, but not including, another; None is its begin or end."""

    begin: int | None
    end: int | None


WHOLE = Span(None, None)


def cut(reader: VideoReader, seconds: float) -> list[Span]:
    """Cut a video into spans of about `seconds`, at key frames where the container knows them, else by the clock."""
    info = reader.info
    length = math.ceil(Fraction(seconds) / info.time_base)
    if info.duration is None or info.duration < 2 * length:
        return [WHOLE]
    keys = reader.key_times()
    cuts: list[int] = []
    for wanted in range(info.start + length, info.start + info.duration - length // 2, length):
        place = bisect.bisect_left(keys, wanted)
        # An index with few key frames, or none, must not make segments of any length.
        near = place < len(keys) and keys[place] - wanted < length // 2
        cuts.append(keys[place] if near else wanted)
    ends = [None, *cuts, None]
    return [Span(begin, end) for begin, end in itertools.pairwise(ends)]


def pixel_format(codec: Codec, width: int, height: int, depth: int) -> str:
    """The pixel format in which a codec keeps size and, as far as it can, bit depth."""
    bits = max(known for known in DEPTHS[codec] if known <= max(depth, 8))
    if codec == "ffv1":
        return "bgr0" if bits == 8 else f"gbrp{bits}le"
    # 4:2:0 stores colour for blocks of 2 x 2, and H.264 and H.265 can crop by whole blocks only.
    layout = "yuv420p" if width % 2 == height % 2 == 0 else "yuv444p"
    return layout if bits == 8 else f"{layout}{bits}le"


def output_colour(codec: Codec, colour: Colour) -> Colour:
    """The tags of the output: those of the input, but for FFV1, which stores RGB: no matrix, full range."""
    return colour._replace(matrix=0, range=2) if codec == "ffv1" else colour


class SegmentWriter:
    """Encodes pictures into an MP4 file of nothing but video, with the timestamps that they have in their source.

    Every segment begins with a key frame that needs none before it, and the same settings give the same parameter sets:
    that is what `join` builds on.
    """

    def __init__(self, path: Path, info: VideoInfo, codec: Codec, *, crf: int, preset: str, threads: int) -> None:
        self.info, self.codec = info, codec
        if codec == "h265" and min(info.width, info.height) < SMALLEST_H265:
            sentence = f"it is {info.width}x{info.height}, which is too small for the H.265 encoder; take --codec h264"
            raise VideoError("unsupported", sentence)
        if info.fields and codec != "h264":
            raise VideoError("unsupported", "it is interlaced, which only --codec h264 keeps")
        options = {"crf": str(crf), "preset": preset} if codec != "ffv1" else {}
        if info.fields:
            options["x264-params"] = f"{info.fields}=1"
        if codec == "h265":
            options["x265-params"] = f"log-level=error:pools={threads}"
        self.container = av.open(str(path), "w", format="mp4", container_options=exact_time(info.time_base))
        stream = self.container.add_stream(ENCODERS[codec], rate=info.rate, options=options)
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        stream.width, stream.height = info.width, info.height
        stream.pix_fmt = pixel_format(codec, info.width, info.height, info.depth)
        stream.time_base = context.time_base = info.time_base
        # Frames side by side: PyAV's default, slices of one frame, leaves x264 idle until the next one comes.
        context.thread_type, context.thread_count = "AUTO", threads
        if info.aspect:
            stream.sample_aspect_ratio = info.aspect
        tag(context, output_colour(codec, info.colour))
        self.stream = stream
        self.reformatter = VideoReformatter()

    def add(self, picture: Picture) -> None:
        """Encode one picture; timestamps must rise."""
        info, stream = self.info, self.stream
        frame = self._frame(picture.pixels)
        frame.pts, frame.time_base = picture.pts, info.time_base
        self.container.mux(stream.encode(frame))

    def _frame(self, pixels: Pixels) -> av.VideoFrame:
        """Pixels in the format of the stream."""
        matrix = self.info.colour.matrix
        colour_range = self.info.colour.range or int(ColorRange.MPEG)
        if self.stream.pix_fmt in yuv.FORMATS:
            interlaced = bool(self.info.fields)
            return yuv.to_frame(pixels, self.stream.pix_fmt, matrix, colour_range, interlaced=interlaced)
        frame = av.VideoFrame.from_numpy_buffer(pixels, "rgb24" if pixels.itemsize == 1 else "rgb48le")
        frame.colorspace, frame.color_range = matrix, ColorRange.JPEG
        if self.codec == "ffv1":
            return frame
        return self.reformatter.reformat(
            frame,
            format=self.stream.pix_fmt,
            dst_colorspace=matrix,
            dst_color_range=colour_range,
            interpolation=SWSCALE,
            threads=1,
        )

    def close(self) -> None:
        """Encode what is pending, and complete the file."""
        self.container.mux(self.stream.encode(None))
        self.container.close()


def join(
    target: Path, source: VideoReader, segments: Iterable[str | BinaryIO], codec: Codec, suffix: str | None = None
) -> list[str]:
    """Put encoded segments and all else of their source into one file; nothing is encoded.

    Args:
        target: the file to write.
        source: the video that the segments were made from, for its sound, subtitles, covers, chapters and metadata.
        segments: in the order of time, at least one.
        codec: of the segments.
        suffix: which container to write, by default that of the target.

    Returns:
        What the container cannot hold and the video is complete without: streams of data, such as timecodes.

    Raises:
        VideoError: the container cannot hold one of the streams.
    """
    suffix = suffix or target.suffix.lower()
    kind = CONTAINERS[suffix]
    files = iter(segments)
    first = next(files)
    metadata = {key: value for key, value in source.container.metadata.items() if key not in OWN_METADATA}
    options = {"avoid_negative_ts": "disabled", "mpegts_copyts": "1"}
    if kind in ("mp4", "mov"):
        options = exact_time(source.info.time_base)
        if any("." in key for key in metadata):
            options["movflags"] = "use_metadata_tags"  # keys such as com.apple.quicktime.model are lost without it
    with av.open(str(target), "w", format=kind, container_options=options) as output, opened_segment(first) as opened:
        streams: dict[int, Any] = {}
        left_out: list[str] = []
        for stream in source.container.streams:
            if stream.index == source.stream.index:
                streams[stream.index] = add_video(output, opened.streams.video[0], source, codec, kind)
            elif stream.type != "data":
                streams[stream.index] = add_copy(output, stream, suffix)
            elif holds(kind, stream):
                streams[stream.index] = output.add_stream_from_template(stream, opaque=True)
            else:
                left_out.append(f"{stream.type} stream {stream.index}")
        output.metadata.update(metadata)
        output.set_chapters(source.container.chapters())
        video = streams.pop(source.stream.index)
        parameters = opened.streams.video[0].codec_context.extradata
        encoded = encoded_packets(itertools.chain([first], files), video, parameters, source.info)
        copied = copied_packets(source, streams)
        try:
            for packet in heapq.merge(encoded, copied, key=moment):
                output.mux(packet)
        except av.FFmpegError as error:
            raise VideoError("unsupported", f"its streams do not fit into {suffix}: {reason(error)}") from error
    return left_out


OWN_METADATA = ("major_brand", "minor_version", "compatible_brands", "encoder")
"""What describes the input file and not its content."""


def exact_time(time_base: Fraction) -> dict[str, str]:
    """MP4 options by which no timestamp is rounded."""
    ticks = str(time_base.denominator)
    return {"video_track_timescale": ticks, "movie_timescale": ticks}


def tag(context: av.VideoCodecContext, colour: Colour) -> None:
    """Write the colour tags into the description of a stream."""
    context.color_range, context.colorspace = colour.range, colour.matrix
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer


def add_video(
    output: av.container.OutputContainer, template: av.VideoStream, source: VideoReader, codec: Codec, kind: str
) -> av.VideoStream:
    """The stream of the enhanced video: encoded as the segments, described as the source."""
    original = source.stream
    stream = output.add_stream_from_template(template, opaque=True)
    stream.time_base = source.info.time_base
    tag(stream.codec_context, output_colour(codec, source.info.colour))
    if codec == "h265" and kind in ("mp4", "mov"):
        stream.codec_context.codec_tag = "hvc1"  # players of Apple's take no other
    if source.info.matrix:
        stream.set_display_matrix(source.info.matrix)
    describe_as(stream, original)
    return stream


def add_copy(output: av.container.OutputContainer, original: Any, suffix: str) -> Any:
    """A stream that is copied packet by packet."""
    try:
        stream = output.add_stream_from_template(original, opaque=True)
    except (av.FFmpegError, ValueError) as error:
        name = original.codec_context.name if original.codec_context else "unknown"
        sentence = f"{suffix} cannot hold its stream {original.index} ({original.type}, {name}); choose another suffix"
        raise VideoError("unsupported", sentence) from error
    describe_as(stream, original)
    return stream


def holds(kind: str, original: Any) -> bool:
    """Whether a container takes a stream of data; only its muxer knows, so it is tried."""
    try:
        with av.open(io.BytesIO(), "w", format=kind) as trial:
            trial.add_stream_from_template(original, opaque=True)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def describe_as(stream: Any, original: Any) -> None:
    """Take over language, title, handler and the like, and the disposition."""
    stream.metadata.update({key: value for key, value in original.metadata.items() if key not in OWN_METADATA})
    stream.disposition = original.disposition


def encoded_packets(
    segments: Iterable[str | BinaryIO], stream: av.VideoStream, parameters: bytes | None, info: VideoInfo
) -> Iterator[av.Packet]:
    """The packets of all segments, one after another, with decoding timestamps that rise throughout."""
    last: int | None = None
    for file in segments:
        until = durations(file, info)
        with opened_segment(file) as container:
            original = container.streams.video[0]
            if original.codec_context.extradata != parameters:
                raise VideoError("internal", "two segments were encoded with different parameter sets")
            for packet in container.demux(original):
                if packet.pts is None or packet.dts is None:
                    continue
                # An encoder begins with decoding times before its first picture. Where frame times vary these may lie
                # before the last ones of the segment before; there is always room between those and the first picture.
                packet.dts = packet.dts if last is None else max(packet.dts, last + 1)
                packet.duration = until[packet.pts]
                last = packet.dts
                packet.stream = stream
                yield packet


def opened_segment(file: str | BinaryIO) -> av.container.InputContainer:
    """A segment from its begin."""
    if not isinstance(file, str):
        file.seek(0)
    return av.open(file, "r")


def durations(file: str | BinaryIO, info: VideoInfo) -> dict[int, int]:
    """How long each picture of a segment is shown, by its timestamp; MP4 does not say where times vary."""
    with opened_segment(file) as container:
        times = sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)
    rest = info.start + info.duration - times[-1] if info.duration is not None else 0
    last = rest if 0 < rest < 2 * info.step else info.step
    return {time: after - time for time, after in zip(times, [*times[1:], times[-1] + last], strict=True)}


def copied_packets(source: VideoReader, streams: dict[int, Any]) -> Iterator[av.Packet]:
    """The packets of all other streams, as they are."""
    originals = [source.container.streams[index] for index in streams if streams[index].type != "attachment"]
    if not originals:
        return
    packets = source.container.demux(originals)
    timelines = {stream.index: Timeline() for stream in originals}
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.FFmpegError):  # where the file is damaged ends what can be copied
            return
        if packet.size and packet.stream.disposition & av.stream.Disposition.attached_pic:
            packet.pts = packet.dts = 0  # a cover has no time of its own
        if packet.size and (packet.dts is not None or packet.pts is not None):
            timelines[packet.stream_index].place(packet)
            packet.stream = streams[packet.stream_index]
            yield packet


class Timeline:
    """The decoding times of one stream. Where they go back, a second recording begins in the same file: it follows."""

    def __init__(self) -> None:
        self.shift = self.duration = 0
        self.last: int | None = None

    def place(self, packet: av.Packet) -> None:
        """Move a packet behind those before it, if it is not there."""
        if packet.dts is None:
            return
        if self.last is not None and packet.dts + self.shift < self.last:
            self.shift = self.last + max(self.duration, 1) - packet.dts
        packet.dts += self.shift
        if packet.pts is not None:
            packet.pts += self.shift
        self.last, self.duration = packet.dts, packet.duration or 0


def moment(packet: av.Packet) -> Fraction:
    """When a packet is due, in seconds."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    assert ticks is not None
    return ticks * packet.time_base


def output_name(path: str) -> str:
    """The name of the output: that of the input where its container is written, else the same as `.mkv`."""
    name = PurePosixPath(path)
    return path if name.suffix.lower() in CONTAINERS else str(name.with_suffix(".mkv"))
