"""The result of an evaluation on the terminal."""

import io
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from sgllie.evaluate.summary import Comparison
from sgllie.runs.words import plural

WIDTH = 1000
"""More than any table needs: a narrow terminal wraps its lines, but nothing is cut off."""
DIRECTION = {True: "higher", False: "lower", None: "-"}


def text_of(columns: list[tuple[str, str]], rows: list[list[str]]) -> str:
    """Write a table as plain text.

    Args:
        columns: heading and justification (`left`, `right`) of each.
        rows: the cells.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading, side in columns:
        table.add_column(heading, justify=side, no_wrap=True)  # type: ignore[arg-type]
    for row in rows:
        table.add_row(*row)
    written = io.StringIO()
    Console(file=written, width=WIDTH, color_system=None).print(table)
    return "\n".join(line.rstrip() for line in written.getvalue().splitlines()).strip("\n")


def comparisons_text(comparisons: list[Comparison]) -> str:
    """Write the table of all measures."""
    has_before = any(comparison.before is not None for comparison in comparisons)
    names = ["before", "after", "difference", "95 % interval", "images better", "better is", "images"]
    columns = [("metric", "left"), *((name, "right") for name in names)]
    rows = [
        [
            one.metric,
            digits(one.before),
            digits(one.after),
            digits(one.difference, sign=True),
            "-" if one.low is None else f"{digits(one.low, has_before)} .. {digits(one.high, has_before)}",
            "-" if one.better is None else f"{100 * one.better:.0f} %",
            DIRECTION[one.higher_is_better],
            f"{one.images:,}",
        ]
        for one in comparisons
    ]
    # Without anything before, the interval is that of the value itself; scores of a set tell nothing of single images.
    hidden = (set() if has_before else {1, 3, 5}) | (
        set() if any(one.better is not None for one in comparisons) else {5}
    )
    columns = [column for k, column in enumerate(columns) if k not in hidden]
    rows = [[cell for k, cell in enumerate(row) if k not in hidden] for row in rows]
    return text_of(columns, rows)


def worst_text(worst: list[dict[str, Any]]) -> str:
    """Write the images of the highest rise of NIQE, or of the highest NIQE, a line each."""
    if not worst:
        return ""
    lines = [
        f"  {row['path']}: "
        + (f"{digits(row['niqe_before'])} -> " if row["niqe_before"] is not None else "")
        + digits(row["niqe"])
        for row in worst
    ]
    heading = "Largest rise of NIQE:" if worst[0]["niqe_before"] is not None else "Highest NIQE:"
    return "\n".join([heading, *lines])


def unknown_text(unknown: dict[str, dict[str, Any]]) -> str:
    """Return the sentence on pixels of maps that belong to no class; empty where there are none."""
    if not unknown:
        return ""
    names = {"unknown": "predictions", "unknown_before": "predictions before", "unknown_label": "labels"}
    counts = ", ".join(
        f"{100 * found['share']:.2g} % of the {names[name]} ({plural(found['images'], 'images')})"
        for name, found in unknown.items()
    )
    return f"Pixels with a colour or an id that --classes does not list, which count as no class: {counts}."


def undefined_text(undefined: dict[str, int], noun: str) -> str:
    """Return the sentence on metrics that have no value for some images; empty where all have one."""
    if not undefined:
        return ""
    counts = ", ".join(f"{name} ({plural(count, noun)})" for name, count in undefined.items())
    return f"Not defined for what is too small or has no texture, and left out there: {counts}."


def digits(value: float | None, sign: bool = False) -> str:
    """Write a number with four significant digits, at most four behind the point."""
    if value is None:
        return "-"
    places = 4 if abs(value) < 1 else 3 if abs(value) < 10 else 2 if abs(value) < 1000 else 0
    return f"{value:{'+' if sign else ''},.{places}f}"


def classes_text(classes: dict[str, dict[str, Any]]) -> str:
    """Write the table of all classes that have a value."""
    rows = {name: values for name, values in classes.items() if any(value is not None for value in values.values())}
    if not rows:
        return ""
    measured = next(iter(rows.values()))
    names = [name for name in measured if not name.endswith("_before")]
    headings = ["class"]
    cells = [[kind] for kind in rows]
    for name in names:
        has_before = f"{name}_before" in measured
        headings += [f"{name} before", f"{name} after", "difference"] if has_before else [name]
        for line, values in zip(cells, rows.values(), strict=True):
            line += change(values[f"{name}_before"], values[name]) if has_before else [digits(values[name])]
    return text_of([(heading, "right" if k else "left") for k, heading in enumerate(headings)], cells)


def change(before: float | None, after: float | None) -> list[str]:
    """Return the cells of one measure: before, after, difference."""
    difference = None if before is None or after is None else after - before
    return [digits(before), digits(after), digits(difference, sign=True)]


def methods_text(methods: list[dict[str, Any]], metrics: list[str]) -> str:
    """Write the table of a comparison: the mean of each metric, and the time."""
    names = [*metrics, "milliseconds", "relative_time"]
    headings = [*metrics, "ms", "x fastest"]
    columns = [("method", "left"), *((heading, "right") for heading in headings), ("failed", "right")]
    return text_of(
        columns, [[row["method"], *(digits(row[key]) for key in names), str(row["failed"])] for row in methods]
    )
