"""Boxes in YOLO text: one file for each image, all numbers as shares of its width and height."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from sgllie.metrics.boxes import BoxesOfImages, BoxRow, gather, stem

SLACK = 0.01
"""How far beyond the image a coordinate may lie, for the sake of programs that round."""
BOX = 4
"""Numbers of a box: centre_x, centre_y, width, height."""
TRIANGLE = 6
"""Numbers of the smallest outline: x and y of three points."""
LEAST_POSE = BOX + 3 * 3
"""Numbers of a box and three key points; with fewer, an outline at the border of an image may look the same."""
VISIBILITIES = (0, 1, 2)
"""What may stand behind x and y of a key point."""


def read_yolo(
    texts: Mapping[str, str], sizes: Mapping[str, tuple[int, int]], class_names: Sequence[str]
) -> BoxesOfImages:
    """Read YOLO text, a line for each object: `class centre_x centre_y width height [score]`.

    Lines of segmentation and of rotated boxes, `class x1 y1 x2 y2 x3 y3 ... [score]` with three points or more, are
    read as the upright box around their outline, as YOLO's own training does for detection. Lines of poses, a box and
    three key points or more with x, y and visibility, are refused, since they would pass for outlines.

    Args:
        texts: image or text file name -> content of its text file.
        sizes: image name -> (width, height) in pixels, upright.
        class_names: in the order of their numbers.

    Raises:
        ValueError: a line that is neither (named by file and number), a class without a name, an image without a
            size or with two, or two files for one.
    """
    known: dict[str, tuple[int, int]] = {}
    for name, size in sizes.items():
        if known.setdefault(stem(name), size) != size:
            raise ValueError(f"two images may be that of {stem(name)}.txt, and differ in size (one is {name})")
    found: BoxesOfImages = {}
    for name, text in texts.items():
        if stem(name) not in known:
            raise ValueError(f"the size of the image of {name} is needed to read its YOLO boxes, and is not known")
        if stem(name) in found:
            raise ValueError(f"two files hold the boxes of the image {stem(name)} (one is {name})")
        found[stem(name)] = gather(yolo_rows(name, text, known[stem(name)], class_names))
    return found


def looks_like_yolo(text: str) -> bool:
    """Tell whether any line of a text may be one of YOLO's: five numbers or more."""
    return any(len(fields) > BOX and all(map(is_float, fields)) for fields in map(str.split, text.splitlines()))


def is_float(field: str) -> bool:
    """Tell whether a field of a line is a number."""
    try:
        float(field)
    except ValueError:
        return False
    return True


def yolo_rows(name: str, text: str, size: tuple[int, int], class_names: Sequence[str]) -> Iterator[BoxRow]:
    """Yield the boxes of one file; ValueError that names the file and the line of one that is none."""
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield yolo_row(line.split(), size, class_names)
        except ValueError as error:
            raise ValueError(f"{name}, line {number}: not a YOLO box: {error}: {line.strip()!r:.120}") from error


def yolo_row(fields: list[str], size: tuple[int, int], class_names: Sequence[str]) -> BoxRow:
    """Return the box of one line; ValueError with what is wrong with it."""
    for field in fields:
        if not is_float(field):
            raise ValueError(f"{field!r:.40} is no number")
    kind, *values = map(float, fields)
    if kind not in range(len(class_names)):
        raise ValueError(f"its class {fields[0]} is none of the {len(class_names)} that have a name (0 is the first)")
    has_score = len(values) % 2 == 1
    shape = values[:-1] if has_score else values
    if len(shape) != BOX and len(shape) < TRIANGLE:
        raise ValueError("a class must be followed by 4 numbers of a box, or by 6 or more of an outline, and a score")
    if is_pose(values):
        raise ValueError("key points (x, y, visibility) follow the box; keep its first five numbers alone")
    for field, value in zip(fields[1:], values, strict=True):
        if not -SLACK <= value <= 1 + SLACK:
            raise ValueError(f"{field} does not lie between 0 and 1")
    corners = box_corners(shape) if len(shape) == BOX else outline_corners(shape)
    return (corners * np.tile(size, 2)).tolist(), class_names[int(kind)], values[-1] if has_score else 1.0, False


def is_pose(values: list[float]) -> bool:
    """Tell whether numbers are a box and key points: whole visibilities, and places at or near the box, or unset."""
    if len(values) < LEAST_POSE or (len(values) - BOX) % 3:
        return False
    points = np.array(values[BOX:]).reshape(-1, 3)
    set_points = points[(points[:, :2] != 0).any(axis=1), :2]
    left_top, right_bottom = np.array(values[:2]) - values[2:BOX], np.array(values[:2]) + values[2:BOX]
    within = (set_points >= left_top - SLACK) & (set_points <= right_bottom + SLACK)
    return bool(np.isin(points[:, 2], VISIBILITIES).all() and within.all())


def box_corners(shape: list[float]) -> np.ndarray:
    """Return left, top, right and bottom of a box, as shares; ValueError where its size is negative."""
    x, y, width, height = shape
    if width < 0 or height < 0:
        raise ValueError("its width or height is negative")
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def outline_corners(shape: list[float]) -> np.ndarray:
    """Return left, top, right and bottom of the box around an outline, as shares."""
    points = np.array(shape).reshape(-1, 2)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])
