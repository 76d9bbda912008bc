"""Boxes in COCO JSON: a label file, or a list of results."""

from typing import Any

from sgllie.metrics.boxes import BoxesOfImages, BoxRow, gather, is_number, parse, score_of, stem


def read_coco(text: str | bytes, labels: str | bytes | None = None) -> BoxesOfImages:
    """Read a COCO label file, or a list of results, whose image and class names are then taken from `labels`.

    A box is [left, top, width, height] in pixels. Images of the label file without boxes are kept, as empty.

    Raises:
        ValueError: not such a file, a box that is none (named by its id), or one of an image or class that the label
            file lacks.
    """
    content = parse(text, "COCO")
    is_results = isinstance(content, list)
    if is_results and labels is None:
        raise ValueError("COCO results hold numbers for images and classes; give the label file as well")
    index = parse(labels, "COCO") if is_results and labels is not None else content
    if not isinstance(index, dict):
        raise ValueError("COCO results hold numbers for images and classes, which only a COCO label file explains")
    images = {number: stem(name) for number, name in names_by_id(index, "images", "file_name").items()}
    classes = names_by_id(index, "categories", "name")
    rows: dict[str, list[BoxRow]] = {name: [] for name in images.values()}
    if len(rows) < len(images):
        raise ValueError("two of its 'images' have the same 'file_name', or one that differs in nothing but its suffix")
    for place, box in enumerate(content if is_results else entries(index, "annotations"), start=1):
        try:
            image, row = coco_row(box, images, classes)
        except ValueError as error:
            number = box.get("id", f"number {place}") if isinstance(box, dict) else f"number {place}"
            raise ValueError(f"{'result' if is_results else 'annotation'} {number}: {error}") from error
        rows[image].append(row)
    return {name: gather(found) for name, found in rows.items()}


def entries(index: dict[str, Any], kind: str) -> list[Any]:
    """Return one of the lists of a label file; ValueError where there is none."""
    found = index.get(kind)
    if not isinstance(found, list):
        raise ValueError(f"this COCO JSON lacks or does not know {kind!r}")
    return found


def names_by_id(index: dict[str, Any], kind: str, key: str) -> dict[int | str, str]:
    """Return what `images` or `categories` of a label file are called, by their ids; ValueError where one lacks it."""
    names: dict[int | str, str] = {}
    for place, entry in enumerate(entries(index, kind), start=1):
        number, name = (entry.get("id"), entry.get(key)) if isinstance(entry, dict) else (None, None)
        if not isinstance(number, int | str) or not isinstance(name, str) or not name:
            raise ValueError(f"number {place} of its {kind!r} lacks an 'id' or a {key!r}")
        if number in names:
            raise ValueError(f"two of its {kind!r} have the id {number}")
        names[number] = name
    return names


def coco_row(box: Any, images: dict[int | str, str], classes: dict[int | str, str]) -> tuple[str, BoxRow]:
    """Return the image and the row of one annotation or result; ValueError with what is wrong with it."""
    if not isinstance(box, dict):
        raise ValueError(f"it must be a JSON object, not {box!r:.80}")
    image = known(box, "image_id", images, "image")
    kind = known(box, "category_id", classes, "category")
    values = box.get("bbox")
    if not isinstance(values, list) or len(values) != 4 or not all(map(is_number, values)):
        raise ValueError(f"its 'bbox' must be four numbers (left, top, width, height), not {values!r:.80}")
    left, top, width, height = values
    if width < 0 or height < 0:
        raise ValueError(f"its 'bbox' has a negative width or height: {values!r}")
    return image, ([left, top, left + width, top + height], kind, score_of(box), bool(box.get("iscrowd", 0)))


def known(box: dict[str, Any], key: str, names: dict[int | str, str], noun: str) -> str:
    """Return the name that an id of a box stands for; ValueError where the label file has none for it."""
    number = box.get(key)
    if not isinstance(number, int | str) or number not in names:
        raise ValueError(f"its {key!r} is {number!r}, and the label file has no such {noun}")
    return names[number]
