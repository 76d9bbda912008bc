"""What happens to one image: bytes in, bytes and a row of statistics out. Its errors become part of the row."""

import hashlib
import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from sgllie import images
from sgllie.corpus.labels import label_map_name
from sgllie.corpus.patterns import Patterns
from sgllie.enhance.memory import bytes_needed
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import Failure, failure_of
from sgllie.images import OpenedImage, luma
from sgllie.images.jpeg import JpegEncoder, libjpeg
from sgllie.images.label_map import ids_in
from sgllie.images.luma import LumaStatistics
from sgllie.methods import make_method
from sgllie.network.factor import FactorStatistics, Level
from sgllie.runs.memory import budgets
from sgllie.runs.schemas import BRIGHT_ENOUGH, MAP_BY_CONTENT, MAP_BY_NAME, Row
from sgllie.storage import Entry

Admission = Callable[[int], AbstractContextManager[None]]


class Processor(Protocol):
    """What works on single images: an `ImageProcessor`, here or in a process of its own."""

    def __call__(self, path: str, data: bytes, level: Level | None = None) -> "ImageResult":
        """Process one image; the level is what it shares with others, if it does."""

    def level(self, path: str, data: bytes) -> Level | None:
        """Return what one image brings to the level of its moment; None where it brings nothing."""


@dataclass(frozen=True)
class ImageResult:
    """The result for one image.

    Attributes:
        data: the bytes to write, or None where the image failed.
        name: the path of the output below images/.
        row: the columns that are known by now.
    """

    data: bytes | None
    name: str
    row: Row


class ImageProcessor:
    """Decodes, enhances, encodes and measures images as the settings say. Thread-safe.

    Args:
        settings: of the job.
        admitted: returns a context, for the bytes of memory that an image needs, within which its pixels are decoded;
            ItemError where it needs too many. By default the calls of one processor share the memory of a worker.
    """

    def __init__(self, settings: EnhanceSettings, admitted: Admission | None = None) -> None:
        self.settings = settings
        self.method = make_method(settings)
        self.admitted = admitted or budgets(settings.worker_memory, settings.loads_torch)[1].held
        self.jpeg_encoder: JpegEncoder = libjpeg
        if settings.gpu_jpeg:
            from sgllie.images.nvimage import NvImageEncoder

            self.jpeg_encoder = NvImageEncoder("cuda")
        self.included = Patterns(settings.include, "--include")

    def __call__(self, path: str, data: bytes, level: Level | None = None) -> ImageResult:
        """Process one image, given its path below IN, its bytes, and the level that it shares, if it does."""
        settings = self.settings
        row: Row = {"bytes_in": len(data), "sha256_in": hashlib.sha256(data).hexdigest()}
        is_included = path in self.included
        map_name = None if is_included else label_map_name(path)
        if map_name is not None:
            return finished_result(path, row | {"reason": f"{MAP_BY_NAME}: {map_name}"}, "copied", data)
        try:
            image = self._opened(data)
            with self.admitted(bytes_needed(image, settings)):
                encoded = self._enhanced(image, row, is_included, level)
        except Exception as error:
            return failed_result(path, row, failure_of(error))
        if encoded is None:
            return finished_result(path, row, "copied", data)
        return finished_result(images.output_name(path, settings.format), row, "ok", encoded)

    def level(self, path: str, data: bytes) -> Level | None:
        """Return the mean luma of an image, and the level that the method finds in it.

        None for a label map, and for an image that fails: its row will say why.
        """
        is_included = path in self.included
        if not is_included and label_map_name(path) is not None:
            return None
        try:
            opened = self._opened(data)
            with self.admitted(bytes_needed(opened, self.settings)):
                image = opened.decode()
                if not is_included and ids_in(image) is not None:
                    return None
                return [luma.measure(image.pixels).mean, *self.method.level(image.pixels)]
        except Exception as error:
            failure_of(error)  # raises what is no fault of the image
            return None

    def _opened(self, data: bytes) -> OpenedImage:
        """Read the header of an image."""
        settings = self.settings
        with self.admitted(0):  # a header may take long, too, and whoever admits watches the time
            return images.open_image(data, max_pixels=settings.max_pixels, exif_orientation=settings.exif_orientation)

    def _enhanced(self, opened: OpenedImage, row: Row, is_included: bool, level: Level | None) -> bytes | None:
        """Return the output of an image, None where it stays as it is; what is found out goes into `row`."""
        settings, clock = self.settings, Clock(row)
        image = opened.decode()
        height, width = image.pixels.shape[:2]
        row |= {"format": image.format, "mode": image.mode, "bit_depth": image.bit_depth}
        row |= {"width": width, "height": height}
        clock.lap("decode_ms")
        ids = None if is_included else ids_in(image)
        if ids is not None:
            row["reason"] = f"{MAP_BY_CONTENT}: {ids}"
            return None
        before = luma.measure(image.pixels)
        row |= luma_columns(before, "in")
        mean, *shared = level or [before.mean]
        row["level"] = level
        if settings.only_darker_than is not None and mean >= settings.only_darker_than:
            row |= luma_columns(before, "out") | {"reason": f"{BRIGHT_ENOUGH}: mean luma {mean:.2f}"}
            return None
        enhanced, factor, row["device"] = self.method.enhance(image.pixels, shared or None)
        row |= factor_columns(factor) | luma_columns(luma.measure(enhanced), "out")
        clock.lap("enhance_ms")
        encoded = images.encode(
            image, enhanced, format=settings.format, quality=settings.quality, jpeg_encoder=self.jpeg_encoder
        )
        clock.lap("encode_ms")
        return encoded


class Clock:
    """Writes the milliseconds since its last lap into a row."""

    def __init__(self, row: Row) -> None:
        self._row = row
        self._last = time.perf_counter()

    def lap(self, column: str) -> None:
        """Note how long the stage of this column took."""
        now = time.perf_counter()
        self._row[column] = (now - self._last) * 1000
        self._last = now


def luma_columns(measured: LumaStatistics, side: str) -> Row:
    """Return the columns of one image's luma, `in` or `out`."""
    return {
        f"luma_mean_{side}": measured.mean,
        f"luma_p5_{side}": measured.p5,
        f"luma_p50_{side}": measured.p50,
        f"luma_p95_{side}": measured.p95,
        f"contrast_{side}": measured.contrast,
        f"entropy_{side}": measured.entropy,
        f"luma_clipped_{side}": measured.clipped,
    }


def factor_columns(factor: FactorStatistics | None) -> Row:
    """Return the columns of the factor map; none for a method that has no such map."""
    return {f"factor_{name}": value for name, value in factor._asdict().items()} if factor else {}


def finished_result(name: str, row: Row, status: str, data: bytes) -> ImageResult:
    """Return the result of an image whose output is ready to be written."""
    return ImageResult(data, name, row | {"status": status} | written_columns(data))


def written_columns(data: bytes) -> Row:
    """Return the columns that tell what is written."""
    return {"bytes_out": len(data), "sha256_out": hashlib.sha256(data).hexdigest()}


def completed(item: Entry, row: Row) -> Row:
    """Return a row with what every row of a file says."""
    return row | {"path": item.path, "node": platform.node(), "finished": datetime.now(UTC).replace(tzinfo=None)}


def failed_result(path: str, row: Row, failure: Failure) -> ImageResult:
    """Return the result of an image that has no output."""
    return ImageResult(None, path, row | failure.columns())
