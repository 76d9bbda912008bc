"""What all rows of an evaluation come to: means before and after, how sure the difference is, and the worst images."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sgllie.metrics import METRICS
from sgllie.metrics.bootstrap import Statistic, bootstrap_interval, weighted_mean
from sgllie.metrics.segmentation import segmentation_scores

WORST = 5
RESAMPLES, MANY = 1000, 20_000
HIGHER_IS_BETTER = {name: metric.higher_is_better for name, metric in METRICS.items()}


@dataclass(frozen=True)
class Comparison:
    """One measure before and after.

    Attributes:
        metric: its name.
        images: those that it could be measured on.
        before, after: its value over them, `before` None where there is nothing before.
        difference: after less before.
        low, high: the bounds between which the difference lies with 95 % confidence (bootstrap over images), or the
            bounds of `after` where there is nothing before.
        better: share of the images that became better; None where neither direction is.
        higher_is_better: None where neither is.
    """

    metric: str
    images: int
    before: float | None
    after: float | None
    difference: float | None
    low: float | None
    high: float | None
    better: float | None
    higher_is_better: bool | None


def compare(
    name: str,
    after: Any,
    before: Any | None,
    images: int,
    statistic: Statistic = weighted_mean,
    higher_is_better: bool | None = True,
    resamples: int | None = None,
) -> Comparison:
    """Compare one measure over a set of images, before and after.

    Args:
        name: of the measure.
        after: what each image contributed, in the form that `statistic` takes.
        before: the same before enhancement, or None.
        images: how many they are.
        statistic: the value over the set.
        higher_is_better: None where neither is.
        resamples: of the bootstrap; by default 1000, and 200 where there are many images.
    """
    if images == 0:
        return Comparison(name, 0, None, None, None, None, None, None, higher_is_better)
    resamples = resamples or (RESAMPLES if images <= MANY else RESAMPLES // 5)

    def or_zero(values: Any, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.zeros(len(weights)) if values is None else statistic(values, weights)

    once = np.ones((1, images), np.int64)
    interval = bootstrap_interval(before, after, or_zero, images, resamples=resamples)
    return Comparison(
        metric=name,
        images=images,
        before=None if before is None else number(statistic(before, once)[0]),
        after=number(statistic(after, once)[0]),
        difference=None if before is None else number(interval.difference),
        low=number(interval.low),
        high=number(interval.high),
        better=None,
        higher_is_better=higher_is_better,
    )


def means(table: pa.Table, names: Sequence[str]) -> list[Comparison]:
    """Return the mean of each metric of single images, over the images that have it on both sides.

    Infinite values (PSNR of an image that equals its reference) are left out.
    """
    found = []
    for name in names:
        after, before = column(table, name), column(table, f"{name}_before")
        paired = np.isfinite(after) & np.isfinite(before)
        higher = HIGHER_IS_BETTER.get(name, True)
        if np.isfinite(before).any():
            after, before = after[paired], before[paired]
            comparison = compare(name, after, before, len(after), higher_is_better=higher)
            if higher is not None and len(after):
                gain = np.mean(after > before if higher else after < before)
                comparison = Comparison(**asdict(comparison) | {"better": float(gain)})
        else:
            after = after[np.isfinite(after)]
            comparison = compare(name, after, None, len(after), higher_is_better=higher)
        found.append(comparison)
    return found


def undefined_counts(table: pa.Table, metrics: Sequence[str], *, has_before: bool) -> dict[str, int]:
    """Return for how many of the rows that are ok a metric is not defined, where it is for any.

    Args:
        table: the rows.
        metrics: their names; a row that is ok has a value of each, unless that is not defined.
        has_before: whether it also has the values before.
    """
    good = table.filter(pc.equal(table["status"], "ok"))
    counts: dict[str, int] = {}
    for name in metrics:
        missing = np.isnan(column(good, name))
        if has_before:
            missing |= np.isnan(column(good, f"{name}_before"))
        if missing.any():
            counts[name] = int(np.count_nonzero(missing))
    return counts


def segmentation(table: pa.Table, names: Sequence[str]) -> tuple[list[Comparison], dict[str, dict[str, Any]]]:
    """Return the scores of the sum of all confusion matrices, and IoU and accuracy of each class.

    Args:
        table: the rows.
        names: of the classes.
    """
    known, known_before = (pc.is_valid(table[name]) for name in ("confusion", "confusion_before"))
    both = pc.and_(known, known_before)
    has_before = pc.any(both).as_py()
    chosen = table.filter(both if has_before else known)
    sides = {"after": matrices(chosen, "confusion", len(names))}
    if has_before:
        sides["before"] = matrices(chosen, "confusion_before", len(names))
    comparisons = [
        compare(name, sides["after"], sides.get("before"), len(chosen), score(name))
        for name in ("miou", "mpa", "pixel_accuracy", "fwiou")
    ]
    classes: dict[str, dict[str, Any]] = {name: {} for name in names}
    for side, suffix in (("before", "_before"), ("after", "")):
        if side in sides:
            scores = segmentation_scores(sides[side].sum(axis=0))
            for name, iou, accuracy in zip(names, scores.class_iou, scores.class_accuracy, strict=True):
                classes[name] |= {f"iou{suffix}": number(iou), f"accuracy{suffix}": number(accuracy)}
    return comparisons, classes


def unknown_shares(table: pa.Table, columns: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return how much of the maps that were measured has a colour or an id of no class, where any has.

    Args:
        table: the rows.
        columns: with the share of each map.

    Returns:
        For each column the mean `share` over the maps, and the number of `images` that have any.
    """
    good = table.filter(pc.equal(table["status"], "ok"))
    found = {name: np.nan_to_num(column(good, name)) for name in columns}
    return {
        name: {"share": float(shares.mean()), "images": int(np.count_nonzero(shares))}
        for name, shares in found.items()
        if shares.any()
    }


def score(name: str) -> Statistic:
    """Return the statistic of one score of the weighted sum of confusion matrices."""

    def values(counts: NDArray[np.float64], weights: NDArray[np.int64]) -> NDArray[np.float64]:
        totals = np.rint(np.tensordot(weights.astype(np.float64), counts, axes=1)).astype(np.int64)
        return np.array([getattr(segmentation_scores(total), name) for total in totals])

    return values


def matrices(table: pa.Table, name: str, classes: int) -> NDArray[np.float64]:
    """Return the confusion matrices of all rows: images x classes x (classes + 1).

    As floats, whose products are many times faster; and never as lists, which would take tens of times the memory.
    """
    return np.asarray(pc.list_flatten(table[name]), np.float64).reshape(-1, classes, classes + 1)


def worst(table: pa.Table) -> list[dict[str, Any]]:
    """Return the five images whose NIQE rose most, or with the highest NIQE where there is nothing before."""
    if "niqe" not in table.column_names:
        return []
    after, before = column(table, "niqe"), column(table, "niqe_before")
    rise = after - before if np.isfinite(before).any() else after
    order = np.argsort(-np.where(np.isfinite(rise), rise, -np.inf), kind="stable")[:WORST]
    paths = table["path"].to_pylist()
    return [
        {"path": paths[k], "niqe_before": number(before[k]), "niqe": number(after[k])}
        for k in order
        if np.isfinite(rise[k]) and (rise[k] > 0 or not np.isfinite(before[k]))
    ]


def column(table: pa.Table, name: str) -> NDArray[np.float64]:
    """Return the values of a column as float64, NaN where it has none."""
    if name not in table.column_names:
        return np.full(len(table), np.nan)
    return np.asarray(table[name].to_numpy(zero_copy_only=False), np.float64)


def number(value: float) -> float | None:
    """Return a value that JSON can hold: None in place of NaN and infinity."""
    return float(value) if np.isfinite(value) else None
