"""What happens to one image: bytes in, bytes and a row of statistics out. Its errors become part of the row."""

import hashlib
import time
from dataclasses import dataclass

import numpy as np

from sgllie import images, luminance
from sgllie.corpus import Row
from sgllie.enhancer import Factor
from sgllie.images import ImageError
from sgllie.luminance import Luminance
from sgllie.methods import Method
from sgllie.settings import EnhanceSettings


@dataclass(frozen=True)
class Treated:
    """The result for one image.

    Attributes:
        data: the bytes to write, or None where the image failed.
        name: the path of the output below images/.
        row: the columns that are known by now.
    """

    data: bytes | None
    name: str
    row: Row


class Treatment:
    """Decodes, enhances, encodes and measures images as the settings say. Thread-safe."""

    def __init__(self, settings: EnhanceSettings, method: Method) -> None:
        self.settings = settings
        self.method = method

    def __call__(self, path: str, data: bytes) -> Treated:
        """Treat one image, given its path below IN and its bytes."""
        row: Row = {"bytes_in": len(data), "sha256_in": hashlib.sha256(data).hexdigest()}
        try:
            return self._treat(path, data, row)
        except ImageError as error:
            return failed(path, row, error.error_type, str(error))
        except MemoryError:
            return failed(path, row, "memory", "the image does not fit in the memory of its worker; see --max-pixels")
        except Exception as error:
            return failed(path, row, "internal", f"{type(error).__name__}: {error}")

    def _treat(self, path: str, data: bytes, row: Row) -> Treated:
        settings = self.settings
        clock = Clock(row)
        image = images.decode(data, max_pixels=settings.max_pixels, exif_orientation=settings.exif_orientation)
        height, width = image.pixels.shape[:2]
        row |= {"format": image.format, "mode": image.mode, "bit_depth": image.bit_depth}
        row |= {"width": width, "height": height}
        clock.lap("decode_ms")
        before = luminance.measure(image.pixels)
        row |= brightness(before, "in")
        if settings.only_darker_than is not None and before.mean >= settings.only_darker_than:
            row |= brightness(before, "out")
            return finished(path, row, "copied", data)
        factor = self.method.factor_map(image.pixels)
        enhanced = self.method.apply(image.pixels, factor)
        row |= factor_range(factor) | brightness(luminance.measure(enhanced), "out")
        clock.lap("enhance_ms")
        encoded = images.encode(image, enhanced, format=settings.format, quality=settings.quality)
        clock.lap("encode_ms")
        return finished(images.output_name(path, settings.format), row, "ok", encoded)


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


def brightness(measured: Luminance, side: str) -> Row:
    """The columns of one image's brightness, `in` or `out`."""
    return {
        f"luminance_mean_{side}": measured.mean,
        f"luminance_p5_{side}": measured.p5,
        f"luminance_p50_{side}": measured.p50,
        f"luminance_p95_{side}": measured.p95,
        f"contrast_{side}": measured.contrast,
        f"entropy_{side}": measured.entropy,
        f"clipped_{side}": measured.clipped,
    }


def factor_range(factor: Factor) -> Row:
    """The columns of the factor map; none for a method that has no such map."""
    if not factor.size:
        return {}
    return {
        "factor_mean": float(factor.mean()),
        "factor_min": float(np.min(factor)),
        "factor_max": float(np.max(factor)),
    }


def finished(name: str, row: Row, status: str, data: bytes) -> Treated:
    """An image whose output is ready to be written."""
    row |= {"status": status, "bytes_out": len(data), "sha256_out": hashlib.sha256(data).hexdigest()}
    return Treated(data, name, row)


def failed(path: str, row: Row, error_type: str, error: str) -> Treated:
    """An image that has no output."""
    return Treated(None, path, row | {"status": "failed", "error_type": error_type, "error": error})
