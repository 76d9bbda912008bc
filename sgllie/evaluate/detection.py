"""An evaluation of detections: gathered on one machine, since labels and boxes are small."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from sgllie.errors import UsageError
from sgllie.evaluate import summary
from sgllie.evaluate.box_files import BoxFiles
from sgllie.evaluate.inputs import Inputs
from sgllie.evaluate.run import MeasuringRun, open_measuring
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.metrics.bootstrap import Statistic
from sgllie.metrics.detection import Evidence, average_precision, match
from sgllie.runs.commits import write_commit
from sgllie.runs.run import Pipeline
from sgllie.runs.run_file import Json
from sgllie.runs.schemas import Row, both_sides, row_schema
from sgllie.runs.shard_runner import Report
from sgllie.runs.start import survey
from sgllie.runs.totals import Tally, Totals
from sgllie.runs.words import plural
from sgllie.settings import split_names
from sgllie.storage import Entry

RESAMPLES = 500
SCORES = ("map50", "map50_95")


ROW_SCHEMA = row_schema([("objects", pa.int64()), *both_sides(["detections", "right_at_50"], pa.int64())])


@dataclass(frozen=True)
class Detections:
    """What was labelled and what was detected.

    Attributes:
        after, before: matched with the labels; `before` None where there is nothing before.
        digest: of all files.
        notes: what the user is to know of files and images that do not count.
    """

    after: Evidence
    before: Evidence | None
    digest: str
    notes: list[str]


def read_detections(settings: EvaluateSettings) -> Detections:
    """Read all boxes, and match them.

    Raises:
        UsageError: a file cannot be read, or is of no known kind.
    """
    assert settings.labels is not None
    files = BoxFiles(settings)
    labels = files.read(settings.labels)
    if not labels:
        raise UsageError(f"--labels {settings.labels} holds no image")
    chosen = {name: labels[name] for name in sorted(labels)[: settings.limit]}
    evidence: dict[str, Evidence] = {}
    unlabelled: set[str] = set()
    for side, source in (("after", settings.predictions), ("before", settings.predictions_before)):
        if source is None:
            continue
        predictions = files.read(source)
        unlabelled |= predictions.keys() - labels.keys()
        try:
            evidence[side] = match(chosen, predictions, renamed(settings.rename))
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from error
        except ImportError as error:
            raise UsageError("detections need pycocotools: pip install sgllie[detection]") from error
    if unlabelled:
        files.notes.append(f"{plural(len(unlabelled), 'images')} with predictions, but without labels: not counted")
    return Detections(evidence["after"], evidence.get("before"), files.digest.hexdigest(), files.notes)


def renamed(text: str) -> dict[str, str]:
    """Return `person=pedestrian, motorbike=motorcycle` as a table; UsageError for anything else."""
    pairs = [name.split("=") for name in split_names(text)]
    if any(len(pair) != 2 for pair in pairs):
        raise UsageError(f"--rename is {text}; it must be pairs such as person=pedestrian,motorbike=motorcycle")
    return {old.strip(): new.strip() for old, new in pairs}


@dataclass(frozen=True)
class DetectionRun(MeasuringRun[EvaluateSettings]):
    """An evaluation of detections; all boxes are read and matched before it begins."""

    found: Detections | None = None

    def make_pipeline(self, report: Report) -> Pipeline:
        """Make what writes the rows of a shard."""
        return DetectionPipeline(self)

    def finalize(self, totals: Mapping[int, Totals]) -> Json:
        """Write summary.json and _SUCCESS."""
        found = self.found
        assert found is not None
        images = len(found.after.images)
        comparisons = [
            summary.compare(name, found.after, found.before, images, score(name), resamples=RESAMPLES)
            for name in SCORES
        ]
        classes: dict[str, dict[str, Any]] = {name: {} for name in found.after.classes}
        for evidence, suffix in ((found.before, "_before"), (found.after, "")):
            if evidence is not None:
                scores = average_precision(evidence)
                for name in classes:
                    classes[name][f"ap50{suffix}"] = summary.number(scores.class_ap50[name])
                    classes[name][f"ap50_95{suffix}"] = summary.number(scores.class_ap50_95[name])
        metrics = [asdict(one) for one in comparisons]
        return self.mark_finished(self.counted(totals) | {"metrics": metrics, "classes": classes})


class DetectionPipeline(Pipeline):
    """Writes the rows of shards."""

    def __init__(self, run: DetectionRun) -> None:
        assert run.found is not None
        self.output = run.output
        self.rows = list(image_rows(run.found))
        self.starts = np.concatenate([[0], np.cumsum(run.plan.shards)]).tolist()

    def run(self, shard: int) -> Totals:
        """Write the rows of one shard."""
        rows = self.rows[self.starts[shard] : self.starts[shard + 1]]
        return write_commit(self.output, shard, rows, ROW_SCHEMA, Tally())


def prepare(settings: EvaluateSettings) -> DetectionRun:
    """Read all boxes, and begin an evaluation or find the one that is to be resumed.

    Raises:
        UsageError: a file cannot be read, or the result folder holds something else.
    """
    found = read_detections(settings)
    items = [Entry(name, None, found.digest) for name in found.after.images]
    sides = {"truth": settings.labels, "after": settings.predictions, "before": settings.predictions_before}
    roots = {side: source for side, source in sides.items() if source}
    inputs = Inputs(items, roots, found.notes)
    sources = ("labels", "predictions", "predictions_before")
    run = open_measuring(settings, sources, {"the boxes": found.digest}, Entry, lambda: inputs)
    return DetectionRun(settings, *run, *survey(settings, run), found)


def image_rows(found: Detections) -> Iterator[Row]:
    """Yield one row for each labelled image: how many objects it has, and how many detections are right."""
    images = len(found.after.images)
    columns: dict[str, NDArray[np.int64]] = {
        "objects": np.sum([one.objects for one in found.after.classes.values()] or [np.zeros(images, int)], axis=0)
    }
    for evidence, suffix in ((found.after, ""), (found.before, "_before")):
        if evidence is None:
            continue
        counted, right = np.zeros(images, np.int64), np.zeros(images, np.int64)
        for one in evidence.classes.values():
            np.add.at(counted, one.image, one.counted[0])
            np.add.at(right, one.image, one.correct[0] & one.counted[0])
        columns |= {f"detections{suffix}": counted, f"right_at_50{suffix}": right}
    for number, path in enumerate(found.after.images):
        yield {"path": path, "status": "ok"} | {name: int(values[number]) for name, values in columns.items()}


def score(name: str) -> Statistic:
    """Return the statistic of one of the two means over classes and overlaps."""

    def values(evidence: Evidence, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([getattr(average_precision(evidence, one), name) for one in weights])

    return values
