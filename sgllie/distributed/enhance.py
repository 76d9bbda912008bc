"""The enhancement job: shards of the manifest over a pool of Ray Data actors, each of which holds the model."""

import shlex
from collections.abc import Callable
from typing import Any

from sgllie.corpus import REPORT, Row
from sgllie.distributed.shards import Job, Pipeline, Tally, carry_out, run_shards
from sgllie.progress import duration
from sgllie.run import Run, count, finish, prepare
from sgllie.settings import EnhanceSettings


def enhance(settings: EnhanceSettings) -> int:
    """Run the job to its end.

    Returns:
        The exit code: 0 all images are there, 3 finished with failed images, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    return carry_out(Job(prepare, opening, work, finish, closing), settings)


def work(run: Run) -> str | None:
    """Run the shards that are left; the reason, if the job was stopped before the end."""
    limit = run.settings.max_failures
    before = count(run.output)["failed"] if limit and run.resumed and not run.settings.retry_failed else 0
    tally = Tally(run.remaining, run.plan.images, before, limit)
    return run_shards(run.settings, run.shards, tally, make_pipeline, run.root)


def make_pipeline(settings: EnhanceSettings, root: str, report: Callable[[Row], None]) -> Pipeline:
    """What a worker holds."""
    # Imported here, since the driver imports this module too, and would wait a second for a model it never runs.
    from sgllie.pipeline import ShardPipeline

    return ShardPipeline(settings, root, report)


def opening(run: Run) -> str:
    """What is about to be done, in words."""
    ignored, examples = run.ignored
    settings, plan = run.settings, run.plan
    lines = [
        f"{plan.images:,} images ({plan.size / 1e6:,.1f} MB) in {settings.input}, {len(plan.shards):,} shards"
        + (f", {len(run.shards):,} of them left" if run.resumed else "")
    ]
    if ignored:
        named = ", ".join(examples[:5]) + (", ..." if ignored > 5 else "")
        lines.append(f"{ignored:,} other files ignored: {named}")
    if settings.dry_run:
        lines.append(f"Dry run: {run.remaining:,} would be enhanced into {settings.output}; nothing was written.")
    return "\n".join(lines)


def closing(run: Run, totals: dict[str, Any], seconds: float) -> str:
    """What was done, in words."""
    output = run.settings.output
    parts = [f"{totals['ok']:,} enhanced"]
    if totals["copied"]:
        parts.append(f"{totals['copied']:,} copied")
    if totals["failed"]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in totals["errors"].items())
        parts.append(f"{totals['failed']:,} failed ({kinds})")
    lines = [
        f"{totals['images']:,} images: {', '.join(parts)}; "
        f"mean luminance {totals['luminance_mean_in']:.2f} -> {totals['luminance_mean_out']:.2f}; {duration(seconds)}."
    ]
    if not run.shards:
        lines[0] += " All of it was there already."
    if totals["retries"]:
        lines.append(f"{totals['retries']:,} requests to S3 had to be repeated.")
    lines.append(f"Images in {output}/images, one row for each in {output}/stats.")
    lines.append(f"To look at what it did: sgllie report {shlex.quote(output)} writes {output}/{REPORT}.")
    return "\n".join(lines)
