"""An evaluation of detections: gathered on one machine, since labels and boxes are small."""

import hashlib
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image

from sgllie.corpus.listing import Listing
from sgllie.errors import StorageError, UsageError
from sgllie.evaluate import summary
from sgllie.evaluate.run import MeasuringRun, open_measuring
from sgllie.evaluate.settings import EvaluateSettings, split_names
from sgllie.metrics.bootstrap import Statistic
from sgllie.metrics.boxes import BoxesOfImages, read_bdd100k, read_coco, read_yolo, stem
from sgllie.metrics.detection import Evidence, average_precision, match
from sgllie.metrics.labels import SCHEMES
from sgllie.runs.names import STATS, part_name
from sgllie.runs.run import Pipeline, count_rows
from sgllie.runs.run_file import Json
from sgllie.runs.schemas import Row, both_sides, row_schema
from sgllie.runs.shard_runner import Report
from sgllie.runs.tables import row_bytes
from sgllie.storage import Entry, Storage, open_storage, split_uri

RESAMPLES = 500
SCORES = ("map50", "map50_95")


ROW_SCHEMA = row_schema([("objects", pa.int64()), *both_sides(["detections", "right_at_50"], pa.int64())])


@dataclass(frozen=True)
class Detections:
    """What was labelled and what was detected.

    Attributes:
        after, before: matched with the labels; `before` None where there is nothing before.
        digest: of all files.
        unlabelled: images with predictions, but without labels.
    """

    after: Evidence
    before: Evidence | None
    digest: str
    unlabelled: int


def read_detections(settings: EvaluateSettings) -> Detections:
    """Read all boxes, and match them.

    Raises:
        UsageError: a file cannot be read, or is of no known kind.
    """
    assert settings.labels is not None
    digest = hashlib.sha256()
    labels = read_boxes(settings.labels, settings, digest)
    if not labels:
        raise UsageError(f"--labels {settings.labels} holds no image")
    chosen = {name: labels[name] for name in sorted(labels)[: settings.limit]}
    evidence: dict[str, Evidence] = {}
    unlabelled: set[str] = set()
    for side, source in (("after", settings.predictions), ("before", settings.predictions_before)):
        if source is None:
            continue
        predictions = read_boxes(source, settings, digest)
        unlabelled |= predictions.keys() - labels.keys()
        try:
            evidence[side] = match(chosen, predictions, renamed(settings.rename))
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from error
        except ImportError as error:
            raise UsageError("detections need pycocotools: pip install sgllie[detection]") from error
    return Detections(evidence["after"], evidence.get("before"), digest.hexdigest(), len(unlabelled))


def renamed(text: str) -> dict[str, str]:
    """`person=pedestrian, motorbike=motorcycle` -> a table; UsageError for anything else."""
    pairs = [name.split("=") for name in split_names(text)]
    if any(len(pair) != 2 for pair in pairs):
        raise UsageError(f"--rename is {text}; it must be pairs such as person=pedestrian,motorbike=motorcycle")
    return {old.strip(): new.strip() for old, new in pairs}


def read_boxes(source: str, settings: EvaluateSettings, digest: Any) -> BoxesOfImages:
    """The boxes of a COCO or BDD100K file, or of a folder of YOLO files; `digest` takes in their bytes."""
    try:
        if not source.endswith(".json"):
            return yolo(source, settings, digest)
        text = read(source, settings)
        digest.update(text)
        content = json.loads(text)
        frames = content.get("frames", []) if isinstance(content, dict) else content
        if frames and isinstance(frames[0], dict) and "name" in frames[0]:
            return read_bdd100k(text)
        if not isinstance(content, list):
            return read_coco(text)
        if not content:
            return {}
        labels = str(settings.labels)
        return read_coco(text, read(labels, settings) if labels.endswith(".json") else None)
    except ValueError as error:
        raise UsageError(f"{source}: {error}") from error
    except (OSError, StorageError) as error:
        raise UsageError(f"{source} cannot be read: {error}") from error


def read(source: str, settings: EvaluateSettings) -> bytes:
    """All bytes of one local or remote file."""
    folder, name = split_uri(source)
    return open_storage(folder, settings.s3).read(name)


def yolo(source: str, settings: EvaluateSettings, digest: Any) -> BoxesOfImages:
    """A folder of YOLO text files, whose boxes are shares of the images' sizes."""
    if settings.image_sizes is None:
        raise UsageError(
            f"{source} is no .json, so it must be a folder of YOLO files: --image-sizes must name the images"
        )
    if settings.classes in SCHEMES:
        raise UsageError(
            f"{source} holds YOLO files, so --classes must name a text file with the name of one class in each line"
        )
    classes = read(settings.classes, settings).decode().split("\n")
    names = [name.strip() for name in classes if name.strip()]
    texts = {}
    storage = open_storage(source, settings.s3)
    for entry in storage.list():
        if PurePosixPath(entry.path).suffix == ".txt":
            data = storage.read(entry.path)
            digest.update(entry.path.encode() + data)
            texts[entry.path] = data.decode()
    if not texts:
        raise UsageError(f"{source} is neither a .json file nor a folder of YOLO .txt files")
    listing = Listing(settings.image_sizes, settings.s3)
    wanted = {stem(name) for name in texts}
    images = open_storage(listing.root, settings.s3)
    sizes = {entry.path: size_of(images, entry.path) for entry in listing if stem(entry.path) in wanted}
    return read_yolo(texts, sizes, names)


def size_of(images: Storage, path: str) -> tuple[int, int]:
    """Width and height of an image, which its first bytes tell."""
    with Image.open(io.BytesIO(images.read(path))) as image:
        return image.size


@dataclass(frozen=True)
class DetectionRun(MeasuringRun[EvaluateSettings]):
    """An evaluation of detections; all boxes are read and matched before it begins."""

    found: Detections | None = None

    def make_pipeline(self, report: Report) -> Pipeline:
        """Make what writes the rows of a shard."""
        return DetectionPipeline(self)

    def finalize(self) -> Json:
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
        counted = count_rows(self.output, self.plan)
        return self.mark_finished(counted | {"metrics": [asdict(one) for one in comparisons], "classes": classes})

    def summarize(self, totals: Json, seconds: float) -> str:
        """Write what was found."""
        return self.result(totals, seconds)


class DetectionPipeline:
    """Writes the rows of shards."""

    def __init__(self, run: DetectionRun) -> None:
        assert run.found is not None
        self.output = run.output
        self.rows = list(image_rows(run.found))
        self.starts = np.concatenate([[0], np.cumsum(run.plan.shards)]).tolist()

    def run(self, shard: int) -> None:
        """Write the rows of one shard."""
        rows = self.rows[self.starts[shard] : self.starts[shard + 1]]
        self.output.write(f"{STATS}/{part_name(shard)}", row_bytes(rows, ROW_SCHEMA))


def prepare(settings: EvaluateSettings) -> DetectionRun:
    """Read all boxes, and begin an evaluation or find the one that is to be resumed.

    Raises:
        UsageError: a file cannot be read, or the result folder holds something else.
    """
    found = read_detections(settings)
    notes = [f"{found.unlabelled:,} images have predictions but no labels, and do not count"] * bool(found.unlabelled)
    items = [Entry(name, None, found.digest) for name in found.after.images]
    sides = {"truth": settings.labels, "after": settings.predictions, "before": settings.predictions_before}
    roots = {side: source for side, source in sides.items() if source}
    return DetectionRun(settings, *open_measuring(settings, items, Entry, roots, {}), roots, notes, found)


def image_rows(found: Detections) -> Iterator[Row]:
    """One row for each labelled image: how many objects it has, and how many detections are right."""
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
    """One of the two means over classes and overlaps."""

    def values(evidence: Evidence, weights: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.array([getattr(average_precision(evidence, one), name) for one in weights])

    return values
