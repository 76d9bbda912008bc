"""The comparison job: methods side by side over a pool of Ray Data actors."""

from collections.abc import Callable
from typing import Any

from sgllie.corpus import Row
from sgllie.distributed.evaluate import measure, opening, outcome
from sgllie.distributed.shards import Job, Pipeline, carry_out
from sgllie.evaluation.compare import finish, prepare
from sgllie.evaluation.compare_settings import CompareSettings
from sgllie.evaluation.run import COMPARISON, MeasuringRun
from sgllie.evaluation.table import methods_text

NOUN = "attempts"


def compare(settings: CompareSettings) -> int:
    """Run the job to its end.

    Returns:
        The exit code: 0 all is measured, 3 finished with failed rows, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    return carry_out(Job(prepare, lambda run: opening(run, NOUN), work, finish, closing), settings)


def work(run: MeasuringRun) -> str | None:
    """Measure what is left; the reason, if the job was stopped before the end."""
    return measure(run, NOUN, make_pipeline)


def make_pipeline(settings: CompareSettings, roots: dict[str, str], report: Callable[[Row], None]) -> Pipeline:
    """What a worker holds."""
    from sgllie.evaluation.contest import ComparePipeline

    return ComparePipeline(settings, roots, report)


def closing(run: MeasuringRun, totals: dict[str, Any], seconds: float) -> str:
    """What was found, in words."""
    metrics = run.settings.chosen_metrics(has_input=True)
    page = f"To look at: {run.settings.output}/{COMPARISON}"
    return f"{methods_text(totals['methods'], metrics)}\n\n{outcome(run, totals, NOUN, seconds)}\n{page}"
