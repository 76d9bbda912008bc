"""An evaluation of images or label maps from its settings to its summary; what lies between runs over the cluster."""

import hashlib
from dataclasses import asdict
from typing import Any

from sgllie.evaluation import summary
from sgllie.evaluation.corpus import ITEM_SCHEMA
from sgllie.evaluation.map_measures import label_scheme
from sgllie.evaluation.measures import make_measure
from sgllie.evaluation.run import MeasuringRun, all_rows, complete, open_run, totals_of
from sgllie.evaluation.settings import EvaluateSettings
from sgllie.evaluation.subject import subject_of

DARK_CITYSCAPE = ("dark_miou", "dark_mpa")


def prepare(settings: EvaluateSettings) -> MeasuringRun:
    """Find the files, and begin an evaluation or find the one that is to be resumed.

    Raises:
        UsageError: files are missing, or the result folder holds something else.
    """
    subject = subject_of(settings)
    make_measure(settings, set(subject.roots))  # its sentences are for the user, not for a worker
    extra = {}
    if settings.task == "segmentation":
        extra["content_of_classes"] = hashlib.sha256(repr(label_scheme(settings)).encode()).hexdigest()[:16]
    return open_run(settings, subject.items, ITEM_SCHEMA, subject.roots, subject.notes, extra)


def finish(run: MeasuringRun) -> dict[str, Any]:
    """Sum up all rows, write summary.json and _SUCCESS; the content of the summary is returned.

    Raises:
        StorageError: the rows are not one for each picture, or the result cannot be written.
    """
    settings: EvaluateSettings = run.settings
    table = all_rows(run)
    if settings.task == "segmentation":
        names = label_scheme(settings).names
        comparisons, classes = summary.segmentation(table, names)
        found: dict[str, Any] = {"metrics": [asdict(one) for one in comparisons], "classes": classes}
    elif settings.task == "darkcityscape":
        found = {"metrics": [asdict(one) for one in summary.means(table, DARK_CITYSCAPE)]}
    else:
        metrics = settings.chosen_metrics("before" in run.roots)
        found = {"metrics": [asdict(one) for one in summary.means(table, metrics)], "worst": summary.worst(table)}
    result = totals_of(table) | found
    complete(run.output, result)
    return result
