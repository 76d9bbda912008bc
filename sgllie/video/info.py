"""What is known of a video before its pictures are enhanced, and has to be the same in the output."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import ColorTrc

from sgllie.errors import VideoError

HDR = {int(ColorTrc.SMPTE2084): "PQ", int(ColorTrc.ARIB_STD_B67): "HLG"}
FIELD_ORDERS = {2: "tff", 3: "bff", 4: "bff", 5: "tff"}
"""FFmpeg's numbers for which field of an interlaced frame is shown first."""

CAPTIONS, STEREO, DOLBY_VISION = "closed captions", "the layout of stereo pictures", "Dolby Vision metadata"
CARRIED = {CAPTIONS, STEREO}
"""What encoders of H.264 and H.265 write beside the pixels, where it comes with a frame."""
SIDE_DATA = {
    Type.A53_CC: CAPTIONS,
    Type.STEREO3D: STEREO,
    Type.SPHERICAL: "the projection of 360-degree pictures",
    Type.AFD: "the active format description",
    Type.MASTERING_DISPLAY_METADATA: "the mastering display",
    Type.CONTENT_LIGHT_LEVEL: "the content light level",
    Type.AMBIENT_VIEWING_ENVIRONMENT: "the ambient viewing environment",
    Type.ICC_PROFILE: "the ICC profile",
    Type.S12M_TIMECODE: "the timecodes of pictures",
    Type.DYNAMIC_HDR_PLUS: "HDR10+ metadata",
    Type.DYNAMIC_HDR_VIVID: "HDR Vivid metadata",
    Type.DOVI_RPU_BUFFER: DOLBY_VISION,
    Type.DOVI_METADATA: DOLBY_VISION,
    Type.SEI_UNREGISTERED: "user data of pictures",
}
"""What pictures may carry beside their pixels, and that is told where the output lacks it."""

FASTEST_BELIEVED = 240
"""Frames per second, above which a rate that a file claims is no ground for an estimate."""

ENCODERS_OWN = (bytes.fromhex("dc45e9bde6d948b7962cd820d923eeef"), bytes.fromhex("2ca2de09b51747dbbb55a4fe7fc2fc4e"))
"""What user data begins with in which x264 and x265 say with which settings they ran."""


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
        chroma: the thinnest of 420, 422 and 444 (ITU-T H.264, table 6-1) that holds all its samples of colour.
        alpha: whether the pictures have an alpha channel.
        alpha_apart: whether they have one that FFmpeg does not decode: VP8 and VP9 hold it beside the pictures.
        time_base: seconds of one tick.
        rate: nominal frames per second.
        start, duration: in ticks; the duration is None where the container does not tell.
        frames: how many there will be, as far as the container tells; 0 where it does not.
        colour: the tags.
        aspect: width over height of one pixel, None where unknown.
        matrix: the nine numbers of the display matrix (rotation, mirroring), or None.
        codec: name of the input's codec.
        fields: `tff` or `bff` for interlaced video, whose top or bottom field comes first; else empty.
    """

    width: int
    height: int
    depth: int
    chroma: str
    alpha: bool
    alpha_apart: bool
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

    @property
    def shift(self) -> int:
        """Ticks by which all streams are moved in the output, since no container shows pictures before time zero."""
        return max(-self.start, 0)

    def seconds(self, pts: int) -> Fraction:
        """Return when a picture of the input is shown in the output, in seconds."""
        return (pts + self.shift) * self.time_base


def describe(container: av.container.InputContainer, stream: av.VideoStream, first: av.VideoFrame) -> VideoInfo:
    """Return what is known of a video once its first frame is decoded."""
    context = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or Fraction(25)
    alpha = any(component.is_alpha for component in first.format.components)
    assert stream.time_base is not None
    duration = stream.duration
    if duration is None and container.duration is not None:
        duration = int(Fraction(container.duration, av.time_base) / stream.time_base)
    return VideoInfo(
        width=first.width,
        height=first.height,
        depth=max(component.bits for component in first.format.components),
        chroma=chroma_layout(first.format),
        alpha=alpha,
        alpha_apart=not alpha and stream.metadata.get("alpha_mode") == "1",
        time_base=stream.time_base,
        rate=rate,
        start=first.pts if first.pts is not None else 0,
        duration=duration,
        frames=stream.frames or estimated_frames(stream, duration, rate),
        colour=colour_tags(first),
        aspect=stream.sample_aspect_ratio or None,
        matrix=display_matrix(first),
        codec=context.name,
        fields=FIELD_ORDERS.get(int(context.field_order), "tff") if first.interlaced_frame else "",
    )


def estimated_frames(stream: av.VideoStream, duration: int | None, rate: Fraction) -> int:
    """Return how many frames a stream of so many ticks may have; 0 where its rate is not that of its first times."""
    base = stream.base_rate or rate
    is_believed = rate <= FASTEST_BELIEVED and rate / 2 <= base <= rate * 2
    return int(duration * stream.time_base * rate) if duration and stream.time_base and is_believed else 0


def chroma_layout(format: av.VideoFormat) -> str:
    """Return the thinnest of 420, 422 and 444 that holds all samples of colour of a pixel format."""
    if not format.has_palette and all(part.is_luma or part.is_alpha for part in format.components):
        return "420"  # grey: the samples are all the same
    halved = format.chroma_width(8) < 8, format.chroma_height(8) < 8
    return {(True, True): "420", (True, False): "422"}.get(halved, "444")


def colour_tags(frame: av.VideoFrame) -> Colour:
    """Return the colour tags of a frame; the range follows from the name of some pixel formats."""
    is_full = frame.format.name.startswith("yuvj")
    tags = (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc)
    colour = Colour(*map(int, tags))
    return colour._replace(range=2) if is_full else colour


def tagged_end(stream: av.VideoStream) -> Fraction | None:
    """Return when a stream ends in seconds, as Matroska says in a tag, if it does."""
    found = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if not found:
        return None
    hours, minutes, seconds = found.groups()
    return int(hours) * 3600 + int(minutes) * 60 + Fraction(seconds)


def refuse_hdr(info: VideoInfo) -> None:
    """Raise VideoError for a video in high dynamic range."""
    if info.colour.transfer in HDR:
        sentence = (
            f"it is HDR ({HDR[info.colour.transfer]}), and the network was made for standard dynamic range; "
            "--force-sdr treats its values as if they were SDR"
        )
        raise VideoError("hdr", sentence)


def display_matrix(frame: av.VideoFrame) -> tuple[int, ...] | None:
    """Return the display matrix of a frame: nine numbers in FFmpeg's layout."""
    found = side_data_of(frame).get(Type.DISPLAYMATRIX)
    return tuple(np.frombuffer(found, np.int32).tolist()) if found else None


def side_data_of(frame: av.VideoFrame) -> dict[Type, bytes]:
    """Return what a frame carries beside its pixels; kinds that PyAV has no name for are not among it."""
    found: dict[Type, bytes] = {}
    data: Any
    for data in frame.side_data:
        try:
            kind = data.type
        except ValueError:
            continue
        found[kind] = bytes(data)
    return found


def side_data_names(frame: av.VideoFrame) -> set[str]:
    """Return the names of what a frame carries beside its pixels, as far as SIDE_DATA knows it."""
    found = side_data_of(frame)
    if found.get(Type.SEI_UNREGISTERED, b"").startswith(ENCODERS_OWN):
        del found[Type.SEI_UNREGISTERED]
    return {SIDE_DATA[kind] for kind in found if kind in SIDE_DATA}
