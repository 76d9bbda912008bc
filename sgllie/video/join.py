"""Encoded segments, and all else of their source, in one file; nothing of the video is encoded again."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import av

from sgllie.errors import VideoError
from sgllie.video.encoder import exact_time, losses, output_colour, tag
from sgllie.video.formats import CONTAINERS, reason
from sgllie.video.info import CAPTIONS, DOLBY_VISION, side_data_names
from sgllie.video.reader import VideoReader
from sgllie.video.settings import Codec
from sgllie.video.streams import OWN_METADATA, OtherStreams, describe_as, moment, plan_streams

LEAST_MISSING = Fraction(1, 5)
"""Seconds by which Flash video may end earlier than it says, since it does not tell when its last picture ends."""


class Encoded(NamedTuple):
    """A segment that has been encoded.

    Attributes:
        file: of the SegmentWriter.
        frames: how many pictures it must hold.
        end: when its last picture ends, in seconds of the output.
        side_data: names of what its pictures carried beside their pixels.
    """

    file: str | BinaryIO
    frames: int
    end: float
    side_data: frozenset[str] = frozenset()


def join(target: Path, source: VideoReader, segments: Sequence[Encoded], codec: Codec, suffix: str) -> list[str]:
    """Put encoded segments and all else of their source into one file.

    Args:
        target: the file to write.
        source: the video that the segments were made from, for its sound, subtitles, covers, chapters and metadata.
        segments: in the order of time, at least one.
        codec: of the segments.
        suffix: which container to write, a key of CONTAINERS.

    Returns:
        What the output lacks of the input, in words.

    Raises:
        VideoError: the container cannot hold one of the streams, or does not show all pictures.
    """
    planned = plan_streams(source, suffix)
    others = OtherStreams(source, planned)
    kind = CONTAINERS[suffix]
    try:
        with av.open(str(target), "w", format=kind, container_options=muxer_options(source, kind)) as output:
            video = add_streams(output, source, others, segments, codec)
            for packet in heapq.merge(encoded_packets(segments, video, source), others.packets(), key=moment):
                output.mux(packet)
    except av.FFmpegError as error:
        raise VideoError("unsupported", f"its streams do not fit into {suffix}: {reason(error)}") from error
    check_pictures(target, video.index, sum(segment.frames for segment in segments), suffix)
    left_out = [
        *losses(source.info, codec),
        *lost_data(target, video.index, source, segments, codec),
        *planned.left_out,
    ]
    return left_out + held_last(source, kind, segments) + missing_end(source, Fraction(segments[-1].end), others.end)


def add_streams(
    output: av.container.OutputContainer,
    source: VideoReader,
    others: OtherStreams,
    segments: Sequence[Encoded],
    codec: Codec,
) -> av.VideoStream:
    """Add all streams in the order of the source, its chapters and its metadata; return that of the video."""
    is_dolby = any(DOLBY_VISION in segment.side_data for segment in segments)
    with opened(segments[0].file) as opened_segment:
        encoded = opened_segment.streams.video[0]
        # Side data of the container, such as the projection of 360-degree pictures, comes with a stream of the same
        # codec only; and that of Dolby Vision must not come without that of the pictures.
        is_same = name_of(source.stream) == name_of(encoded)
        template = source.stream if is_same and not is_dolby else encoded
        for stream in source.container.streams:
            if stream.index == source.stream.index:
                video = add_video(output, template, encoded.codec_context, source, codec)
            else:
                others.add(output, stream)
    output.metadata.update(metadata_of(source))
    output.set_chapters(source.container.chapters())
    return video


def metadata_of(source: VideoReader) -> dict[str, str]:
    """Return the metadata that describes the content of a file."""
    return {key: value for key, value in source.container.metadata.items() if key.lower() not in OWN_METADATA}


def muxer_options(source: VideoReader, kind: str) -> dict[str, str]:
    """Return the options by which a container keeps times and metadata as they are."""
    if kind not in ("mp4", "mov"):
        return {"avoid_negative_ts": "disabled", "mpegts_copyts": "1"}
    # Without `strict` the projection of 360-degree pictures is left out, which MP4's own standard does not know.
    options = exact_time(source.info) | {"strict": "unofficial"}
    if any("." in key for key in metadata_of(source)):
        options["movflags"] = "use_metadata_tags"  # keys such as com.apple.quicktime.model are lost without it
    return options


def add_video(
    output: av.container.OutputContainer,
    template: av.VideoStream,
    encoded: av.VideoCodecContext,
    source: VideoReader,
    codec: Codec,
) -> av.VideoStream:
    """Add the stream of the enhanced video: encoded as the segments, described as the source."""
    info = source.info
    stream = output.add_stream_from_template(template, opaque=True)
    context = stream.codec_context
    context.extradata, context.pix_fmt = encoded.extradata, encoded.pix_fmt
    stream.time_base = info.time_base
    tag(context, output_colour(codec, info.colour))
    if codec == "h265" and is_quicktime(output):
        context.codec_tag = "hvc1"  # players of Apple's take no other
    if info.matrix:
        stream.set_display_matrix(info.matrix)
    describe_as(stream, source.stream)
    return stream


def is_quicktime(container: av.container.Container) -> bool:
    """Tell whether a container is MP4 or MOV."""
    return container.format.name in ("mp4", "mov")


def name_of(stream: av.VideoStream) -> str:
    """Return the name of the codec of a stream, whatever decodes it."""
    return stream.codec_context.codec.canonical_name


def encoded_packets(segments: Sequence[Encoded], stream: av.VideoStream, source: VideoReader) -> Iterator[av.Packet]:
    """Yield the packets of all segments, one after another, with decoding timestamps that rise throughout."""
    last: int | None = None
    until = durations(segments, source)
    end = max((pts + shown for pts, shown in until.items()), default=0)
    left = len(until)
    for segment in segments:
        with opened(segment.file) as container:
            original = container.streams.video[0]
            if original.codec_context.extradata != stream.codec_context.extradata:
                raise VideoError("internal", "two segments were encoded with different parameter sets")
            for packet in container.demux(original):
                if packet.pts is None or packet.dts is None:
                    continue
                # An encoder begins with decoding times before its first picture. Where frame times vary these may lie
                # before the last ones of the segment before; there is always room between those and the first picture.
                packet.dts = packet.dts if last is None else max(packet.dts, last + 1)
                packet.duration = until[packet.pts]
                left -= 1
                if left == 0 and is_quicktime(stream.container):
                    # It stores the length of its last packet only, which where pictures are reordered is shown earlier.
                    packet.duration = end - packet.pts
                last = packet.dts
                packet.stream = stream
                yield packet


def opened(file: str | BinaryIO) -> av.container.InputContainer:
    """Open a segment at its begin."""
    if not isinstance(file, str):
        file.seek(0)
    return av.open(file, "r")


def durations(segments: Iterable[Encoded], source: VideoReader) -> dict[int, int]:
    """Return how long each picture is shown, by its timestamp in ticks of the output: up to the next, or to the end."""
    times: list[int] = []
    end = 0
    for segment in segments:
        with opened(segment.file) as container:
            times += sorted(packet.pts for packet in container.demux(video=0) if packet.pts is not None)
        end = round(Fraction(segment.end) / source.info.time_base)
    ends = [*times[1:], end_of_last(source, times[-1], end)]
    return {time: after - time for time, after in zip(times, ends, strict=True)}


def end_of_last(source: VideoReader, pts: int, told: int) -> int:
    """Return when the last picture ends: as the container says, which where times vary knows better than its packet.

    Args:
        source: the video.
        pts: when the last picture is shown, in ticks of the output.
        told: when it ends by its own packet.
    """
    info = source.info
    promised = source.promised_end
    if promised is None and info.duration is not None and info.start + info.duration - pts < 2 * info.step:
        promised = info.start + info.duration
    end = told if promised is None or source.is_cut_off else promised + info.shift
    return end if end > pts else max(told, pts + 1)


def held_last(source: VideoReader, kind: str, segments: Sequence[Encoded]) -> list[str]:
    """Tell in words that the last picture is held for less time, in MPEG-TS, which has no place for that."""
    shown = durations(segments[-1:], source) if kind == "mpegts" else {}
    held = max(shown.items(), default=(0, 0))[1]
    return ["how long the last picture is held"] if held > 2 * source.info.step else []


def check_pictures(path: Path, index: int, frames: int, suffix: str) -> None:
    """Raise VideoError unless the video stream of this index shows so many pictures, each at a time of its own."""
    with av.open(str(path)) as container:
        packets = container.demux(container.streams[index])
        shown = {packet.pts for packet in packets if packet.size and not packet.is_discard} - {None}
    if len(shown) != frames:
        sentence = f"{suffix} would show {len(shown)} of its {frames} pictures; choose another suffix"
        raise VideoError("unsupported", sentence)


def lost_data(path: Path, index: int, source: VideoReader, segments: Sequence[Encoded], codec: Codec) -> list[str]:
    """Return the names of what the pictures and the file of a source carry beside the streams, and the output lacks."""
    with av.open(str(path)) as container:
        stream: Any = container.streams[index]
        first = next(frame for packet in container.demux(stream) for frame in stream.decode(packet))
        kept, has_chapters = side_data_names(first), bool(container.chapters())
        known = {key.lower() for key in container.metadata}
    if codec != "ffv1":
        kept.add(CAPTIONS)  # which need not begin with the first picture, and are written where they are
    lost = sorted({name for segment in segments for name in segment.side_data} - kept)
    if source.container.chapters() and not has_chapters:
        lost.append("chapters")
    keys = [key for key in metadata_of(source) if key.lower() not in known]
    return [*lost, f"metadata ({', '.join(keys)})"] if keys else lost


def missing_end(source: VideoReader, end: Fraction, others_end: Fraction) -> list[str]:
    """Tell in words what a video lacks of its end, if its file was cut off.

    Args:
        source: the video.
        end: when its last picture ends, in seconds of the output.
        others_end: when the last packet of the other streams ends.
    """
    container, info = source.container, source.info
    promised = None if source.promised_end is None else info.seconds(source.promised_end)
    is_cut_off = source.is_cut_off
    if container.format.name == "flv" and container.duration is not None:
        promised = Fraction(container.duration, av.time_base)
        is_cut_off = promised - max(end, others_end) > LEAST_MISSING
    if not is_cut_off:
        return []
    if promised is None or promised <= end:
        return ["the end, which the file lacks"]
    return [f"the last {float(promised - end):.2f} of {float(promised):.2f} s, which the file lacks"]
