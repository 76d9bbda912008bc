"""Which files are read and written: their suffixes, and FFmpeg's names of their formats."""

from pathlib import PurePosixPath
from typing import BinaryIO

import av

from sgllie.errors import UsageError, VideoError
from sgllie.video.settings import Codec

EXTENSIONS = frozenset(
    (
        *(".264", ".265", ".3g2", ".3gp", ".asf", ".avi", ".dav", ".dv", ".f4v", ".flv", ".h264", ".h265"),
        *(".hevc", ".ivf", ".m2ts", ".m2v", ".m4v", ".mjpeg", ".mjpg", ".mkv", ".mov", ".mp4", ".mpeg"),
        *(".mpg", ".mts", ".mxf", ".nut", ".ogv", ".qt", ".ts", ".vob", ".webm", ".wmv", ".y4m"),
    )
)
"""Suffixes of files that a listing takes for videos."""

DEMUXERS = (
    *("mov", "matroska", "avi", "mpegts", "mpeg", "mpegvideo", "m4v", "flv", "asf", "mxf", "nut", "ogg", "ivf"),
    *("yuv4mpegpipe", "h264", "hevc", "dv", "mjpeg", "dhav"),
)
"""The formats that are read. FFmpeg chooses by content: a list of other files, or an address to listen at, would do."""

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".ts": "mpegts"}
"""Suffixes of outputs and FFmpeg's names of the formats. Timestamps are exact; .mkv holds milliseconds, .ts 1/90 ms."""

HOLD_FFV1 = {"mp4", "matroska"}
"""The formats of outputs that hold FFV1."""

RELATIVES = {".3gp": ".mov", ".3g2": ".mov", ".qt": ".mov", ".f4v": ".mp4"}
"""Suffixes of inputs, and the one among the outputs that holds the same streams, sound of telephones (AMR) included."""

INVALID_ARGUMENT = 22
"""What FFmpeg answers where a format is not among those that are allowed."""


def suffixes(codec: Codec) -> list[str]:
    """Return the suffixes of outputs that hold a codec."""
    return [suffix for suffix, kind in CONTAINERS.items() if codec != "ffv1" or kind in HOLD_FFV1]


def check_suffix(output: str, codec: Codec) -> str:
    """Return the suffix of an output in lower case; UsageError unless it names a container that holds a codec."""
    suffix = PurePosixPath(output).suffix.lower()
    if suffix not in suffixes(codec):
        raise UsageError(
            f"output {output}: the suffix must be one of {', '.join(suffixes(codec))} with --codec {codec}"
        )
    return suffix


def output_name(path: str, codec: Codec = "h264") -> str:
    """Return the path of the output: that of the input where its container is written, else with another suffix.

    Args:
        path: of the input, below its root.
        codec: which the container has to hold.
    """
    own = PurePosixPath(path).suffix.lower()
    for suffix in (own, RELATIVES.get(own)):
        if suffix in suffixes(codec):
            return path if suffix == own else str(PurePosixPath(path).with_suffix(suffix))
    return str(PurePosixPath(path).with_suffix(".mkv"))


def open_input(file: BinaryIO) -> av.container.InputContainer:
    """Open a video, and no other file or address that it may name.

    Args:
        file: can seek, and is read from its beginning.

    Raises:
        VideoError: it is no video of a format that is read.
    """
    # FFmpeg would seek before the beginning of an empty file, which looks like a fault of the storage.
    try:
        size = file.seek(0, 2)
    except OSError as error:  # such as of /proc/self/mem, which looks like a regular file
        raise VideoError("not_a_video", f"it cannot be opened as a video: {error.strerror}") from error
    if not size:
        raise VideoError("not_a_video", "the file is empty")
    file.seek(0)
    allowed = {"format_whitelist": ",".join(DEMUXERS), "protocol_whitelist": "none"}
    try:
        return av.open(file, "r", metadata_errors="replace", container_options=allowed)
    except (av.FFmpegError, ValueError) as error:
        words = reason(error)
        if getattr(error, "errno", None) == INVALID_ARGUMENT:
            words = f"its content is damaged, or of a format that is not read (those are {', '.join(DEMUXERS)})"
        raise VideoError("not_a_video", f"it cannot be opened as a video: {words}") from error


def reason(error: Exception) -> str:
    """Return FFmpeg's words for an error, without the file name."""
    return getattr(error, "strerror", None) or str(error)
