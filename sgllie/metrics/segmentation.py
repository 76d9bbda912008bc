"""How well predicted label maps agree with labels: one confusion matrix over the whole set.

counts = confusion(prediction, label, classes=19)    one image; add those of a set
scores = segmentation_scores(counts)                 mIoU, mPA, pixel accuracy, FWIoU, per class
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

IGNORE = 255
"""The label of pixels that do not count."""
Counts = NDArray[np.int64]


def confusion(prediction: NDArray, label: NDArray, classes: int) -> Counts:
    """Count the pixels of each class (rows) by what was predicted (columns).

    Args:
        prediction: H x W integers; what is not in 0 .. classes - 1 counts as no class, in the last column.
        label: H x W integers; pixels labelled IGNORE are left out.
        classes: number of classes.

    Returns:
        classes x (classes + 1), int64.

    Raises:
        ValueError: the shapes differ, or a label is neither a class nor IGNORE.
    """
    if prediction.shape != label.shape or label.ndim != 2:
        shapes = f"{'x'.join(map(str, prediction.shape))} and {'x'.join(map(str, label.shape))}"
        raise ValueError(f"prediction and label must be two H x W maps of the same size, got {shapes}")
    valid = label != IGNORE
    truth, guess = label[valid].astype(np.int64), prediction[valid].astype(np.int64)
    if truth.size and not 0 <= truth.min() <= truth.max() < classes:
        strange = truth.min() if truth.min() < 0 else truth.max()
        raise ValueError(f"the label {strange} is neither one of {classes} classes nor the ignore label {IGNORE}")
    guess[(guess < 0) | (guess >= classes)] = classes
    width = classes + 1
    return np.bincount(truth * width + guess, minlength=classes * width).reshape(classes, width)


@dataclass(frozen=True)
class SegmentationScores:
    """Shares between 0 and 1; NaN where nothing was labelled. Arrays have one value for each class."""

    miou: float
    mpa: float
    pixel_accuracy: float
    fwiou: float
    class_iou: NDArray[np.float64]
    class_accuracy: NDArray[np.float64]


def segmentation_scores(counts: Counts) -> SegmentationScores:
    """Return the scores of a confusion matrix, added over all images of a set.

    IoU = TP / (TP + FP + FN); accuracy of a class = TP / (TP + FN), that is recall. mIoU is the mean over the classes
    that were labelled or predicted, mPA over those that were labelled; FWIoU weighs IoU by the share of the labels.
    Source: Garcia-Garcia et al., "A Review on Deep Learning Techniques Applied to Semantic Segmentation", 2017.

    Args:
        counts: classes x (classes + 1), the sum of what `confusion` gives.
    """
    classes = len(counts)
    hits = np.diagonal(counts).astype(np.float64)
    labelled, predicted = counts.sum(axis=1), counts[:, :classes].sum(axis=0)
    total = counts.sum()
    with np.errstate(invalid="ignore"):
        iou = hits / (labelled + predicted - hits)
        accuracy = hits / labelled
        shares = labelled / total
        overall = hits.sum() / total
    if total == 0:
        return SegmentationScores(np.nan, np.nan, np.nan, np.nan, iou, accuracy)
    return SegmentationScores(
        miou=float(np.nanmean(iou)),
        mpa=float(np.nanmean(accuracy)),
        pixel_accuracy=float(overall),
        fwiou=float(np.nansum(shares * iou)),
        class_iou=iou,
        class_accuracy=accuracy,
    )


def dark_cityscape_score(prediction: NDArray, label: NDArray) -> tuple[float, float]:
    """Return mean IoU and "mPA" of one image as the DarkCityScape tables have them; for reproducing these only.

    It compares no classes: both colour maps become grey, are cut to their top left 1020 rows and 2040 columns, and are
    split in two at grey > 125. mIoU is over these two halves; mPA is the mean precision, TP / (TP + FP), not recall.
    Published values are means over images. Source: the program beside Zheng and Gupta, WACV 2022 workshops.

    Args:
        prediction: H x W x 3, uint8 RGB.
        label: the same shape.
    """
    bright_prediction, bright_label = (
        (cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[:1020, :2040] > 125).astype(np.uint8) for image in (prediction, label)
    )
    counts = confusion(bright_prediction, bright_label, classes=2)[:, :2]
    hits = np.diagonal(counts)
    with np.errstate(invalid="ignore"):
        iou = hits / (counts.sum(axis=0) + counts.sum(axis=1) - hits)
        precision = hits / counts.sum(axis=0)
    return float(np.nanmean(iou)), float(np.nanmean(precision))
