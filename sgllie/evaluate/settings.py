"""The settings of `sgllie evaluate`: one frozen dataclass, from which the command line is made."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Literal

import tyro

from sgllie.corpus.path_list import LIST_SUFFIXES
from sgllie.corpus.patterns import has_wildcards
from sgllie.errors import UsageError
from sgllie.images import MAX_PIXELS
from sgllie.metrics import METRICS, Metric
from sgllie.runs.settings import JobSettings
from sgllie.settings import check, setting, split_names

Task = Literal["segmentation", "detection", "darkcityscape"]


@dataclass(frozen=True, kw_only=True)
class MeasuringSettings(JobSettings):
    """How images are measured over the cluster: what evaluating and comparing have in common."""

    metrics: str | None = None
    """Names separated by commas: psnr, ssim, lpips, niqe, brisque, loe, brightness, contrast, entropy, colourfulness,
    clipped, black. By default all that can be computed but lpips: psnr and ssim need --reference, loe the images
    before; lpips needs --reference, and the weights of AlexNet, which torchvision fetches if its cache lacks them."""
    reference: Annotated[str | None, tyro.conf.arg(metavar="GT")] = None
    """Well-lit pictures of the same scenes under the same names: folder, s3://bucket/prefix, glob or list."""
    name_endings: str = ""
    """Endings of names to ignore when names are matched (_gtFine_labelIds), separated by commas."""
    image_column: str | None = None
    """Column of Parquet files that holds the images; by default it is found by what it holds."""
    max_pixels: int = setting(MAX_PIXELS, least=1)
    """Larger images are recorded as failed instead of decoded."""
    threads: int = setting(1, least=1, changes_output=False)
    """Images that one worker measures at the same time."""
    deadline: float = setting(600.0, least=1, changes_output=False)
    """Seconds that the work on one row may take; one that takes longer is recorded as failed (timeout)."""
    shard_images: int = setting(1000, least=1, changes_output=False)
    """Most images that are committed together."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in split_names(self.metrics):
            check(
                name in METRICS, "--metrics", self.metrics, f"may hold {', '.join(METRICS)}; {name!r} is none of them"
            )

    @property
    def endings(self) -> tuple[str, ...]:
        """Return the endings of names that do not count."""
        return split_names(self.name_endings)

    def chosen_metrics(self, has_input: bool) -> list[str]:
        """Return the metrics to compute; UsageError where one lacks the images that it compares with, or its weights.

        Args:
            has_input: whether there are images before enhancement.
        """
        at_hand = {"none": True, "truth": self.reference is not None, "input": has_input}
        for name in split_names(self.metrics):
            needs = METRICS[name].reference
            lacks = "well-lit pictures: --reference" if needs == "truth" else "the images before enhancement: --before"
            check(at_hand[needs], "--metrics", self.metrics, f"holds {name}, which needs {lacks}")
            load_weights(METRICS[name])
        return list(split_names(self.metrics)) or [
            name for name, metric in METRICS.items() if at_hand[metric.reference] and metric.load is None
        ]


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(MeasuringSettings):
    """Measure images before and after enhancement, or what a segmenter or detector made of them.

    One row for each image, and a table with 95 % intervals. The same command again goes on where it was stopped.
    """

    images: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")] = None
    """Output of `sgllie enhance`, or any folder, s3://bucket/prefix, glob or list of enhanced images."""
    before: Annotated[str | None, tyro.conf.arg(metavar="IN")] = None
    """The images before enhancement, under the same names. An output of `sgllie enhance` knows where they are."""
    output: Annotated[str, tyro.conf.arg(name="out", metavar="RESULT")] = setting("", changes_output=False)
    """Folder or s3://bucket/prefix for the result; by default beside OUT, with -evaluation at the end of its name."""

    task: Task | None = None
    """What --predictions are. darkcityscape: only the binary threshold score of the DarkCityScape tables."""
    predictions: str | None = None
    """What was predicted on the enhanced images. segmentation: folder or prefix of label maps (PNG, BMP or TIFF).
    detection: COCO JSON, BDD100K JSON, or folder of YOLO text files with boxes or outlines."""
    predictions_before: str | None = None
    """What was predicted on the images before enhancement."""
    labels: str | None = None
    """The true label maps or boxes, of the same kinds."""
    classes: str = "cityscapes-train-ids"
    """segmentation: cityscapes-train-ids, cityscapes-ids, or a JSON file: a list of {"name", "ids", "colours"}, one for
    each class; "name": null lists values that belong to no class, as id 255 and black do. A map of which more than
    5 % are other values fails. detection with YOLO files: a text file with the name of one class in each line."""
    ignore_label: int = 255
    """segmentation: class number of labels that do not count."""
    rename: str = ""
    """detection: what the labels call classes of the predictions (person=pedestrian,motorbike=motorcycle)."""
    image_sizes: str | None = None
    """detection with YOLO files: the folder or prefix of the images, whose sizes are needed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.task is None:
            check(self.images is not None, "OUT", "missing", "must name the enhanced images, or give --task")
            lonely = [name for name in ("predictions", "predictions_before", "labels") if getattr(self, name)]
            check(not lonely, "--task", "missing", "must say what the predictions are: segmentation or detection")
        else:
            check(self.images is None, "OUT", self.images, "must be left out with --task; see --predictions")
            for name in ("predictions", "labels"):
                check(getattr(self, name) is not None, f"--{name}", "missing", f"is needed with --task {self.task}")
            for name in ("reference", "before", "metrics"):
                check(getattr(self, name) is None, f"--{name}", getattr(self, name), "must be left out with --task")
        object.__setattr__(self, "output", self.output or self._default_output())

    def _default_output(self) -> str:
        """Return where the result goes if the user does not say: beside what is measured."""
        measured = (self.images or self.predictions or "").rstrip("/")
        if has_wildcards(measured) or ("://" in measured and measured.count("/") == 2):
            raise UsageError(f"--out is missing; it must say where the result for {measured} goes")
        is_file = PurePosixPath(measured).suffix.lower() in (".json", *LIST_SUFFIXES)
        return (measured.removesuffix(PurePosixPath(measured).suffix) if is_file else measured) + "-evaluation"


def load_weights(metric: Metric) -> None:
    """Load what a metric needs, if it needs anything; UsageError if that cannot be had."""
    try:
        if metric.load:
            metric.load()
    except OSError as error:
        raise UsageError(
            f"--metrics holds {metric.name}, whose weights are not in TORCH_HOME/hub/checkpoints and cannot be fetched "
            f"({error}); put them there, or leave it out"
        ) from error
