"""A video file as RGB pictures in the order of time, each with the timestamp that it has in the file.

What is damaged never shortens the video: a picture that cannot be decoded is the one before it once more, and counted.
"""

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, BinaryIO, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorRange, ColorTrc, Interpolation, VideoReformatter
from numpy.typing import NDArray

from sgllie.enhancer import Pixels
from sgllie.errors import VideoError
from sgllie.video import yuv

EXTENSIONS = frozenset(
    (
        *(".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".dav", ".dv", ".f4v", ".flv", ".h264", ".h265"),
        *(".hevc", ".ivf", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".nut", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
    )
)
"""Suffixes of files that a listing takes for videos."""

HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}
FIELD_ORDERS = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}
"""FFmpeg's numbers for which field of an interlaced frame is shown first."""

DEEPEST_REORDERING = 16
"""Pictures by which the order of a file and the order of time differ, at most (H.264, H.265)."""

# swscale's fast path to 8-bit RGB is one to two levels too dark, which is a fifth of the brightness of a dark pixel. Of
# the exact ways this is the quickest; with 16 bits the last of these flags gives wrong colours, and is not needed.
TO_RGB = {
    "rgb24": int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT),
    "rgb48le": int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND),
}


class Colour(NamedTuple):
    """The colour tags: the numbers of ITU-T H.273, and for the range 1 (limited), 2 (full) or 0 (unknown)."""

    range: int
    matrix: int
    primaries: int
    transfer: int


@dataclass(frozen=True)
class VideoInfo:
    """What has to be the same in the output.

    Attributes:
        width, height: of the coded picture, before rotation.
        depth: bits for each colour.
        time_base: seconds of one tick.
        rate: nominal frames per second.
        start, duration: in ticks; the duration is None where the container does not tell.
        frames: how many there will be, as far as the container tells.
        colour: the tags.
        aspect: width over height of one pixel, None where unknown.
        matrix: the nine numbers of the display matrix (rotation, mirroring), or None.
        codec: name of the input's codec.
        fields: `tff` or `bff` for interlaced video, whose top or bottom field comes first; else empty.
    """

    width: int
    height: int
    depth: int
    time_base: Fraction
    rate: Fraction
    start: int
    duration: int | None
    frames: int
    colour: Colour
    aspect: Fraction | None
    matrix: tuple[int, ...] | None
    codec: str
    fields: str = ""

    @property
    def step(self) -> int:
        """Ticks between two frames, nominally."""
        return max(round(1 / (self.rate * self.time_base)), 1)


class Picture(NamedTuple):
    """Timestamp in ticks, H x W x 3 pixels (uint8, or uint16 for deeper video), whether it repeats another picture."""

    pts: int
    pixels: Pixels
    repeated: bool


class VideoReader:
    """An open video file. Use it as a context manager, from one thread.

    Args:
        file: a path, or a binary file that can seek.
        threads: for the decoder.

    Raises:
        VideoError: it is no video.
    """

    def __init__(self, file: str | BinaryIO, threads: int = 0) -> None:
        self.file, self.threads = file, threads
        self._open()
        try:
            self.info = self._describe()
        except BaseException:
            self.container.close()
            raise

    def _open(self) -> None:
        if not isinstance(self.file, str):
            # FFmpeg would seek before its beginning, which looks like a fault of the storage.
            if not self.file.seek(0, os.SEEK_END):
                raise VideoError("not_a_video", "the file is empty")
            self.file.seek(0)
        try:
            self.container = av.open(self.file, "r", metadata_errors="replace")
        except (av.FFmpegError, ValueError) as error:
            raise VideoError("not_a_video", f"it cannot be opened as a video: {reason(error)}") from error
        self.stream = self._main_stream()
        self.stream.thread_type = "AUTO"
        self.stream.thread_count = self.threads

    def rewind(self) -> None:
        """Go back to the first packet, by opening the file again: not every format can seek there."""
        self.container.close()
        self._open()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()

    def _main_stream(self) -> av.VideoStream:
        """The first video that is not the picture on a cover."""
        covers = av.stream.Disposition.attached_pic
        for stream in self.container.streams.video:
            if not stream.disposition & covers and stream.codec_context is not None:
                return stream
        raise VideoError("not_a_video", "it holds no video, or one of an unknown codec")

    def _describe(self) -> VideoInfo:
        first = self._first_frame()
        stream, context = self.stream, self.stream.codec_context
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)
        assert stream.time_base is not None
        duration = stream.duration
        if duration is None and self.container.duration is not None:
            duration = int(Fraction(self.container.duration, av.time_base) / stream.time_base)
        start = first.pts if first.pts is not None else 0
        return VideoInfo(
            width=first.width,
            height=first.height,
            depth=max(component.bits for component in first.format.components),
            time_base=stream.time_base,
            rate=rate,
            start=start,
            duration=duration,
            frames=stream.frames or (int(duration * stream.time_base * rate) if duration else 0),
            colour=Colour(
                2 if first.format.name.startswith("yuvj") else int(first.color_range),
                int(first.colorspace),
                int(first.color_primaries),
                int(first.color_trc),
            ),
            aspect=stream.sample_aspect_ratio or None,
            matrix=display_matrix(first),
            codec=context.name,
            fields=FIELD_ORDERS.get(int(context.field_order), "tff") if first.interlaced_frame else "",
        )

    def _first_frame(self) -> av.VideoFrame:
        """The first frame that can be decoded; the file is rewound."""
        for packet in self._packets():
            frames = self._decoded(packet)
            if frames:
                self.rewind()
                return frames[0]
        raise VideoError("not_a_video", "no picture of it can be decoded")

    def key_times(self) -> list[int]:
        """Timestamps of key frames, in ticks, as far as the container has an index of them; decoding is not needed."""
        if len(self.stream.index_entries) == 0:
            self.container.seek(self.info.start, stream=self.stream)  # Matroska reads its index on the first seek
        return sorted({entry.timestamp for entry in self.stream.index_entries if entry.is_keyframe})

    def pictures(self, begin: int | None = None, end: int | None = None, lead: int = 0) -> Iterator[Picture]:
        """The pictures with `begin` <= timestamp < `end` (ticks), after at least `lead` earlier ones if there are any.

        Raises:
            VideoError: the pixels are of a kind that cannot be turned into RGB.
        """
        if begin is None:
            self.rewind()
            first = None
        else:
            first = self._seek_before(begin, lead)
        rgb = "rgb48le" if self.info.depth > 8 else "rgb24"
        reformatter = VideoReformatter()
        pixels: Pixels | None = None
        waiting: list[int] = []
        for pts, frame in self._frames():
            if first is not None and pts < first:
                continue
            late = end is not None and pts >= end
            if late and not waiting:
                return
            if frame is not None:
                pixels = self._rgb(frame, rgb, reformatter)
            elif pixels is None:
                if not late:
                    waiting.append(pts)  # the first good picture will stand in for those before it
                continue
            assert pixels is not None
            for lost in waiting:
                yield Picture(lost, pixels, True)
            waiting = []
            if late:
                return
            yield Picture(pts, pixels, frame is None)

    def _rgb(self, frame: av.VideoFrame, rgb: str, reformatter: VideoReformatter) -> NDArray[Any]:
        if frame.format.name in yuv.FORMATS and (frame.width, frame.height) == (self.info.width, self.info.height):
            return yuv.to_rgb(frame)
        try:
            converted = reformatter.reformat(
                frame,
                width=self.info.width,
                height=self.info.height,
                format=rgb,
                dst_color_range=ColorRange.JPEG,
                interpolation=TO_RGB[rgb],
                threads=1,
            )
        except (av.FFmpegError, ValueError) as error:
            sentence = f"its pixels ({frame.format.name}) cannot be turned into RGB: {reason(error)}"
            raise VideoError("unsupported", sentence) from error
        return np.ascontiguousarray(converted.to_ndarray())

    def _frames(self) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Timestamp and frame, in strictly rising order; None for a frame that is lost or damaged."""
        # An AVI file has decoding times only, of which the first belongs to the picture that is shown first, and so on.
        in_turn = self.container.format.name == "avi"
        expected: list[int] = []
        replaced: set[int] = set()
        damaged = False
        last: int | None = None
        for packet in self._packets():
            if packet.pts is not None and packet.size and not packet.is_discard:
                heapq.heappush(expected, packet.pts)
            frames = self._decoded(packet)
            damaged = damaged or frames is None
            for frame in frames or []:
                pts = expected[0] if in_turn and expected else frame.pts
                if pts is None:
                    pts = self.info.start if last is None else last + self.info.step
                while expected and expected[0] <= pts:
                    lost = heapq.heappop(expected)
                    # Packets without a picture are normal in some codecs; only after an error are they lost pictures.
                    if damaged and lost < pts and (last is None or lost > last):
                        yield lost, None
                        replaced.add(lost)
                        last = lost
                if last is not None and pts <= last:
                    # Far back: a second recording in the same file, which follows at the usual pace.
                    is_far = last - pts > DEEPEST_REORDERING * self.info.step
                    if pts in replaced and not is_far:
                        continue  # decoded after all, but too late
                    pts = last + (self.info.step if is_far else 1)
                yield pts, None if frame.is_corrupt else frame
                last = pts
        while damaged and expected:
            lost = heapq.heappop(expected)
            if last is None or lost > last:
                yield lost, None
                last = lost

    def _packets(self) -> Iterator[av.Packet]:
        """The packets of the video, up to where the container is damaged if it is, and an empty one to flush."""
        packets: Iterator[av.Packet] = self.container.demux(self.stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.FFmpegError:
                yield av.Packet()
                return
            yield packet

    def _decoded(self, packet: av.Packet) -> list[av.VideoFrame] | None:
        """The frames that a packet completes, None where it is damaged."""
        try:
            return self.stream.decode(packet if packet.size else None)
        except EOFError:
            return []
        except av.FFmpegError:
            return None

    def _seek_before(self, begin: int, lead: int) -> int | None:
        """Seek so that at least `lead` pictures before `begin` will be decoded; the first usable timestamp."""
        margin = (lead + DEEPEST_REORDERING) * self.info.step
        while begin - margin > self.info.start:
            self.container.seek(begin - margin, stream=self.stream, backward=True)
            first, count = self._count_until(begin)
            if first is not None and count >= lead:
                self.container.seek(begin - margin, stream=self.stream, backward=True)
                return first
            margin *= 2
        self.rewind()
        return None

    def _count_until(self, begin: int) -> tuple[int | None, int]:
        """From here on: the timestamp of the first key frame, and how many pictures follow it before `begin`."""
        first: int | None = None
        count = 0
        for packet in self._packets():
            if packet.pts is None:
                continue
            if first is None and packet.is_keyframe:
                first = packet.pts
            if first is not None and first <= packet.pts < begin:
                count += 1
            if packet.pts >= begin and (packet.dts is None or packet.dts >= begin):
                break
        return (None, 0) if first is None or first > begin else (first, count)


def refuse_hdr(info: VideoInfo) -> None:
    """Raise VideoError for a video in high dynamic range."""
    if info.colour.transfer in HDR:
        sentence = (
            f"it is HDR ({HDR[info.colour.transfer]}), and the network was made for standard dynamic range; "
            "--force-sdr treats its values as if they were SDR"
        )
        raise VideoError("hdr", sentence)


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """The display matrix of a frame: nine numbers in FFmpeg's layout."""
    found: Any = [data for data in frame.side_data if data.type == Type.DISPLAYMATRIX]  # type: ignore[attr-defined]
    return tuple(np.frombuffer(bytes(found[0]), np.int32).tolist()) if found else None


def reason(error: Exception) -> str:
    """FFmpeg's words for an error, without the file name."""
    return getattr(error, "strerror", None) or str(error)
