"""A comparison of methods from its settings to its summary; what lies between runs over the cluster."""

import csv
import io
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sgllie.evaluation.compare_page import page
from sgllie.evaluation.compare_settings import INPUT, CompareSettings
from sgllie.evaluation.contest import MANIFEST_SCHEMA, Attempt
from sgllie.evaluation.matching import Names
from sgllie.evaluation.run import COMPARISON, COMPARISON_TABLE, MeasuringRun, all_rows, complete, open_run, totals_of
from sgllie.evaluation.subject import names_in
from sgllie.evaluation.summary import column, number
from sgllie.listing import Listing
from sgllie.methods import METHODS, describe_weights
from sgllie.run import output_uri
from sgllie.storage import StorageError, UsageError


def prepare(settings: CompareSettings) -> MeasuringRun:
    """List the images, and begin a comparison or find the one that is to be resumed.

    Raises:
        UsageError: images or weights are missing, or the result folder holds something else.
    """
    settings.chosen_metrics(has_input=True)
    weights = {
        label: (describe_weights(method) or {})["fingerprint"]
        for label, method in settings.method_settings.items()
        if METHODS[method.method].takes_weights
    }
    listing = Listing(settings.input, settings.s3, output_uri(settings.output))
    roots = {"before": listing.root}
    try:
        references = None
        if settings.reference is not None:
            references, roots["truth"] = names_in(settings.reference, "reference", settings)
        items = list(attempts(settings, listing, references))
    except (StorageError, OSError) as error:
        raise UsageError(f"input {settings.input} cannot be listed: {error}") from error
    if not items:
        raise UsageError(f"input {settings.input} holds no images")
    return open_run(settings, items, MANIFEST_SCHEMA, roots, [], {"fingerprints": weights})


def attempts(settings: CompareSettings, listing: Listing, references: Names | None) -> Iterator[Attempt]:
    """Each method on each image; the images that are shown are spread evenly over the list."""
    entries = list(itertools.islice(listing, settings.limit))
    shown = set(np.linspace(0, len(entries) - 1, min(settings.shown, len(entries))).round().astype(int).tolist())
    for number_of, entry in enumerate(entries):
        truth, problem = references.find(entry.path) if references else (None, None)
        for method in (INPUT, *settings.method_settings):
            version = f"{entry.version} {truth.version if truth else None}"
            files = (truth.path if truth else None, problem, number_of in shown)
            yield Attempt(entry.path, entry.size, version, method, *files)


def finish(run: MeasuringRun) -> dict[str, Any]:
    """Write summary.csv, compare.html, summary.json and _SUCCESS; the content of the summary is returned.

    Raises:
        StorageError: the rows are not one for each attempt, or the result cannot be written.
    """
    settings: CompareSettings = run.settings
    table = all_rows(run)
    metrics = settings.chosen_metrics(has_input=True)
    methods = summaries(table, [INPUT, *settings.method_settings], metrics)
    result = totals_of(table) | {"methods": methods}
    run.output.write(COMPARISON_TABLE, as_csv(methods).encode())
    shown = table.filter(pc.is_valid(table["thumbnail"])).to_pylist()
    html = page(settings.input, methods, metrics, shown, len(set(table["path"].to_pylist())))
    run.output.write(COMPARISON, html.encode())
    complete(run.output, result)
    return result


def summaries(table: pa.Table, methods: list[str], metrics: list[str]) -> list[dict[str, Any]]:
    """For each method the means of its metrics and its time.

    A mean is over the images for which every method has the metric, so that all are measured on the same ones; a method
    that has it for no image is left out of that.
    """
    tables = {name: table.filter(pc.equal(table["method"], name)).sort_by("path") for name in methods}
    found = [
        {"method": name, "images": len(one), "failed": one["status"].to_pylist().count("failed")}
        for name, one in tables.items()
    ]
    for metric in metrics:
        values = {name: column(one, metric) for name, one in tables.items()}
        common = in_common(list(values.values()))
        for row in found:
            row[metric] = mean(values[row["method"]][common])
    times = [mean(finite(column(tables[name], "milliseconds"))) for name in methods]
    fastest = min((time for time in times if time is not None), default=None)
    for row, time in zip(found, times, strict=True):
        row |= {"milliseconds": time, "relative_time": time / fastest if time is not None and fastest else None}
    return found


def in_common(values: list[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Where all arrays that have a finite value anywhere have one."""
    known = [np.isfinite(one) for one in values if np.isfinite(one).any()]
    return np.logical_and.reduce(known) if known else np.zeros(len(values[0]), bool)


def finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The finite ones of some values."""
    return values[np.isfinite(values)]


def mean(values: NDArray[np.float64]) -> float | None:
    """Their mean; None where there are none, or one of them is not finite."""
    return number(values.mean()) if len(values) else None


def as_csv(methods: list[dict[str, Any]]) -> str:
    """The table of methods as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(methods[0]))
    writer.writeheader()
    writer.writerows(methods)
    return text.getvalue()
