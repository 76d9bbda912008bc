"""Measures of predicted maps against label maps: a confusion matrix, or the score of DarkCityScape."""

import json
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgllie import images
from sgllie.errors import ImageError, UsageError
from sgllie.evaluate.image_measure import eight_bit_rgb
from sgllie.evaluate.problems import Problems
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.metrics.labels import SCHEMES, LabelScheme, decode_labels
from sgllie.metrics.segmentation import IGNORE, confusion, dark_cityscape_score, segmentation_scores
from sgllie.runs.schemas import Row, both_sides
from sgllie.storage import open_storage, split_uri


class SegmentationMeasure:
    """A confusion matrix for each picture, and its scores; the scores of the set are those of the sum.

    Args:
        scheme: what the values of the maps mean.
        ignore: class number in the labels that does not count.
    """

    def __init__(self, scheme: LabelScheme, ignore: int) -> None:
        self.scheme = scheme
        self.ignore = ignore
        self.fields = both_sides(["miou", "pixel_accuracy"], pa.float64()) + both_sides(
            ["confusion"], pa.list_(pa.int64())
        )

    def __call__(self, files: Mapping[str, bytes], problems: Problems) -> Row:
        """Measure one or two predictions against their label."""
        maps: dict[str, NDArray[np.int64]] = {}
        for side, data in files.items():
            try:
                maps[side] = decode_labels(data, self.scheme)
            except ValueError as error:
                problems.add("not_a_label_map", f"the {side_of_maps(side)}: {error}")
        row: Row = {}
        if "truth" not in maps:
            return row
        label = np.where(maps["truth"] == self.ignore, IGNORE, maps["truth"])
        for side, suffix in (("after", ""), ("before", "_before")):
            if side not in maps:
                continue
            try:
                counts = confusion(maps[side], label, len(self.scheme.names))
            except ValueError as error:
                problems.add("not_measurable", f"the {side_of_maps(side)}: {error}")
                continue
            scores = segmentation_scores(counts)
            row |= {f"miou{suffix}": scores.miou, f"pixel_accuracy{suffix}": scores.pixel_accuracy}
            row[f"confusion{suffix}"] = counts.ravel().tolist()
        return row


class DarkCityscapeMeasure:
    """The binary threshold score of the DarkCityScape tables for each picture; see `dark_cityscape_score`."""

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.fields = both_sides(["dark_miou", "dark_mpa"], pa.float64())

    def __call__(self, files: Mapping[str, bytes], problems: Problems) -> Row:
        """Measure one or two predictions against their label."""
        maps: dict[str, NDArray[np.uint8]] = {}
        for side, data in files.items():
            try:
                maps[side] = eight_bit_rgb(images.decode(data, max_pixels=self.max_pixels).pixels)
            except ImageError as error:
                problems.add(error.error_type, f"the {side_of_maps(side)}: {error}")
        row: Row = {}
        for side, suffix in (("after", ""), ("before", "_before")):
            if side not in maps or "truth" not in maps:
                continue
            try:
                miou, mpa = dark_cityscape_score(maps[side], maps["truth"])
                row |= {f"dark_miou{suffix}": miou, f"dark_mpa{suffix}": mpa}
            except ValueError as error:
                problems.add("not_measurable", f"the {side_of_maps(side)}: {error}")
        return row


def side_of_maps(side: str) -> str:
    """What a side is called where maps are compared."""
    return {"after": "prediction", "before": "prediction before", "truth": "label"}[side]


def label_scheme(settings: EvaluateSettings) -> LabelScheme:
    """The built-in scheme of this name, or that of a JSON file.

    Raises:
        UsageError: there is no such file, or it is not a list of classes.
    """
    if settings.classes in SCHEMES:
        return SCHEMES[settings.classes]
    folder, name = split_uri(settings.classes)
    try:
        classes = json.loads(open_storage(folder, settings.s3).read(name))
        return LabelScheme(
            names=tuple(str(one["name"]) for one in classes),
            ids={int(value): number for number, one in enumerate(classes) for value in one.get("ids", ())},
            colours={
                (int(red), int(green), int(blue)): number
                for number, one in enumerate(classes)
                for red, green, blue in one.get("colours", ())
            },
        )
    except OSError as error:
        known = ", ".join(SCHEMES)
        raise UsageError(f"--classes {settings.classes} cannot be read: {error}; it is a file, or {known}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        example = '{"name": "road", "ids": [7], "colours": [[128, 64, 128]]}'
        raise UsageError(f"--classes {settings.classes} is no JSON list of {example}: {error!r}") from error
