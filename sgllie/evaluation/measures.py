"""What is measured on the files of one picture, from bytes to columns. Errors become part of the row."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from sgllie.corpus import Row
from sgllie.evaluation.corpus import SIDES
from sgllie.evaluation.image_measure import ImageMeasure
from sgllie.evaluation.map_measures import DarkCityscapeMeasure, SegmentationMeasure, label_scheme
from sgllie.evaluation.problems import Problem, Problems
from sgllie.evaluation.settings import EvaluateSettings

Files = Mapping[str, bytes]


class Measure(Protocol):
    """Takes the bytes of each side that is there, and gives the columns `fields`. Thread-safe."""

    fields: list[tuple[str, pa.DataType]]

    def __call__(self, files: Files, problems: Problems) -> Row:
        """Measure one picture; what cannot be measured is missing from the row, and is told to `problems`."""


def make_measure(settings: EvaluateSettings, sides: set[str]) -> Measure:
    """What the settings ask for.

    Args:
        settings: of the evaluation.
        sides: those that there are files of.

    Raises:
        UsageError: a metric lacks the images that it needs, or the classes cannot be read.
    """
    if settings.task == "segmentation":
        return SegmentationMeasure(label_scheme(settings), settings.ignore_label)
    if settings.task == "darkcityscape":
        return DarkCityscapeMeasure(settings.max_pixels)
    return ImageMeasure(settings.chosen_metrics("before" in sides), settings.max_pixels)


def measured(measure: Measure, files: Files, missing: Sequence[Problem]) -> Row:
    """The columns of one picture, whatever happens.

    Args:
        measure: of its files.
        files: the bytes of each side that could be read.
        missing: why the others could not.
    """
    problems = Problems(missing)
    row: Row = {}
    try:
        row = measure({side: files[side] for side in SIDES if side in files}, problems)
    except MemoryError:
        problems.add("memory", "the image does not fit in the memory of its worker; see --max-pixels")
    except Exception as error:
        problems.add("internal", f"{type(error).__name__}: {error}")
    return row | problems.columns()
