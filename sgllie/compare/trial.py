"""One method on one image: what a worker of `sgllie compare` does with it."""

import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sgllie import images
from sgllie.compare.settings import INPUT, CompareSettings
from sgllie.errors import Failure, failure_of
from sgllie.evaluate.image_measure import eight_bit_rgb, value
from sgllie.evaluate.memory import KEPT_BYTES
from sgllie.evaluate.problems import Problems
from sgllie.images import Pixels
from sgllie.methods import METHODS, make_method
from sgllie.methods.registry import MethodInfo
from sgllie.metrics import METRICS
from sgllie.report.gallery import thumbnail
from sgllie.runs.schemas import Row

THUMBNAIL_BYTES = 30_000
METHOD_BYTES = 25
"""For each pixel that a method works on, beside what `MethodInfo` says."""


class Trial(NamedTuple):
    """One method on one image; `truth` is its reference, and `shown` asks for a thumbnail of the result."""

    path: str
    size: int | None
    version: str
    method: str
    truth: str | None
    problem: str | None
    shown: bool


class TrialRunner:
    """All methods, made once, and what is measured on their results. Thread-safe."""

    def __init__(self, settings: CompareSettings) -> None:
        self.settings = settings
        self.methods = {label: make_method(method) for label, method in settings.method_settings.items()}
        self.metrics = [METRICS[name] for name in settings.chosen_metrics(has_input=True)]
        self.warm: set[str] = set()

    @property
    def pixel_bytes(self) -> float:
        """Bytes of memory for each pixel that a method, or a metric of its result, needs at its peak."""
        chosen = self.settings.method_settings.values()
        methods = [bytes_of(METHODS[one.method], one.scale_factor) for one in chosen]
        return max(*methods, *(KEPT_BYTES + metric.pixel_bytes for metric in self.metrics))

    def __call__(self, trial: Trial, files: Mapping[str, bytes], missing: Sequence[Failure]) -> Row:
        """Return the columns of one trial, whatever happens.

        Args:
            trial: what to do.
            files: the bytes of the image (`before`) and its reference (`truth`), as far as they could be read.
            missing: why others could not.
        """
        problems = Problems(missing)
        row: Row = {}
        try:
            if "before" in files:
                row = self._measure(trial, files["before"], files.get("truth"), problems)
        except Exception as error:
            problems.add(*failure_of(error))
        return row | problems.columns()

    def _measure(self, trial: Trial, data: bytes, truth: bytes | None, problems: Problems) -> Row:
        image = self._decoded(data)
        reference = self._decoded(truth) if truth is not None else None
        row: Row = {}
        enhanced = image
        if trial.method != INPUT:
            method = self.methods[trial.method]
            if trial.method not in self.warm:
                method(image)  # compiled, loaded and cached by the first call, which is no measure of the others
                self.warm.add(trial.method)
            started = time.perf_counter()
            enhanced, _, row["device"] = method.enhance(image)
            row["milliseconds"] = (time.perf_counter() - started) * 1000
        if trial.shown:
            row["thumbnail"] = thumbnail(eight_bit_rgb(enhanced), THUMBNAIL_BYTES).uri
        others = {"truth": reference, "input": image}
        for metric in self.metrics:
            row[metric.name] = value(metric, enhanced, others, problems, "the result")
        return row

    def _decoded(self, data: bytes) -> Pixels:
        return images.decode(data, max_pixels=self.settings.max_pixels, exif_orientation="apply").pixels


def bytes_of(method: MethodInfo, scale_factor: int) -> float:
    """Return the bytes of memory that a method needs for each pixel."""
    return METHOD_BYTES + method.pixel_bytes + method.sample_bytes / scale_factor**2
