"""A video file as RGB pictures in the order of time, each with the timestamp that it has in the file.

What is damaged never shortens the video: a picture that cannot be decoded is the one before it once more, and counted.
"""

import heapq
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple

import av

from sgllie.enhancer import Pixels
from sgllie.errors import VideoError
from sgllie.images import MAX_PIXELS
from sgllie.runs.memory import MemoryBudget
from sgllie.video.cutoff import is_cut_off
from sgllie.video.formats import open_input
from sgllie.video.info import CARRIED, describe, side_data_names, tagged_end
from sgllie.video.pixels import Decoded, PixelReader

FRAME_BYTES, DEEP_FRAME_BYTES = 350, 550
"""Of memory for each pixel of a picture by which a worker was measured to grow, of 8 and of more bits: decoder,
pictures ahead, network, and the pictures that the encoder looks at together."""
COSTLY = 2
"""How many times as much an encoder takes with slow presets or many threads (see `Encoding.is_costly`)."""
DEEPEST_REORDERING = 16
"""Pictures by which the order of a file and the order of time differ, at most (H.264, H.265)."""


class Picture(NamedTuple):
    """One picture of a video.

    Attributes:
        pts: when it is shown, in ticks.
        pixels: H x W x 3, uint8, or uint16 for deeper video.
        repeated: whether it repeats another picture.
        duration: for how many ticks it is shown, as far as the file tells; else one step.
        alpha: H x W, of the same type, where the video has an alpha channel.
        carrier: the decoded frame, where it carries what an encoder can write beside the pixels.
    """

    pts: int
    pixels: Pixels
    repeated: bool
    duration: int
    alpha: Pixels | None = None
    carrier: av.VideoFrame | None = None


class Shown(NamedTuple):
    """When a picture is shown and for how long, in ticks; its frame is None where that is lost or damaged."""

    pts: int
    duration: int
    frame: av.VideoFrame | None = None


class VideoReader:
    """An open video file. Use it as a context manager, from one thread.

    Args:
        file: a path, or a binary file that can seek.
        threads: for the decoder.
        memory: what its pictures may need on their way to the encoder; by default there is no limit.
        is_costly: whether that encoder needs more than usual.

    Attributes:
        side_data: names of what the frames that were decoded so far carry beside their pixels.

    Raises:
        ItemError: it is no video, one of too many pixels, or one that needs too much memory.
    """

    def __init__(
        self, file: str | BinaryIO, threads: int = 0, memory: MemoryBudget | None = None, is_costly: bool = False
    ) -> None:
        self._closing = ExitStack()
        if isinstance(file, str):
            file = self._closing.enter_context(Path(file).open("rb"))  # noqa: SIM115
        self.file = file
        self.threads = threads
        self.memory = memory
        self.is_costly = is_costly
        self.side_data: set[str] = set()
        with ExitStack() as failing:
            failing.callback(self.close)
            self._open()
            first = self._first_frame()
            self.info = describe(self.container, self.stream, first)
            failing.pop_all()

    def _open(self) -> None:
        self.container = self._closing.enter_context(open_input(self.file))
        self.stream = self._main_stream()
        context = self.stream.codec_context
        if context.width * context.height > MAX_PIXELS:
            sentence = f"its pictures have {context.width} x {context.height} pixels; at most {MAX_PIXELS} are allowed"
            raise VideoError("too_large", sentence)
        most = MAX_PIXELS
        if self.memory is not None:
            depth = max(component.bits for component in context.format.components) if context.format else 8
            each = (FRAME_BYTES if depth <= 8 else DEEP_FRAME_BYTES) * (COSTLY if self.is_costly else 1)
            self.memory.check(context.width * context.height * each, "video")
            most = min(most, self.memory.most // each)
        context.options = {"max_pixels": str(most)}  # of each picture, whatever the container says
        context.thread_type, context.thread_count = "AUTO", self.threads

    @cached_property
    def is_cut_off(self) -> bool:
        """Whether the file ends before its container does."""
        place = self.file.tell()
        try:
            return is_cut_off(self.file)
        finally:
            self.file.seek(place)  # where the open container goes on

    @property
    def promised_end(self) -> int | None:
        """When the last picture ends, in ticks, where the container says so apart from its packets."""
        stream = self.stream
        start = self.info.start if stream.start_time is None else stream.start_time
        match self.container.format.name.split(",")[0]:
            case "mov":
                return None if stream.duration is None else start + stream.duration
            case "avi":
                return start + stream.frames or None  # a tick is a frame
            case "matroska":
                end = tagged_end(stream)
                return None if end is None else round(end / self.info.time_base)
        return None

    def rewind(self) -> None:
        """Go back to the first packet, by opening the file again: not every format can seek there."""
        self.container.close()
        self._open()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the container, and the file if it was opened here."""
        self._closing.close()

    def _main_stream(self) -> av.VideoStream:
        """Return the first video that is not the picture on a cover."""
        covers = av.stream.Disposition.attached_pic
        for stream in self.container.streams.video:
            if not stream.disposition & covers and stream.codec_context is not None:
                return stream
        raise VideoError("not_a_video", "it holds no video, or one of an unknown codec")

    def _first_frame(self) -> av.VideoFrame:
        """Return the first frame that can be decoded; the file is rewound."""
        for packet in self._packets():
            frames = self._decoded(packet)
            if frames:
                self.rewind()
                return frames[0]
        raise VideoError("not_a_video", "no picture of it can be decoded")

    def key_times(self) -> list[int]:
        """Return when key frames are shown, in ticks, as far as the container has an index; nothing is decoded."""
        if len(self.stream.index_entries) == 0:
            with suppress(av.FFmpegError):  # a damaged file may have no place to seek to
                self.container.seek(self.info.start, stream=self.stream)  # Matroska reads its index on the first seek
        return sorted({entry.timestamp for entry in self.stream.index_entries if entry.is_keyframe})

    def pictures(self, begin: int | None = None, end: int | None = None, lead: int = 0) -> Iterator[Picture]:
        """Yield the pictures with `begin` <= timestamp < `end` (ticks), after at least `lead` earlier ones if any.

        Raises:
            VideoError: the pixels are of a kind that cannot be turned into RGB.
        """
        if begin is None:
            self.rewind()
            first = None
        else:
            first = self._seek_before(begin, lead)
        reader = PixelReader(self.info)
        decoded: Decoded | None = None
        waiting: list[Shown] = []
        for shown in self._frames():
            if first is not None and shown.pts < first:
                continue
            is_late = end is not None and shown.pts >= end
            if is_late and not waiting:
                return
            if shown.frame is not None:
                decoded = reader.read(shown.frame)
            if decoded is None:
                if not is_late:
                    waiting.append(shown)  # the first good picture will stand in for those before it
                continue
            for lost in waiting:
                yield Picture(lost.pts, decoded.pixels, True, lost.duration, decoded.alpha)
            waiting = []
            if is_late:
                return
            yield self._picture(shown, decoded)

    def _picture(self, shown: Shown, decoded: Decoded) -> Picture:
        """Return a picture of these pixels, which are those of another one where its own frame is lost."""
        names = side_data_names(shown.frame) if shown.frame is not None else set()
        self.side_data |= names
        carrier = shown.frame if names & CARRIED else None
        return Picture(shown.pts, decoded.pixels, shown.frame is None, shown.duration, decoded.alpha, carrier)

    def _frames(self) -> Iterator[Shown]:
        """Yield all frames, in strictly rising order of time."""
        # An AVI file has decoding times only, of which the first belongs to the picture that is shown first, and so on.
        in_turn = self.container.format.name == "avi"
        expected: list[Shown] = []
        replaced: set[int] = set()
        damaged = False
        last: int | None = None
        for packet in self._packets():
            if packet.pts is not None and packet.size and not packet.is_discard:
                heapq.heappush(expected, Shown(packet.pts, packet.duration or self.info.step))
            frames = self._decoded(packet)
            damaged = damaged or frames is None
            for frame in frames or []:
                pts = expected[0].pts if in_turn and expected else frame.pts
                if pts is None:
                    pts = self.info.start if last is None else last + self.info.step
                while expected and expected[0].pts <= pts:
                    lost = heapq.heappop(expected)
                    # Packets without a picture are normal in some codecs; only after an error are they lost pictures.
                    if damaged and lost.pts < pts and (last is None or lost.pts > last):
                        yield lost
                        replaced.add(lost.pts)
                        last = lost.pts
                if last is not None and pts <= last:
                    # Far back: a second recording in the same file, which follows at the usual pace.
                    is_far = last - pts > DEEPEST_REORDERING * self.info.step
                    if pts in replaced and not is_far:
                        continue  # decoded after all, but too late
                    pts = last + (self.info.step if is_far else 1)
                yield Shown(pts, frame.duration or self.info.step, None if frame.is_corrupt else frame)
                last = pts
        while damaged and expected:
            lost = heapq.heappop(expected)
            if last is None or lost.pts > last:
                yield lost
                last = lost.pts

    def _packets(self) -> Iterator[av.Packet]:
        """Yield the packets of the video, up to where the container is damaged if it is, and an empty one to flush."""
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
        """Return the frames that a packet completes, None where it is damaged."""
        try:
            return self.stream.decode(packet if packet.size else None)
        except EOFError:
            return []
        except av.FFmpegError:
            return None

    def _seek_before(self, begin: int, lead: int) -> int | None:
        """Seek so that at least `lead` pictures before `begin` will be decoded; return the first usable timestamp."""
        margin = (lead + DEEPEST_REORDERING) * self.info.step
        while begin - margin > self.info.start:
            try:
                self.container.seek(begin - margin, stream=self.stream, backward=True)
            except av.FFmpegError:
                break
            first, count = self._count_until(begin)
            if first is not None and count >= lead:
                self.container.seek(begin - margin, stream=self.stream, backward=True)
                return first
            margin *= 2
        self.rewind()
        return None

    def _count_until(self, begin: int) -> tuple[int | None, int]:
        """Return when the next key frame is shown, and count the pictures from it on before `begin`."""
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
