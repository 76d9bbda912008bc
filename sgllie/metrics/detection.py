"""Mean average precision of detections, as COCO defines it, in a form that can be resampled over images.

evidence = match(labels, predictions)         by pycocotools
scores = average_precision(evidence)          mAP@50, mAP@[.5:.95], per class
"""

import contextlib
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgllie.metrics.boxes import Boxes, BoxesOfImages

THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)


class ClassEvidence(NamedTuple):
    """What was found of one class over the set; D detections, the surest first, and T thresholds of overlap.

    `image` (D) is the number of the image, `correct` and `counted` (T x D) say whether a detection is right and whether
    it counts at all; `objects` (images) is how many there were to find.
    """

    image: NDArray[np.intp]
    correct: NDArray[np.bool_]
    counted: NDArray[np.bool_]
    objects: NDArray[np.int64]


@dataclass(frozen=True)
class Evidence:
    """What was found of every class that is labelled, and the images (the order of the numbers)."""

    images: list[str]
    classes: dict[str, ClassEvidence]


@dataclass(frozen=True)
class DetectionScores:
    """Average precisions, 0 to 1; a class that no image has is NaN and does not count in the means."""

    map50: float
    map50_95: float
    class_ap50: dict[str, float]
    class_ap50_95: dict[str, float]


def match(labels: BoxesOfImages, predictions: BoxesOfImages, rename: Mapping[str, str] | None = None) -> Evidence:
    """Match detections to labels at ten overlaps, by pycocotools: at most 100 detections an image, all sizes.

    Args:
        labels: what is there; only these images and these classes count. An image without predictions has none.
        predictions: what was found.
        rename: class of a prediction -> class of a label, where a detector's names differ ("person": "pedestrian").

    Raises:
        ValueError: no image has both labels and predictions.
    """
    from pycocotools.cocoeval import COCOeval

    images = sorted(labels)
    if predictions and not set(images) & set(predictions):
        examples = f"{images[0] if images else 'nothing'} and {min(predictions)}"
        raise ValueError(f"labels and predictions have no image in common (names are, for example, {examples})")
    classes = sorted({name for boxes in labels.values() for name in boxes.classes})
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(
            _coco(labels, images, classes, {}), _coco(predictions, images, classes, rename or {}), "bbox"
        )
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.params.areaRngLbl = evaluation.params.areaRngLbl[:1]
        evaluation.params.iouThrs = THRESHOLDS
        evaluation.params.imgIds = list(range(len(images)))
        evaluation.params.catIds = list(range(len(classes)))
        evaluation.evaluate()
    results = evaluation.evalImgs
    step = len(images)
    return Evidence(images, {name: _collect(results[i * step : (i + 1) * step]) for i, name in enumerate(classes)})


def _coco(found: BoxesOfImages, images: list[str], classes: list[str], rename: Mapping[str, str]) -> Any:
    """Return boxes as a pycocotools data set; classes that are not in `classes` are left out."""
    from pycocotools.coco import COCO

    numbers = {name: number for number, name in enumerate(classes)}
    annotations: list[dict[str, Any]] = []
    for image, name in enumerate(images):
        boxes: Boxes | None = found.get(name)
        for (left, top, right, bottom), kind, score, crowd in zip(*boxes, strict=True) if boxes else ():
            if (category := numbers.get(rename.get(kind, kind))) is not None:
                size = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
                ids = {"id": len(annotations) + 1, "image_id": image, "category_id": category}
                annotations.append({**ids, **size, "score": float(score), "iscrowd": int(crowd)})
    coco = COCO()
    coco.dataset = {
        "images": [{"id": number} for number in range(len(images))],
        "categories": [{"id": number} for number in range(len(classes))],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _collect(results: list[dict | None]) -> ClassEvidence:
    """Turn one pycocotools result for each image into the evidence of one class."""
    found = [(number, result) for number, result in enumerate(results) if result is not None]
    objects = np.zeros(len(results), np.int64)
    for number, result in found:
        objects[number] = np.count_nonzero(np.asarray(result["gtIgnore"]) == 0)
    empty = np.zeros((len(THRESHOLDS), 0))
    scores = np.concatenate([[], *(result["dtScores"] for _, result in found)])
    image = np.repeat([number for number, _ in found], [len(result["dtScores"]) for _, result in found]).astype(np.intp)
    matches = np.concatenate([empty, *(result["dtMatches"] for _, result in found)], axis=1) > 0
    ignored = np.concatenate([empty, *(result["dtIgnore"] for _, result in found)], axis=1) > 0
    order = np.argsort(-scores, kind="stable")
    return ClassEvidence(image[order], (matches & ~ignored)[:, order], ~ignored[:, order], objects)


def average_precision(evidence: Evidence, weights: NDArray[np.int64] | None = None) -> DetectionScores:
    """Return average precision at 101 recalls (COCO), of images that count `weights` times (once where not given).

    Source: Lin et al., "Microsoft COCO: Common Objects in Context", ECCV 2014, and its evaluation.
    """
    weights = np.ones(len(evidence.images), np.int64) if weights is None else weights
    values = {name: _class_precision(found, weights) for name, found in evidence.classes.items()}
    # A set without any class, or a resample that drew no labelled image, has no value.
    table = np.array([*values.values(), np.full(len(THRESHOLDS), np.nan)])
    known = table[~np.isnan(table[:, 0])]
    return DetectionScores(
        map50=float(known[:, 0].mean()) if len(known) else np.nan,
        map50_95=float(known.mean()) if len(known) else np.nan,
        class_ap50={name: float(value[0]) for name, value in values.items()},
        class_ap50_95={name: float(value.mean()) for name, value in values.items()},
    )


def _class_precision(found: ClassEvidence, weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the average precision of one class at each overlap (T); NaN where there was nothing to find."""
    objects = (found.objects * weights).sum()
    if objects == 0:
        return np.full(len(THRESHOLDS), np.nan)
    counts = weights[found.image]
    right = np.cumsum(found.correct * counts, axis=1)
    total = np.cumsum(found.counted * counts, axis=1)
    precision = right / np.maximum(total, 1)
    # The best precision at this recall or any higher one.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    return np.array([_at_recalls(*row) for row in zip(right / objects, precision, strict=True)])


def _at_recalls(recall: NDArray[np.float64], precision: NDArray[np.float64]) -> float:
    """Return the mean over 101 recalls of the precision where each is first reached, 0 where it never is."""
    position = np.searchsorted(recall, RECALLS, side="left")
    return float(np.append(precision, 0.0)[position].mean())
