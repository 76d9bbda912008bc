"""What is measured on the files of one picture, from bytes to columns. Errors become part of the row."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from sgllie.errors import Failure, failure_of
from sgllie.evaluate.image_measure import ImageMeasure
from sgllie.evaluate.map_measures import DarkCityscapeMeasure, SegmentationMeasure, label_scheme
from sgllie.evaluate.matching import SIDES
from sgllie.evaluate.problems import Problems
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.runs.schemas import Row

Files = Mapping[str, bytes]


class Measure(Protocol):
    """Turns the bytes of each side that is there into the columns `fields`. Thread-safe."""

    fields: list[tuple[str, pa.DataType]]
    pixel_bytes: int
    """Of memory for each pixel at its peak, beside the decoded files."""

    def __call__(self, files: Files, problems: Problems) -> Row:
        """Measure one picture; what cannot be measured is missing from the row, and is told to `problems`."""


def make_measure(settings: EvaluateSettings, sides: set[str]) -> Measure:
    """Make the measure that the settings ask for.

    Args:
        settings: of the evaluation.
        sides: those that there are files of.

    Raises:
        UsageError: a metric lacks the images that it needs, or the classes cannot be read.
    """
    if settings.task == "segmentation":
        return SegmentationMeasure(label_scheme(settings), settings.ignore_label, settings.max_pixels)
    if settings.task == "darkcityscape":
        return DarkCityscapeMeasure(settings.max_pixels)
    return ImageMeasure(settings.chosen_metrics("before" in sides), settings.max_pixels)


class Measurer:
    """Measures pictures as the settings ask. Thread-safe.

    Args:
        settings: of the evaluation.
        sides: those that there are files of.
    """

    def __init__(self, settings: EvaluateSettings, sides: set[str]) -> None:
        self.measure = make_measure(settings, sides)

    def __call__(self, files: Files, missing: Sequence[Failure]) -> Row:
        """Return the columns of one picture, whatever happens.

        Args:
            files: the bytes of each side that could be read.
            missing: why the others could not.
        """
        problems = Problems(missing)
        row: Row = {}
        try:
            row = self.measure({side: files[side] for side in SIDES if side in files}, problems)
        except Exception as error:
            problems.add(*failure_of(error))
        return row | problems.columns()
