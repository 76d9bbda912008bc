"""What was dropped on the page: a photograph or a clip, how it is shown, and how it is enhanced at full size."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from sgllie.demo.choice import Choice
from sgllie.demo.preview import Preview, Still
from sgllie.demo.settings import DemoSettings
from sgllie.enhance.processor import ImageProcessor
from sgllie.errors import ItemError, VideoError
from sgllie.images import EXTENSIONS as PHOTOGRAPHS
from sgllie.images import decode, exif
from sgllie.methods import make_method
from sgllie.video.clip import enhance_video
from sgllie.video.formats import EXTENSIONS as CLIPS
from sgllie.video.formats import output_name
from sgllie.video.info import VideoInfo, refuse_hdr
from sgllie.video.reader import Picture, VideoReader

QUARTER_TURNS = (1, 6, 3, 8)
"""The EXIF orientations of pictures that are shown turned clockwise by 0, 90, 180 and 270 degrees."""


@dataclass(frozen=True)
class Item:
    """A file as it was dropped.

    Attributes:
        name: under which it is shown and downloaded.
        path: where it lies.
    """

    name: str
    path: Path

    @property
    def is_clip(self) -> bool:
        """Whether it is a clip by its name; else it is a photograph."""
        return PurePosixPath(self.name).suffix.lower() in CLIPS

    @property
    def output(self) -> str:
        """The name of what is made of it."""
        return output_name(self.name) if self.is_clip else self.name

    def still(self, settings: DemoSettings) -> Still:
        """Decode what is shown, of a clip its middle frame; ItemError where it cannot be, or is beyond a limit."""
        return self._middle_frame(settings) if self.is_clip else self._photograph(settings)

    def is_copied(self, preview: Preview, choice: Choice) -> bool:
        """Tell whether the job would copy it, since it is bright enough; it never copies a clip."""
        return not self.is_clip and choice.only_darker_than < 1 and preview.brightness >= choice.only_darker_than

    def enhance(self, choice: Choice, settings: DemoSettings) -> bytes:
        """Enhance it at its full size; return the bytes of the output.

        Raises:
            ItemError: it cannot be enhanced, or is beyond a limit.
        """
        if self.is_clip:
            return self._enhance_clip(choice, settings)
        processor = ImageProcessor(choice.settings(settings.max_pixels))
        result = processor(self.name, self.path.read_bytes())
        if result.data is None:
            raise ItemError(result.row["error_type"], result.row["error"])
        return result.data

    def _photograph(self, settings: DemoSettings) -> Still:
        image = decode(self.path.read_bytes(), max_pixels=settings.max_pixels)
        metadata = image.metadata
        return Still(image.pixels, image.alpha, exif.orientation(metadata.exif or b""), metadata.icc)

    def _middle_frame(self, settings: DemoSettings) -> Still:
        with VideoReader(str(self.path)) as reader:
            check_clip(reader.info, settings)
            middle = reader.info.start + (reader.info.duration or 0) // 2
            pictures: Iterator[Picture] = reader.pictures(middle)
            # Pictures of which only the times are known come after the last one that can be seen.
            found = next((picture for picture in pictures if picture.pts >= middle), None)
            if found is None:
                found = next(islice(reader.pictures(), 1), None)
            if found is None:
                raise VideoError("not_a_video", "no picture of it can be decoded")
            return Still(found.pixels, orientation=orientation(reader.info.matrix))

    def _enhance_clip(self, choice: Choice, settings: DemoSettings) -> bytes:
        with VideoReader(str(self.path)) as reader:
            check_clip(reader.info, settings)
        with TemporaryDirectory(prefix="sgllie-") as scratch:
            target = Path(scratch) / f"clip{PurePosixPath(self.output).suffix.lower()}"
            enhance_video(str(self.path), target, make_method(choice.settings()))
            return target.read_bytes()


def refusal(name: str) -> str | None:
    """Say why a file of this name is not taken; None for one that is."""
    suffix = PurePosixPath(name).suffix.lower()
    if suffix in PHOTOGRAPHS or suffix in CLIPS:
        return None
    kinds = "JPEG, PNG, WebP, BMP, TIFF, or a video"
    return f"{name}: by its name it is neither a photograph nor a clip; the page takes {kinds}"


def check_clip(info: VideoInfo, settings: DemoSettings) -> None:
    """Raise VideoError for a clip in high dynamic range, or beyond a limit."""
    refuse_hdr(info)
    if info.width * info.height > settings.max_pixels:
        sentence = f"its frames have {info.width} x {info.height} pixels; at most {settings.max_pixels} are allowed"
        raise VideoError("too_large", sentence)
    if info.duration is None:
        raise VideoError("unsupported", "its container does not say how long it is; `sgllie video` takes it")
    seconds = float(info.duration * info.time_base)
    if seconds > settings.max_seconds:
        limit = f"at most {settings.max_seconds:g} s are allowed here (--max-seconds)"
        raise VideoError("too_large", f"it is {seconds:.1f} s long; {limit}; `sgllie video` takes any length")


def orientation(matrix: tuple[int, ...] | None) -> int:
    """Return the EXIF orientation that a display matrix stands for, as far as it is one of the quarter turns.

    Source of the layout: FFmpeg's libavutil/display.h; the first row is (cos, sin) of the turn, clockwise.
    """
    if matrix is None:
        return 1
    return QUARTER_TURNS[round(math.atan2(matrix[1], matrix[0]) / (math.pi / 2)) % 4]
