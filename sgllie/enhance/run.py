"""A run of `sgllie enhance`: planned, resumed or refused, counted and finished."""

import shlex
from dataclasses import dataclass
from functools import partial

from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import sums
from sgllie.images import output_name
from sgllie.methods import describe_weights
from sgllie.runs.cost import describe as describe_spent
from sgllie.runs.cost import spent
from sgllie.runs.inputs import plan_inputs
from sgllie.runs.names import REPORT
from sgllie.runs.run import Pipeline, Run, mark_finished
from sgllie.runs.run_file import Json, describe
from sgllie.runs.shard_runner import Report
from sgllie.runs.start import open_run, survey
from sgllie.runs.totals import Totals
from sgllie.runs.words import duration, outcomes, plural
from sgllie.storage import open_storage


@dataclass(frozen=True)
class EnhanceRun(Run[EnhanceSettings]):
    """One run; the root of its input is `roots["input"]`."""

    def make_pipeline(self, report: Report) -> Pipeline:
        """Make the pipeline of a worker."""
        from sgllie.enhance.pipeline import ImagePipeline

        return ImagePipeline(self.settings, self.roots["input"], report)

    def describe_plan(self) -> str:
        """Say how many images there are, what is ignored, and what a dry run would do."""
        settings, plan = self.settings, self.plan
        found = f"{plural(plan.items, 'images')} ({plan.size / 1e6:,.1f} MB) in {settings.input}"
        left = f", {len(self.shards):,} of them left" if self.resumed else ""
        lines = [f"{found}, {plural(len(plan.shards), 'shards')}{left}", *self.notes]
        if settings.dry_run:
            lines.append(f"Dry run: {self.remaining:,} would be enhanced into {settings.output}; nothing was written.")
        return "\n".join(lines)

    def finalize(self, totals: Totals) -> Json:
        """Write _SUCCESS."""
        result = self.counted(totals) | sums(totals) | spent(totals)
        mark_finished(self.output, result)
        return result

    def summarize(self, totals: Json, seconds: float) -> str:
        """Say how many images were enhanced, how their brightness changed, and where they are."""
        output = self.settings.output
        luma = f"mean luma {totals['luma_mean_in']:.2f} -> {totals['luma_mean_out']:.2f}"
        lines = [f"{plural(totals['images'], 'images')}: {outcomes(totals, 'enhanced')}; {luma}; {duration(seconds)}."]
        if not self.shards:
            lines[0] += " All of it was there already."
        if totals["retries"]:
            lines.append(f"{totals['retries']:,} requests to S3 had to be repeated.")
        lines.append(describe_spent(totals, totals["images"], self.settings.price))
        lines.append(f"Images in {output}/images, one row for each in {output}/stats.")
        lines.append(f"To look at the result: sgllie report {shlex.quote(output)} writes {output}/{REPORT}.")
        return "\n".join(lines)


def prepare(settings: EnhanceSettings) -> EnhanceRun:
    """Find the run that is to be resumed, or list the input and begin one. Nothing is written for a dry run.

    Raises:
        UsageError: there is nothing to do, or the output holds something else.
    """
    description = describe(settings, {"input": settings.input}, {}, describe_weights(settings))
    rename = partial(output_name, format=settings.format)
    list_input = partial(plan_inputs, settings, rename, settings.shard_images)
    run = open_run(settings, open_storage(settings.output, settings.s3), description, list_input)
    return EnhanceRun(settings, *run, *survey(settings, run))
