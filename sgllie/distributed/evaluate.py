"""The evaluation job: pictures before and after enhancement measured over a pool of Ray Data actors."""

import time
from collections.abc import Callable
from typing import Any

from sgllie.corpus import Row
from sgllie.distributed.shards import OK, STOPPED, Job, Pipeline, Tally, carry_out, run_shards, say
from sgllie.evaluation import detection
from sgllie.evaluation.evaluate import finish, prepare
from sgllie.evaluation.run import MeasuringRun, failed_before
from sgllie.evaluation.settings import EvaluateSettings
from sgllie.evaluation.summary import Comparison
from sgllie.evaluation.table import classes_text, comparisons_text, worst_text
from sgllie.progress import duration
from sgllie.storage import StorageError


def evaluate(settings: EvaluateSettings) -> int:
    """Run the job to its end.

    Returns:
        The exit code: 0 all is measured, 3 finished with failed rows, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    if settings.task == "detection":
        return evaluate_detections(settings)
    return carry_out(Job(prepare, opening, work, finish, closing), settings)


def evaluate_detections(settings: EvaluateSettings) -> int:
    """Without a cluster: labels and boxes are small."""
    started = time.monotonic()
    run, found = detection.prepare(settings)
    say(opening(run))
    if settings.dry_run:
        return OK
    try:
        detection.work(run, found)
        totals = detection.finish(run, found)
    except StorageError as error:
        say(f"Stopped: {error}.")
        return STOPPED
    say(closing(run, totals, time.monotonic() - started))
    return OK


def work(run: MeasuringRun) -> str | None:
    """Measure what is left; the reason, if the job was stopped before the end."""
    return measure(run, "images", make_pipeline)


def measure(run: MeasuringRun, noun: str, make: Callable[..., Pipeline]) -> str | None:
    """Run the shards that are left over the pool; the reason, if the job was stopped before the end."""
    limit = run.settings.max_failures
    before = failed_before(run) if limit and run.resumed else 0
    tally = Tally(run.remaining, run.plan.images, before, limit, noun)
    return run_shards(run.settings, run.shards, tally, make, run.roots)


def make_pipeline(settings: EvaluateSettings, roots: dict[str, str], report: Callable[[Row], None]) -> Pipeline:
    """What a worker holds."""
    from sgllie.evaluation.pipeline import EvaluationPipeline

    return EvaluationPipeline(settings, roots, report)


def opening(run: MeasuringRun, noun: str = "images") -> str:
    """What is about to be done, in words."""
    plan = run.plan
    size = f" ({plan.size / 1e6:,.1f} MB)" if plan.size else ""
    left = f", {len(run.shards):,} of them left" if run.resumed else ""
    lines = [f"{plan.images:,} {noun}{size} to measure, {len(plan.shards):,} shards{left}", *run.notes]
    if run.settings.dry_run:
        lines.append(f"Dry run: the result would go into {run.settings.output}; nothing was written.")
    return "\n".join(lines)


def closing(run: MeasuringRun, totals: dict[str, Any], seconds: float) -> str:
    """What was found, in words."""
    comparisons = [Comparison(**one) for one in totals["metrics"]]
    parts = [
        comparisons_text(comparisons),
        classes_text(totals.get("classes", {})),
        worst_text(totals.get("worst", [])),
        outcome(run, totals, "images", seconds),
    ]
    return "\n\n".join(part for part in parts if part)


def outcome(run: MeasuringRun, totals: dict[str, Any], noun: str, seconds: float) -> str:
    """How many rows there are, how many failed, and where they lie."""
    failed = ""
    if totals["failed"]:
        kinds = ", ".join(f"{number:,} {kind}" for kind, number in totals["errors"].items())
        failed = f", {totals['failed']:,} failed ({kinds})"
    done = f"{totals['images']:,} {noun}: {totals['ok']:,} measured{failed}; {duration(seconds)}."
    if not run.shards:
        done += " All of it was there already."
    output = run.settings.output
    return f"{done}\nOne row for each in {output}/stats, this table in {output}/summary.json."
