"""Boxes around objects, labelled or predicted, read from COCO JSON, YOLO text and BDD100K JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Boxes(NamedTuple):
    """The boxes of one image: N of each.

    `corners` is N x 4 float64, left, top, right, bottom in pixels; `scores` is 1 for labels; a `crowd` stands for many
    objects, and detections inside it count neither way.
    """

    corners: NDArray[np.float64]
    classes: list[str]
    scores: NDArray[np.float64]
    crowd: NDArray[np.bool_]


# Image name without its suffix, as the formats disagree on whether to have one -> its boxes.
BoxesOfImages = dict[str, Boxes]


def stem(name: str) -> str:
    """'a/b.jpg' -> 'a/b'."""
    return str(PurePosixPath(name).with_suffix(""))


def gather(rows: Iterable[tuple[Sequence[float], str, float, bool]]) -> Boxes:
    """Rows of (corners, class, score, crowd) -> Boxes."""
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
    """JSON -> what it holds, or one sentence."""
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"this is not {kind} JSON: {error}") from error


def read_coco(text: str | bytes, labels: str | bytes | None = None) -> BoxesOfImages:
    """COCO JSON: a label file, or a list of results, whose image and class names are then taken from `labels`.

    A box is [left, top, width, height] in pixels. Images of the label file without boxes are kept, as empty.

    Raises:
        ValueError: not such a file, or results that refer to an image or class that the labels lack.
    """
    content = parse(text, "COCO")
    is_results = isinstance(content, list)
    if is_results and labels is None:
        raise ValueError("COCO results hold numbers for images and classes; give the label file as well")
    index = parse(labels, "COCO") if is_results and labels is not None else content
    if not isinstance(index, dict):
        raise ValueError("COCO results hold numbers for images and classes, which only a COCO label file explains")
    try:
        images = {image["id"]: stem(image["file_name"]) for image in index["images"]}
        names = {category["id"]: category["name"] for category in index["categories"]}
        rows: dict[str, list] = {name: [] for name in images.values()}
        for box in content if is_results else content.get("annotations", []):
            left, top, width, height = box["bbox"]
            row = ([left, top, left + width, top + height], names[box["category_id"]], box.get("score", 1.0))
            rows[images[box["image_id"]]].append((*row, bool(box.get("iscrowd", 0))))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this COCO JSON lacks or does not know {error}") from error
    return {name: gather(found) for name, found in rows.items()}


def read_yolo(
    texts: Mapping[str, str], sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]
) -> BoxesOfImages:
    """YOLO text, one file for each image: `class centre_x centre_y width height [score]`, as shares of the image.

    Args:
        texts: image or text file name -> content of its text file.
        sizes: image name -> (width, height) in pixels.
        class_names: in the order of their numbers.

    Raises:
        ValueError: a line that is not like that, a class without a name, or an image without a size.
    """
    known = {stem(name): size for name, size in sizes.items()}
    return {stem(name): gather(_yolo_rows(name, text, known, class_names)) for name, text in texts.items()}


def _yolo_rows(name: str, text: str, sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]) -> list:
    if stem(name) not in sizes:
        raise ValueError(f"the size of the image of {name} is needed to read its YOLO boxes, and is not known")
    width, height = sizes[stem(name)]
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            kind, x, y, w, h, *score = (float(field) for field in line.split())
            class_name = class_names[int(kind)]
        except (ValueError, IndexError) as error:
            raise ValueError(f"{name}, line {number}: not a YOLO box of a known class: {line.strip()!r}") from error
        corners = [(x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height]
        rows.append((corners, class_name, score[0] if score else 1.0, False))
    return rows


def read_bdd100k(text: str | bytes) -> BoxesOfImages:
    """BDD100K (Scalabel) JSON: a list of frames, or {"frames": [...]}; labels without a `box2d` are passed over.

    The last pixel belongs to a box, so its right and bottom edges lie one pixel further, as in Scalabel's evaluation.

    Raises:
        ValueError: not such a file.
    """
    content = parse(text, "BDD100K")
    try:
        frames = content["frames"] if isinstance(content, dict) else content
        return {stem(frame["name"]): gather(_bdd100k_rows(frame)) for frame in frames}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"this BDD100K JSON lacks or does not know {error}") from error


def _bdd100k_rows(frame: dict) -> Iterable[tuple[list[float], str, float, bool]]:
    for label in frame.get("labels") or []:
        if box := label.get("box2d"):
            corners = [box["x1"], box["y1"], box["x2"] + 1, box["y2"] + 1]
            crowd = bool((label.get("attributes") or {}).get("crowd", False))
            score = label.get("score")
            yield corners, label["category"], 1.0 if score is None else float(score), crowd
