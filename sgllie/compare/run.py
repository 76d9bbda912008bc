"""A run of `sgllie compare`: planned, resumed or refused, summed up and finished."""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from sgllie.compare.page import page
from sgllie.compare.settings import INPUT, CompareSettings
from sgllie.compare.trial import Trial
from sgllie.corpus.listing import Listing
from sgllie.errors import StorageError, UsageError
from sgllie.evaluate.inputs import Inputs, list_files, names_in, note_label_maps
from sgllie.evaluate.matching import Names
from sgllie.evaluate.run import MeasuringRun, open_measuring
from sgllie.evaluate.summary import column, number, undefined_counts
from sgllie.evaluate.table import methods_text, undefined_text
from sgllie.methods import METHODS, describe_weights
from sgllie.runs.names import COMPARISON, COMPARISON_TABLE
from sgllie.runs.run import Pipeline
from sgllie.runs.run_file import Json
from sgllie.runs.shard_runner import Report
from sgllie.runs.start import survey
from sgllie.runs.tables import csv_bytes
from sgllie.runs.totals import Totals


@dataclass(frozen=True)
class CompareRun(MeasuringRun[CompareSettings]):
    """One run; its roots are those of the images (`before`) and of their references (`truth`)."""

    noun: ClassVar[str] = "trials"
    starts_early: ClassVar[bool] = False
    """The starting cluster would spoil the times that are measured."""

    def make_pipeline(self, report: Report) -> Pipeline:
        """Make the pipeline of a worker."""
        from sgllie.compare.pipeline import ComparePipeline

        return ComparePipeline(self.settings, self.roots, report)

    def finalize(self, totals: Mapping[int, Totals]) -> Json:
        """Write summary.csv, compare.html, summary.json and _SUCCESS."""
        settings, counted = self.settings, self.counted(totals)
        table = self.rows()
        metrics = settings.chosen_metrics(has_input=True)
        methods = summaries(table, [INPUT, *settings.method_settings], metrics)
        self.output.write(COMPARISON_TABLE, csv_bytes(methods))
        shown = table.filter(pc.is_valid(table["thumbnail"])).to_pylist()
        undefined = undefined_counts(table, metrics, has_before=False)
        left_out = undefined_text(undefined, self.noun)
        html = page(settings.input, methods, metrics, shown, len(set(table["path"].to_pylist())), left_out)
        self.output.write(COMPARISON, html.encode())
        return self.mark_finished(counted | {"methods": methods, "undefined": undefined})

    def summarize(self, totals: Json, seconds: float) -> str:
        """Write the table of methods, and where the page is."""
        table = methods_text(totals["methods"], self.settings.chosen_metrics(has_input=True))
        left_out = undefined_text(totals["undefined"], self.noun)
        page = f"To look at: {self.settings.output}/{COMPARISON}"
        return "\n\n".join(filter(None, [table, left_out, f"{self.outcome(totals, seconds)}\n{page}"]))


def prepare(settings: CompareSettings) -> CompareRun:
    """Find the comparison that is to be resumed, or list the images and begin one.

    Raises:
        UsageError: images or weights are missing, or the result folder holds something else.
    """
    settings.chosen_metrics(has_input=True)
    fingerprints = {
        f"the weights of {label}": (describe_weights(method) or {})["fingerprint"]
        for label, method in settings.method_settings.items()
        if METHODS[method.method].takes_weights
    }
    run = open_measuring(settings, ("input", "reference"), fingerprints, Trial, partial(find_trials, settings))
    return CompareRun(settings, *run, *survey(settings, run))


def find_trials(settings: CompareSettings) -> Inputs:
    """Find all images and their references; UsageError where there are none."""
    listing = list_files(settings.input, settings, photographs_only=True)
    roots = {"before": listing.root}
    try:
        references = None
        if settings.reference is not None:
            references, roots["truth"] = names_in(settings.reference, "reference", settings, photographs_only=True)
        items = list(trials(settings, listing, references))
    except (StorageError, OSError) as error:
        raise UsageError(f"input {settings.input} cannot be listed: {error}") from error
    if not items:
        raise UsageError(f"input {settings.input} holds no images")
    return Inputs(items, roots, note_label_maps(listing.label_maps.count))


def trials(settings: CompareSettings, listing: Listing, references: Names | None) -> Iterator[Trial]:
    """Yield each method on each image; the images that are shown are spread evenly over the list."""
    entries = list(itertools.islice(listing, settings.limit))
    shown = set(np.linspace(0, len(entries) - 1, min(settings.shown, len(entries))).round().astype(int).tolist())
    for place, entry in enumerate(entries):
        truth, problem = references.find(entry.path) if references else (None, None)
        for method in (INPUT, *settings.method_settings):
            version = f"{entry.version} {truth.version if truth else None}"
            files = (truth.path if truth else None, problem, place in shown)
            yield Trial(entry.path, entry.size, version, method, *files)


def summaries(table: pa.Table, methods: list[str], metrics: list[str]) -> list[dict[str, Any]]:
    """Return for each method the means of its metrics and its time.

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
    times = [mean(finite(column(timed(tables[name]), "milliseconds"))) for name in methods]
    fastest = min((time for time in times if time is not None), default=None)
    for row, time in zip(found, times, strict=True):
        row |= {"milliseconds": time, "relative_time": time / fastest if time is not None and fastest else None}
    return found


def timed(table: pa.Table) -> pa.Table:
    """Return the rows of a method whose times count: those of the GPU, if it was there for any of them."""
    on_gpu = table.filter(pc.equal(table["device"], "cuda"))
    return on_gpu if len(on_gpu) else table


def in_common(values: list[NDArray[np.float64]]) -> NDArray[np.bool_]:
    """Tell where all arrays that have a finite value anywhere have one."""
    known = [np.isfinite(one) for one in values if np.isfinite(one).any()]
    return np.logical_and.reduce(known) if known else np.zeros(len(values[0]), bool)


def finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the finite ones of some values."""
    return values[np.isfinite(values)]


def mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean of values; None where there are none, or one of them is not finite."""
    return number(values.mean()) if len(values) else None
