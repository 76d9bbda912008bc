"""One segment of a video, encoded: which pixel format a codec takes, and what of the video it cannot keep."""

from pathlib import Path

import av

from sgllie.errors import VideoError
from sgllie.video.info import Colour, VideoInfo
from sgllie.video.pixels import FrameMaker
from sgllie.video.reader import Picture
from sgllie.video.settings import Codec, Encoding

ENCODERS: dict[Codec, str] = {"h264": "libx264", "h265": "libx265", "ffv1": "ffv1"}
DEPTHS: dict[Codec, tuple[int, ...]] = {"h264": (8, 10), "h265": (8, 10, 12), "ffv1": (8, 10, 12, 14, 16)}

SMALLEST_H265 = 64
"""x265 (4.1) writes outside its memory for frames of 33 x 17, in the cost propagation of its lookahead."""

LIMITED, BT709 = 1, 1


def depth_kept(codec: Codec, depth: int) -> int:
    """Return the bits for each colour that a codec keeps of so many."""
    return max(known for known in DEPTHS[codec] if known <= max(depth, 8))


def pixel_format(codec: Codec, width: int, height: int, depth: int, chroma: str = "420", *, alpha: bool = False) -> str:
    """Return the pixel format in which a codec keeps size, chroma, alpha and depth as far as it can."""
    bits = depth_kept(codec, depth)
    if codec == "ffv1":
        if bits == 8:
            return "bgra" if alpha else "bgr0"
        return f"gbrap{bits}le" if alpha else f"gbrp{bits}le"
    # 4:2:0 and 4:2:2 store colour for blocks of pixels, and H.264 and H.265 can crop by whole blocks only.
    layout = f"yuv{chroma}p" if width % 2 == height % 2 == 0 else "yuv444p"
    return layout if bits == 8 else f"{layout}{bits}le"


def losses(info: VideoInfo, codec: Codec) -> list[str]:
    """Return what a codec cannot keep of the pictures of a video, in words."""
    found = []
    if info.alpha_apart or (info.alpha and codec != "ffv1"):
        found.append("transparency")
    kept = depth_kept(codec, info.depth)
    if kept < info.depth:
        found.append(f"{info.depth - kept} of {info.depth} bits of each colour")
    return found


def output_colour(codec: Codec, colour: Colour) -> Colour:
    """Return the tags of the output: those of the input, but where one of both stores RGB and the other does not.

    FFV1 stores RGB here: no matrix, full range. H.264 and H.265 get BT.709 in limited range where the input is RGB.
    """
    if codec == "ffv1":
        return colour._replace(matrix=0, range=2)
    return colour._replace(matrix=BT709, range=LIMITED) if colour.matrix == 0 else colour


class SegmentWriter:
    """Encodes pictures into an MP4 file of nothing but video, at the times that they have in the output.

    Every segment begins with a key frame that needs none before it, and the same settings give the same parameter sets:
    that is what `join` builds on.

    Args:
        path: of the file.
        info: of the video.
        encoding: codec, quality and threads.

    Raises:
        VideoError: the codec cannot keep its size or its fields.
    """

    def __init__(self, path: Path, info: VideoInfo, encoding: Encoding) -> None:
        self.info = info
        refuse_unfit(info, encoding.codec)
        self.container = av.open(str(path), "w", format="mp4", container_options=exact_time(info))
        codec, threads = encoding.codec, encoding.threads
        stream = self.container.add_stream(ENCODERS[codec], rate=info.rate, options=encoder_options(info, encoding))
        assert isinstance(stream, av.VideoStream)
        context = stream.codec_context
        stream.width, stream.height = info.width, info.height
        stream.pix_fmt = pixel_format(codec, info.width, info.height, info.depth, info.chroma, alpha=info.alpha)
        stream.time_base = context.time_base = info.time_base
        # Frames side by side: PyAV's default, slices of one frame, leaves x264 idle until the next one comes.
        context.thread_type, context.thread_count = "AUTO", threads
        if info.aspect:
            stream.sample_aspect_ratio = info.aspect
        colour = output_colour(codec, info.colour)
        tag(context, colour)
        self.stream = stream
        self.frames = FrameMaker(stream.pix_fmt, colour.matrix, colour.range or LIMITED, bool(info.fields))

    def add(self, picture: Picture) -> None:
        """Encode one picture; timestamps must rise."""
        frame = self.frames.make(picture.pixels, picture.alpha, picture.carrier)
        frame.pts, frame.time_base = picture.pts + self.info.shift, self.info.time_base
        self.container.mux(self.stream.encode(frame))

    def close(self) -> None:
        """Encode what is pending, and complete the file."""
        self.container.mux(self.stream.encode(None))
        self.container.close()


def refuse_unfit(info: VideoInfo, codec: Codec) -> None:
    """Raise VideoError where a codec cannot keep the size or the fields of a video."""
    if codec == "h265" and min(info.width, info.height) < SMALLEST_H265:
        sentence = f"it is {info.width}x{info.height}, which is too small for the H.265 encoder; take --codec h264"
        raise VideoError("unsupported", sentence)
    if info.fields and codec != "h264":
        raise VideoError("unsupported", "it is interlaced, which only --codec h264 keeps")


def encoder_options(info: VideoInfo, encoding: Encoding) -> dict[str, str]:
    """Return the options of an encoder by FFmpeg's names."""
    if encoding.codec == "ffv1":
        return {}
    options = {"crf": str(encoding.crf), "preset": encoding.preset}
    if info.fields:
        options["x264-params"] = f"{info.fields}=1"
    if encoding.codec == "h265":
        options["a53cc"] = "1"  # closed captions; x264 writes them anyway
        options["x265-params"] = f"log-level=error:pools={encoding.threads}"
    return options


def exact_time(info: VideoInfo) -> dict[str, str]:
    """Return the options of MP4 by which no timestamp is rounded."""
    ticks = str(info.time_base.denominator)
    return {"video_track_timescale": ticks, "movie_timescale": ticks}


def tag(context: av.VideoCodecContext, colour: Colour) -> None:
    """Write the colour tags into the description of a stream."""
    context.color_range, context.colorspace = colour.range, colour.matrix
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
