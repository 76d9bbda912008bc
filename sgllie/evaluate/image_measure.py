"""Metrics of one image, after enhancement and before."""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgllie import images
from sgllie.errors import ImageError, UndefinedError
from sgllie.evaluate.problems import UNDEFINED, Problems
from sgllie.images import Pixels
from sgllie.metrics import METRICS, Metric
from sgllie.runs.schemas import Row, both_sides

KINDS = {"after": "the enhanced image", "before": "the image before", "truth": "the reference"}


class ImageMeasure:
    """Metrics of an image after enhancement, and of the same before.

    All sides are turned upright as their EXIF says, transparency is left out. Where a file is grey and the other is
    not, or has another bit depth, both are compared as RGB of 8 bits.

    Args:
        metrics: their names.
        max_pixels: larger images are not decoded.
    """

    def __init__(self, metrics: list[str], max_pixels: int) -> None:
        self.metrics = [METRICS[name] for name in metrics]
        self.max_pixels = max_pixels
        self.pixel_bytes = max(metric.pixel_bytes for metric in self.metrics)
        self.fields = [*both_sides(metrics, pa.float64()), (UNDEFINED, pa.string())]

    def __call__(self, files: Mapping[str, bytes], problems: Problems) -> Row:
        """Measure the sides that are there."""
        pictures: dict[str, Pixels] = {}
        for side, data in files.items():
            try:
                decoded = images.decode(data, max_pixels=self.max_pixels, exif_orientation="apply")
                pictures[side] = decoded.pixels
            except ImageError as error:
                problems.add(error.error_type, f"{KINDS[side]}: {error}")
        others = {"truth": pictures.get("truth"), "input": pictures.get("before")}
        row: Row = {}
        for metric in self.metrics:
            for side, column in (("after", metric.name), ("before", f"{metric.name}_before")):
                image = pictures.get(side)
                if image is not None:
                    row[column] = value(metric, image, others, problems, KINDS[side])
        return row


def value(
    metric: Metric, image: Pixels, others: Mapping[str, Pixels | None], problems: Problems, kind: str
) -> float | None:
    """Return one metric of an image, or None and tell `problems` why.

    Args:
        metric: to compute.
        image: H x W x 3 or H x W, uint8 or uint16.
        others: what it may be compared with (`truth`, `input`); where that is not there, there is no value.
        problems: told where the metric is not defined for the image, or the two do not fit together.
        kind: what the image is called there.
    """
    try:
        if not metric.needs_reference:
            return metric.function(image)
        other = others[metric.reference]
        return None if other is None else metric.function(*alike(image, other))
    except UndefinedError as error:
        problems.add_undefined(f"{kind}: {error}")
    except ValueError as error:
        problems.add("not_measurable", f"{kind}: {error}")
    return None


def alike(image: Pixels, other: Pixels) -> tuple[Pixels, Pixels]:
    """Return two images in one depth and number of channels: as they are, or both as uint8 H x W x 3."""
    if image.ndim == other.ndim and image.dtype == other.dtype:
        return image, other
    return eight_bit_rgb(image), eight_bit_rgb(other)


def eight_bit_rgb(image: Pixels) -> NDArray[np.uint8]:
    """Return uint8 or uint16 pixels, grey or RGB, as uint8 H x W x 3."""
    scaled = images.eight_bits(image)
    return np.repeat(scaled[..., None], 3, axis=2) if scaled.ndim == 2 else scaled
