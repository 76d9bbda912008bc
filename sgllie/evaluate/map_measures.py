"""Measures of predicted maps against label maps: a confusion matrix, or the score of DarkCityScape."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgllie import images
from sgllie.errors import ImageError, StorageError, UsageError
from sgllie.evaluate.image_measure import eight_bit_rgb
from sgllie.evaluate.memory import MAP_BYTES
from sgllie.evaluate.problems import Problems
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.metrics.labels import HIGHEST_ID, SCHEMES, Colour, LabelMap, LabelScheme, decode_labels
from sgllie.metrics.segmentation import IGNORE, confusion, dark_cityscape_score, segmentation_scores
from sgllie.runs.schemas import Row, both_sides
from sgllie.storage import read_file

UNKNOWN_COLUMNS = {"after": "unknown", "before": "unknown_before", "truth": "unknown_label"}
"""The share of the pixels of each side whose colour or id the scheme does not list."""
MOST_UNKNOWN = 0.05
"""Of the pixels of a map: with more, it is compressed with loss, smoothed, or of other classes."""


class SegmentationMeasure:
    """A confusion matrix for each picture, and its scores; the scores of the set are those of the sum.

    Args:
        scheme: what the values of the maps mean.
        ignore: class number in the labels that does not count.
        max_pixels: larger maps are not decoded.
    """

    def __init__(self, scheme: LabelScheme, ignore: int, max_pixels: int) -> None:
        self.scheme = scheme if scheme.ids else replace(scheme, void_ids=scheme.void_ids | {ignore})
        self.ignore = ignore
        self.max_pixels = max_pixels
        self.pixel_bytes = MAP_BYTES
        scores = both_sides(["miou", "pixel_accuracy"], pa.float64())
        unknown = [(column, pa.float64()) for column in UNKNOWN_COLUMNS.values()]
        self.fields = [*scores, *unknown, *both_sides(["confusion"], pa.list_(pa.int64()))]

    def __call__(self, files: Mapping[str, bytes], problems: Problems) -> Row:
        """Measure one or two predictions against their label."""
        row: Row = {}
        maps = {side: found for side, data in files.items() if (found := self._decoded(side, data, row, problems))}
        if "truth" not in maps:
            return row
        truth = maps["truth"].classes
        label = np.where(truth == self.ignore, IGNORE, truth)
        for side, suffix in (("after", ""), ("before", "_before")):
            if side not in maps:
                continue
            try:
                counts = confusion(maps[side].classes, label, len(self.scheme.names))
            except ValueError as error:
                problems.add("not_measurable", f"the {side_of_maps(side)}: {error}")
                continue
            scores = segmentation_scores(counts)
            row |= {f"miou{suffix}": scores.miou, f"pixel_accuracy{suffix}": scores.pixel_accuracy}
            row[f"confusion{suffix}"] = counts.ravel().tolist()
        return row

    def _decoded(self, side: str, data: bytes, row: Row, problems: Problems) -> LabelMap | None:
        """Return one map, or None and a problem; note in the row how much of it is unknown."""
        try:
            found = decode_labels(data, self.scheme, self.max_pixels)
        except ImageError as error:
            problems.add(error.error_type, f"the {side_of_maps(side)}: {error}")
            return None
        except ValueError as error:
            problems.add("not_a_label_map", f"the {side_of_maps(side)}: {error}")
            return None
        row[UNKNOWN_COLUMNS[side]] = found.unknown
        if found.unknown <= MOST_UNKNOWN:
            return found
        problems.add(
            "not_a_label_map",
            f"the {side_of_maps(side)}: {found.unknown:.1%} of its pixels have a colour or an id that --classes does "
            f"not list, such as {found.example}; a map must be stored without loss and never be smoothed, and values "
            "that do not count are listed too",
        )
        return None


class DarkCityscapeMeasure:
    """The binary threshold score of the DarkCityScape tables for each picture; see `dark_cityscape_score`."""

    def __init__(self, max_pixels: int) -> None:
        self.max_pixels = max_pixels
        self.pixel_bytes = MAP_BYTES
        self.fields = both_sides(["dark_miou", "dark_mpa"], pa.float64())

    def __call__(self, files: Mapping[str, bytes], problems: Problems) -> Row:
        """Measure one or two predictions against their label."""
        maps: dict[str, NDArray[np.uint8]] = {}
        for side, data in files.items():
            try:
                maps[side] = eight_bit_rgb(
                    images.decode(data, max_pixels=self.max_pixels, exif_orientation="apply").pixels
                )
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
    """Return what a side is called where maps are compared."""
    return {"after": "prediction", "before": "prediction before", "truth": "label"}[side]


def label_scheme(settings: EvaluateSettings) -> LabelScheme:
    """Return the built-in scheme of this name, or that of a JSON file.

    Raises:
        UsageError: there is no such file, or it is not a list of classes.
    """
    if settings.classes in SCHEMES:
        return SCHEMES[settings.classes]
    try:
        return scheme_of(json.loads(read_file(settings.classes, settings.s3)))
    except (OSError, StorageError) as error:
        known = ", ".join(SCHEMES)
        raise UsageError(f"--classes {settings.classes} cannot be read: {error}; give a file, or {known}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        example = '{"name": "road", "ids": [7], "colours": [[128, 64, 128]]}'
        raise UsageError(f"--classes {settings.classes} is no JSON list of {example}: {error!r}") from error


def scheme_of(classes: list[dict[str, Any]]) -> LabelScheme:
    """Return the scheme that a JSON list of classes describes; the values of one without a name are void.

    Raises:
        ValueError: an id or a colour is out of range, or listed twice. (What is no such list raises other errors.)
    """
    named = [one for one in classes if one["name"] is not None]
    void = [one for one in classes if one["name"] is None]
    ids = [(int(value), number) for number, one in enumerate(named) for value in one.get("ids", ())]
    colours = [(colour_of(value), number) for number, one in enumerate(named) for value in one.get("colours", ())]
    void_ids = [int(value) for one in void for value in one.get("ids", ())]
    void_colours = [colour_of(value) for one in void for value in one.get("colours", ())]
    all_ids = [value for value, _ in ids] + void_ids
    listed = Counter([*all_ids, *(value for value, _ in colours), *void_colours])
    if listed and listed.most_common(1)[0][1] > 1:
        raise ValueError(f"{listed.most_common(1)[0][0]} is listed twice")
    if all_ids and not 0 <= min(all_ids) <= max(all_ids) <= HIGHEST_ID:
        raise ValueError(f"ids must lie between 0 and {HIGHEST_ID}")
    names = tuple(str(one["name"]) for one in named)
    return LabelScheme(names, dict(ids), dict(colours), frozenset(void_ids), frozenset(void_colours))


def colour_of(value: list[int]) -> Colour:
    """Return a colour as JSON lists it; ValueError where it is no RGB of 8 bits."""
    red, green, blue = map(int, value)
    if not all(0 <= channel <= 255 for channel in (red, green, blue)):
        raise ValueError(f"{value} is no colour")
    return red, green, blue
