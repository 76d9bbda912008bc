"""The page of a comparison: one file that needs no network."""

from typing import Any

from sgllie.compare.settings import INPUT
from sgllie.evaluate.table import digits
from sgllie.metrics import METRICS
from sgllie.report import document
from sgllie.runs.schemas import Row

ARROWS = {True: "higher is better", False: "lower is better", None: ""}


def page(
    source: str, methods: list[dict[str, Any]], metrics: list[str], shown: list[Row], images: int, left_out: str
) -> str:
    """Return the table of methods, and a grid of pictures with a column for each method, as HTML.

    Args:
        source: what was compared on.
        methods: their summaries.
        metrics: the names of the columns.
        shown: the rows that have thumbnails.
        images: how many there were.
        left_out: the sentence on metrics that are not defined for some, or nothing.
    """
    pictures: dict[str, dict[str, Row]] = {}
    for row in shown:
        pictures.setdefault(row["path"], {})[row["method"]] = row
    return document.render(
        __package__,
        "page",
        {"digits": digits},
        source=source,
        images=images,
        left_out=left_out,
        methods=methods,
        metrics=[METRICS[name] for name in metrics],
        arrows=ARROWS,
        best={metric: best(methods, metric) for metric in metrics},
        pictures=pictures,
        input=INPUT,
    )


def best(methods: list[dict[str, Any]], metric: str) -> float | None:
    """Return the best mean of the methods, the images themselves left out; None where no direction is better."""
    values = [row[metric] for row in methods if row["method"] != INPUT and row[metric] is not None]
    higher = METRICS[metric].higher_is_better
    if higher is None or not values:
        return None
    return max(values) if higher else min(values)
