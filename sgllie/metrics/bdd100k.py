"""Boxes in BDD100K (Scalabel) JSON."""

from collections.abc import Iterator
from typing import Any

from sgllie.metrics.boxes import BoxesOfImages, BoxRow, gather, is_number, parse, score_of, stem

EDGES = ("x1", "y1", "x2", "y2")


def read_bdd100k(text: str | bytes) -> BoxesOfImages:
    """Read a list of frames, or {"frames": [...]}; labels without a `box2d` (lanes, areas) are passed over.

    The last pixel belongs to a box, so its right and bottom edges lie one pixel further, as in Scalabel's evaluation.

    Raises:
        ValueError: not such a file, or a box that is none (named by its frame and its place there).
    """
    content = parse(text, "BDD100K")
    frames = content.get("frames") if isinstance(content, dict) else content
    if not isinstance(frames, list):
        raise ValueError("this BDD100K JSON lacks or does not know 'frames'")
    found: BoxesOfImages = {}
    for place, frame in enumerate(frames, start=1):
        if not isinstance(frame, dict) or not isinstance(frame.get("name"), str) or not frame["name"]:
            raise ValueError(f"this BDD100K JSON lacks or does not know 'name' in frame number {place}")
        if stem(frame["name"]) in found:
            raise ValueError(f"two frames have the name {frame['name']}, or one that differs in nothing but its suffix")
        found[stem(frame["name"])] = gather(bdd100k_rows(frame))
    return found


def bdd100k_rows(frame: dict[str, Any]) -> Iterator[BoxRow]:
    """Yield the boxes of one frame; ValueError for one that is none."""
    labels = frame.get("labels") or []
    if not isinstance(labels, list):
        raise ValueError(f"frame {frame['name']}: its 'labels' must be a list")
    for place, label in enumerate(labels, start=1):
        try:
            row = bdd100k_row(label)
        except ValueError as error:
            number = label.get("id", f"number {place}") if isinstance(label, dict) else f"number {place}"
            raise ValueError(f"frame {frame['name']}, label {number}: {error}") from error
        if row is not None:
            yield row


def bdd100k_row(label: Any) -> BoxRow | None:
    """Return the row of one label, None where it has no box; ValueError with what is wrong with it."""
    if not isinstance(label, dict):
        raise ValueError(f"it must be a JSON object, not {label!r:.80}")
    box = label.get("box2d")
    if box is None:
        return None
    if not isinstance(box, dict) or not all(is_number(box.get(edge)) for edge in EDGES):
        raise ValueError(f"its 'box2d' must hold the numbers x1, y1, x2 and y2, not {box!r:.80}")
    left, top, right, bottom = (box[edge] for edge in EDGES)
    if right < left or bottom < top:
        raise ValueError(f"its 'box2d' has a negative width or height: {box!r}")
    if not isinstance(label.get("category"), str):
        raise ValueError("it lacks a 'category'")
    attributes = label.get("attributes")
    crowd = bool(attributes.get("crowd", False)) if isinstance(attributes, dict) else False
    return [left, top, right + 1, bottom + 1], label["category"], score_of(label), crowd
