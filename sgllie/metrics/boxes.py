"""Boxes around objects, labelled or predicted; `coco`, `yolo` and `bdd100k` read them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

MOST = 1e9
"""Pixels from the origin beyond which no box lies."""


class Boxes(NamedTuple):
    """The boxes of one image: N of each.

    `corners` is N x 4 float64, left, top, right, bottom in pixels of the upright image; `scores` is 1 for labels; a
    `crowd` stands for many objects, and detections inside it count neither way.
    """

    corners: NDArray[np.float64]
    classes: list[str]
    scores: NDArray[np.float64]
    crowd: NDArray[np.bool_]


# Image name without its suffix, as the formats disagree on whether to have one -> its boxes.
BoxesOfImages = dict[str, Boxes]

BoxRow = tuple[Sequence[float], str, float, bool]
"""One box: corners, class, score, and whether it stands for a crowd."""


def stem(name: str) -> str:
    """Return a name without its suffix: 'a/b.jpg' -> 'a/b'."""
    return str(PurePosixPath(name).with_suffix(""))


def gather(rows: Iterable[BoxRow]) -> Boxes:
    """Return the boxes of one image as arrays."""
    corners, classes, scores, crowd = [], [], [], []
    for row_corners, name, score, is_crowd in rows:
        corners.append(row_corners)
        classes.append(name)
        scores.append(score)
        crowd.append(is_crowd)
    return Boxes(
        np.array(corners, np.float64).reshape(-1, 4), classes, np.array(scores, np.float64), np.array(crowd, bool)
    )


def parse(text: str | bytes, kind: str) -> Any:
    """Return what a JSON text holds; ValueError with one sentence where it is none."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"this is not {kind} JSON: {error}") from error


def is_number(value: object) -> bool:
    """Tell whether a JSON value is a number that a box can have: no text, no NaN, not infinite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= MOST


def score_of(entry: dict[str, Any]) -> float:
    """Return the score of a label or prediction, 1 where it has none; ValueError where that is no number."""
    score = entry.get("score")
    if score is not None and not is_number(score):
        raise ValueError(f"its score must be a number, not {score!r}")
    return 1.0 if score is None else float(score)
