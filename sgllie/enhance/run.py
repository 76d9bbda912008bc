"""A run of `sgllie enhance`: planned, resumed or refused, counted and finished."""

import shlex
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial

from sgllie.corpus.rig import moment_of
from sgllie.enhance.inputs import list_input, renaming
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import count_others, sums
from sgllie.errors import StorageError
from sgllie.methods import describe_weights
from sgllie.network.architecture import ARCHITECTURES
from sgllie.runs.cost import describe as describe_spent
from sgllie.runs.names import COMMITS, OTHERS, REPORT
from sgllie.runs.plan import Plan
from sgllie.runs.progress import Display, display
from sgllie.runs.run import Pipeline, Run, mark_finished
from sgllie.runs.run_file import Json, describe
from sgllie.runs.schemas import OTHERS_SCHEMA, STATS_SCHEMA
from sgllie.runs.shard_runner import Report
from sgllie.runs.start import open_run, survey
from sgllie.runs.totals import Totals, add_up
from sgllie.runs.update import update
from sgllie.runs.words import duration, outcomes, plural
from sgllie.settings import check
from sgllie.storage import open_storage


@dataclass(frozen=True)
class EnhanceRun(Run[EnhanceSettings]):
    """One run; the root of its input is `roots["input"]`."""

    def make_pipeline(self, report: Report) -> Pipeline:
        """Make the pipeline of a worker."""
        from sgllie.enhance.others import OthersPipeline
        from sgllie.enhance.pipeline import ImagePipeline

        arguments = (self.settings, self.roots["input"], report)
        return ByKind(self.plan, ImagePipeline(*arguments), OthersPipeline(*arguments))

    def describe_plan(self) -> str:
        """Say how many images there are, what is ignored, and what a dry run would do."""
        settings, plan = self.settings, self.plan
        found = f"{plural(plan.items, 'images')} ({plan.size / 1e6:,.1f} MB) in {settings.input}"
        left = f", {len(self.shards):,} of them left" if self.resumed else ""
        lines = [f"{found}, {plural(len(plan.shards), 'shards')}{left}", *self.notes]
        if settings.dry_run:
            images = sum(size for shard, size in self.shards.items() if shard not in plan.others)
            lines.append(f"Dry run: {images:,} would be enhanced into {settings.output}; nothing was written.")
        return "\n".join(lines)

    def display(self) -> AbstractContextManager[Display]:
        """Return what shows how far the run is."""
        return display(self.remaining, "files" if self.plan.others else self.noun)

    def finalize(self, totals: Mapping[int, Totals]) -> Json:
        """Write _SUCCESS."""
        others = count_others(add_up(one for shard, one in totals.items() if shard in self.plan.others))
        planned = sum(self.plan.shards[shard] for shard in self.plan.others)
        if others["files"] != planned:
            raise StorageError(f"{self.output.uri}/{OTHERS} holds {others['files']} rows for {planned} files")
        result = self.counted(totals) | sums(self.of_items(totals)) | {"others": others}
        result |= self.spent(add_up(totals.values()))
        mark_finished(self.output, result)
        return result

    def summarize(self, totals: Json, seconds: float) -> str:
        """Say how many images were enhanced, how their brightness changed, and where they are."""
        output = self.settings.output
        luma = f"mean luma {totals['luma_mean_in']:.2f} -> {totals['luma_mean_out']:.2f}"
        lines = [f"{plural(totals['images'], 'images')}: {outcomes(totals, 'enhanced')}; {luma}; {duration(seconds)}."]
        if not self.shards:
            lines[0] += " All of it was there already."
        devices = totals["devices"]
        if self.device != "cpu" or "cuda" in devices:
            lines.append(f"Enhanced on GPUs: {devices.get('cuda', 0):,}; on CPUs: {devices.get('cpu', 0):,}.")
        others = totals["others"]
        if others["files"]:
            kinds = ", ".join(f"{others[kind]:,} {kind}" for kind in ("copied", "linked", "failed") if others[kind])
            lines.append(f"{plural(others['files'], 'other files')} ({others['bytes'] / 1e6:,.1f} MB): {kinds}.")
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
    weights = describe_weights(settings)
    if settings.rig and weights and not ARCHITECTURES[weights["architecture"]].global_term:
        rule = f"must be left out with weights of the architecture {weights['architecture']}, which has no global term"
        check(False, "--rig", settings.rig, rule)
    description = describe(settings, {"input": settings.input}, {}, weights)
    output = open_storage(settings.output, settings.s3)
    listing = partial(list_input, settings)
    run = open_run(settings, output, description, listing)
    if settings.update and run.resumed:
        schemas = {COMMITS: STATS_SCHEMA, OTHERS: OTHERS_SCHEMA}
        run = update(run, settings, listing, renaming(settings), schemas, moment_of(settings.rig))
    return EnhanceRun(settings, *run, *survey(settings, run))


class ByKind(Pipeline):
    """Runs shards of images, and those of other files, each by a pipeline of their own."""

    def __init__(self, plan: Plan, images: Pipeline, others: Pipeline) -> None:
        self.plan, self.images, self.others = plan, images, others

    def run(self, shard: int) -> Totals:
        """Do all of a shard, and return what its rows come to; errors as of `ShardRunner.run`."""
        pipeline = self.others if shard in self.plan.others else self.images
        totals = pipeline.run(shard)
        self.used_gpu = pipeline.used_gpu
        return totals

    def slow(self) -> str:
        """Name the items that take long."""
        return self.images.slow()  # no file is looked into

    def leave(self) -> None:
        """Have `run` raise LeavingError, whichever of them is at work."""
        self.images.leave()
        self.others.leave()
