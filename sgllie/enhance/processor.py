"""What happens to one image: bytes in, bytes and a row of statistics out. Its errors become part of the row."""

import hashlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgllie import images
from sgllie.enhance.memory import budgets, bytes_needed
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import Failure, failure_of
from sgllie.images import OpenedImage, luma
from sgllie.images.luma import LumaStatistics
from sgllie.methods import make_method
from sgllie.runs.schemas import Row

Admission = Callable[[int], AbstractContextManager[None]]


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
        self.admitted = admitted or budgets(settings)[1].held

    def __call__(self, path: str, data: bytes) -> ImageResult:
        """Process one image, given its path below IN and its bytes."""
        settings = self.settings
        row: Row = {"bytes_in": len(data), "sha256_in": hashlib.sha256(data).hexdigest()}
        try:
            with self.admitted(0):  # a header may take long, too, and whoever admits watches the time
                image = images.open_image(
                    data, max_pixels=settings.max_pixels, exif_orientation=settings.exif_orientation
                )
            with self.admitted(bytes_needed(image, settings)):
                encoded = self._enhanced(image, row)
        except Exception as error:
            return failed_result(path, row, failure_of(error))
        if encoded is None:
            return finished_result(path, row, "copied", data)
        return finished_result(images.output_name(path, settings.format), row, "ok", encoded)

    def _enhanced(self, opened: OpenedImage, row: Row) -> bytes | None:
        """Return the output of an image, None where it is bright enough as it is; what is found out goes into `row`."""
        settings, clock = self.settings, Clock(row)
        image = opened.decode()
        height, width = image.pixels.shape[:2]
        row |= {"format": image.format, "mode": image.mode, "bit_depth": image.bit_depth}
        row |= {"width": width, "height": height}
        clock.lap("decode_ms")
        before = luma.measure(image.pixels)
        row |= luma_columns(before, "in")
        if settings.only_darker_than is not None and before.mean >= settings.only_darker_than:
            row |= luma_columns(before, "out")
            return None
        factor = self.method.factor_map(image.pixels)
        enhanced = self.method.apply(image.pixels, factor)
        row |= factor_columns(factor) | luma_columns(luma.measure(enhanced), "out")
        clock.lap("enhance_ms")
        encoded = images.encode(image, enhanced, format=settings.format, quality=settings.quality)
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


def factor_columns(factor: NDArray[Any]) -> Row:
    """Return the columns of the factor map; none for a method that has no such map."""
    if not factor.size:
        return {}
    return {
        "factor_mean": float(factor.mean()),
        "factor_min": float(np.min(factor)),
        "factor_max": float(np.max(factor)),
    }


def finished_result(name: str, row: Row, status: str, data: bytes) -> ImageResult:
    """Return the result of an image whose output is ready to be written."""
    row |= {"status": status, "bytes_out": len(data), "sha256_out": hashlib.sha256(data).hexdigest()}
    return ImageResult(data, name, row)


def failed_result(path: str, row: Row, failure: Failure) -> ImageResult:
    """Return the result of an image that has no output."""
    return ImageResult(None, path, row | {"status": "failed"} | failure._asdict())
