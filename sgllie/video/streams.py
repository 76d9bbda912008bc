"""The streams beside the video itself: which of them a container holds, and their packets on the way into it."""

import contextlib
import io
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import av

from sgllie.errors import VideoError
from sgllie.video.formats import CONTAINERS
from sgllie.video.reader import VideoReader
from sgllie.video.sound import SoundConverter

OWN_METADATA = ("major_brand", "minor_version", "compatible_brands", "encoder", "alpha_mode")
"""What describes the input file and not its content."""

TRANSPORT_SOUND = {
    "mp1",
    "mp2",
    "mp3",
    "aac",
    "aac_latm",
    "ac3",
    "eac3",
    "dca",
    "truehd",
    "opus",
    "s302m",
    "pcm_bluray",
}
"""Sound that MPEG-TS has a type for (ITU-T H.222.0, table 2-34). FFmpeg writes any other too, and cannot read it."""


KEEP_TIMECODE = tuple(suffix for suffix, kind in CONTAINERS.items() if kind in ("mp4", "mov"))
"""Suffixes of outputs that tell the timecode of the first picture in a track of its own."""


class Streams(NamedTuple):
    """What becomes of the streams beside the video: those to copy, those to convert, and what is left out, in words."""

    copied: list[Any]
    converted: list[Any]
    left_out: list[str]


def plan_streams(source: VideoReader, suffix: str) -> Streams:
    """Decide what becomes of the streams beside the video; nothing is written.

    Sound that the container cannot hold is converted, and data and streams of unknown codecs are left out.

    Args:
        source: the video.
        suffix: of the output, a key of CONTAINERS.

    Raises:
        VideoError: the container cannot hold subtitles, or another video.
    """
    streams = Streams([], [], [])
    for stream in source.container.streams:
        if stream.index == source.stream.index:
            continue
        name = f"{stream.type} stream {stream.index}"
        if is_timecode(stream) and suffix in KEEP_TIMECODE and "timecode" in source.stream.metadata:
            continue  # the muxer makes the track anew of what the video's own metadata say
        if holds(CONTAINERS[suffix], stream):
            streams.copied.append(stream)
        elif stream.type in ("data", "attachment"):
            streams.left_out.append(name)
        elif stream.codec_context is None:
            streams.left_out.append(f"{name} (unknown codec)")
        elif stream.type == "audio":
            streams.converted.append(stream)
            streams.left_out.append(f"the encoding of {name} ({stream.codec_context.name}, now aac)")
        else:
            kind = f"{stream.type}, {stream.codec_context.name}"
            sentence = f"{suffix} cannot hold its stream {stream.index} ({kind}); choose another suffix"
            raise VideoError("unsupported", sentence)
    return streams


def is_timecode(stream: Any) -> bool:
    """Tell whether a stream is the timecode track of MP4 or QuickTime."""
    return bool(stream.type == "data" and "timecode" in stream.metadata)


def holds(kind: str, original: Any) -> bool:
    """Tell whether a container takes a stream; only its muxer knows, so it is tried."""
    if kind == "mpegts" and original.type == "attachment":
        return False
    if original.type == "audio" and original.codec_context is not None:
        name = original.codec_context.codec.canonical_name
        if kind == "mpegts" and name not in TRANSPORT_SOUND:
            return False
        # MP4 says where each channel of PCM belongs, which other containers leave open; its muxer fails at the end.
        if kind == "mp4" and name.startswith("pcm_") and any(part.name == "NONE" for part in original.layout.channels):
            return False
    trial = av.open(io.BytesIO(), "w", format=kind)
    try:
        trial.add_stream_from_template(original, opaque=True)
        trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    finally:
        with contextlib.suppress(av.FFmpegError):  # some codecs want a packet before the end
            trial.close()
    return True


def describe_as(stream: Any, original: Any) -> None:
    """Take over language, title, handler and the like, and the disposition."""
    stream.metadata.update({key: value for key, value in original.metadata.items() if key.lower() not in OWN_METADATA})
    stream.disposition = original.disposition


class OtherStreams:
    """The streams beside the video within one output.

    Attributes:
        end: when the last of what was written ends, in seconds of the output.
    """

    def __init__(self, source: VideoReader, planned: Streams) -> None:
        self.source, self.planned = source, planned
        self.outputs: dict[int, Any] = {}
        self.converters: dict[int, SoundConverter] = {}
        self.end = Fraction(0)

    def add(self, output: av.container.OutputContainer, original: Any) -> None:
        """Add the stream of the output that one of the source becomes, if it is not left out."""
        if original in self.planned.copied:
            self.outputs[original.index] = output.add_stream_from_template(original, opaque=True)
        elif original in self.planned.converted:
            self.converters[original.index] = converter = SoundConverter(output, original)
            self.outputs[original.index] = converter.stream
        else:
            return
        describe_as(self.outputs[original.index], original)

    def packets(self) -> Iterator[av.Packet]:
        """Yield the packets of all streams: as they are, moved as the video is, or converted."""
        originals = [
            self.source.container.streams[index] for index in self.outputs if self.outputs[index].type != "attachment"
        ]
        if not originals:
            return
        packets = self.source.container.demux(originals)
        timelines = {stream.index: Timeline() for stream in originals}
        shift = self.source.info.shift * self.source.info.time_base
        while True:
            try:
                packet = next(packets)
            except (StopIteration, av.FFmpegError):  # where the file is damaged ends what can be copied
                break
            if packet.size and packet.stream.disposition & av.stream.Disposition.attached_pic:
                packet.pts = packet.dts = 0  # a cover has no time of its own
            elif packet.size and (packet.dts is not None or packet.pts is not None):
                timelines[packet.stream_index].place(packet)
                move(packet, round(shift / packet.time_base))
            else:
                continue
            self.end = max(self.end, moment(packet) + (packet.duration or 0) * packet.time_base)
            yield from self._written(packet)
        for converter in self.converters.values():
            yield from converter.flush()

    def _written(self, packet: av.Packet) -> Iterator[av.Packet]:
        """Yield what is written in the place of a packet."""
        converter = self.converters.get(packet.stream_index)
        if converter is not None:
            yield from converter.convert(packet)
        else:
            packet.stream = self.outputs[packet.stream_index]
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
        move(packet, self.shift)
        self.last, self.duration = packet.dts, packet.duration or 0


def move(packet: av.Packet, ticks: int) -> None:
    """Move the times of a packet."""
    if packet.dts is not None:
        packet.dts += ticks
    if packet.pts is not None:
        packet.pts += ticks


def moment(packet: av.Packet) -> Fraction:
    """Return when a packet is due, in seconds."""
    ticks = packet.dts if packet.dts is not None else packet.pts
    assert ticks is not None
    return ticks * packet.time_base
