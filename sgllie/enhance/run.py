"""A run of `sgllie enhance`: planned, resumed or refused, counted and finished."""

import shlex
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.compute as pc

from sgllie.corpus.columns import fingerprint, list_columns
from sgllie.corpus.listing import Listing
from sgllie.corpus.patterns import Patterns
from sgllie.enhance.renamed import renamed_note
from sgllie.enhance.settings import EnhanceSettings
from sgllie.images import OutputFormat, output_name
from sgllie.methods import describe_weights
from sgllie.runs.inputs import plan_inputs
from sgllie.runs.names import REPORT, part_name
from sgllie.runs.plan import Plan
from sgllie.runs.progress import Display, display
from sgllie.runs.run import Pipeline, Run, count_others, count_rows, mark_finished, open_run, shards_to_do, stats_tables
from sgllie.runs.run_file import Json, describe
from sgllie.runs.shard_runner import Report
from sgllie.runs.tables import items_in, with_columns
from sgllie.runs.words import duration, outcomes, plural
from sgllie.settings import split_names
from sgllie.storage import Entry, absolute_uri, open_storage
from sgllie.storage.parquet import from_parquet, to_parquet


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

    def finalize(self) -> Json:
        """Count the rows and write _SUCCESS."""
        totals = count_rows(self.output, self.plan) | sums(self) | {"others": count_others(self.output, self.plan)}
        mark_finished(self.output, totals)
        return totals

    def summarize(self, totals: Json, seconds: float) -> str:
        """Say how many images were enhanced, how their brightness changed, and where they are."""
        output = self.settings.output
        luma = f"mean luma {totals['luma_mean_in']:.2f} -> {totals['luma_mean_out']:.2f}"
        lines = [f"{plural(totals['images'], 'images')}: {outcomes(totals, 'enhanced')}; {luma}; {duration(seconds)}."]
        if not self.shards:
            lines[0] += " All of it was there already."
        others = totals["others"]
        if others["files"]:
            kinds = ", ".join(f"{others[kind]:,} {kind}" for kind in ("copied", "linked", "failed") if others[kind])
            lines.append(f"{plural(others['files'], 'other files')} ({others['bytes'] / 1e6:,.1f} MB): {kinds}.")
        if totals["retries"]:
            lines.append(f"{totals['retries']:,} requests to S3 had to be repeated.")
        lines.append(f"Images in {output}/images, one row for each in {output}/stats.")
        lines.append(f"To look at the result: sgllie report {shlex.quote(output)} writes {output}/{REPORT}.")
        return "\n".join(lines)


def prepare(settings: EnhanceSettings) -> EnhanceRun:
    """List the input, and begin a run or find the one that is to be resumed. Nothing is written for a dry run.

    Raises:
        UsageError: there is nothing to do, or the output holds something else.
    """
    output = open_storage(settings.output, settings.s3)
    weights = describe_weights(settings)
    with TemporaryDirectory(prefix="sgllie-") as scratch:
        listing, manifest = list_input(settings), Path(scratch)
        rename, carries_others = renaming(listing, settings.format), settings.others != "skip"
        inputs = plan_inputs(
            listing, settings.limit, rename, settings.shard_images, manifest, carries_others=carries_others
        )
        notes = [*inputs.notes, *noted_names(settings, listing, inputs.plan, manifest)]
        fingerprints = add_columns(settings, listing, manifest) if settings.columns else {}
        description = describe(settings, inputs.plan, inputs.describe(), fingerprints, weights)
        plan, resumed = open_run(settings, output, inputs.plan, manifest, description)
    shards = shards_to_do(settings, output, plan, resumed)
    return EnhanceRun(settings, output, plan, shards, resumed, inputs.roots, notes)


def list_input(settings: EnhanceSettings) -> Listing:
    """Return the input, with what the user includes and excludes."""
    left_out, included = Patterns(settings.exclude, "--exclude"), Patterns(settings.include, "--include")
    output = absolute_uri(settings.output)
    return Listing(settings.input, settings.s3, output, left_out=left_out, included=included)


def renaming(listing: Listing, format: OutputFormat) -> Callable[[str], str]:
    """Return what makes the path of an output of that of an image: label maps keep their names in any format."""
    return lambda path: path if listing.is_label_map(path) else output_name(path, format)


def noted_names(settings: EnhanceSettings, listing: Listing, plan: Plan, manifest: Path) -> list[str]:
    """Return what the user is to know of files that name images, where these get new names."""
    if settings.format == "same" or not plan.others:
        return []
    parts = (manifest / part_name(shard) for shard in plan.others)
    others = (entry for part in parts for entry in items_in(part.read_bytes(), Entry))
    images = items_in((manifest / part_name(0)).read_bytes(), Entry)
    return renamed_note(open_storage(listing.root, settings.s3), images, others, renaming(listing, settings.format))


def add_columns(settings: EnhanceSettings, listing: Listing, manifest: Path) -> dict[str, str]:
    """Append columns of the input list to the parts of a manifest in a local folder; return their fingerprint."""
    names = split_names(settings.columns)
    columns = list_columns(listing, names)
    for part in manifest.glob("part-*.parquet"):
        part.write_bytes(to_parquet(with_columns(from_parquet(part.read_bytes()), columns, names)))
    return {"the columns of the list": fingerprint(columns)}


class ByKind:
    """Runs shards of images, and those of other files, each by a pipeline of their own."""

    def __init__(self, plan: Plan, images: Pipeline, others: Pipeline) -> None:
        self.plan, self.images, self.others = plan, images, others

    def run(self, shard: int) -> None:
        """Do all of a shard."""
        (self.others if shard in self.plan.others else self.images).run(shard)


def sums(run: EnhanceRun) -> Json:
    """Add up bytes and repeated requests over all rows, average the luma of those that have one, count the reasons."""
    names = ("bytes_in", "bytes_out", "retries", "luma_mean_in", "luma_mean_out")
    total = dict.fromkeys(names, 0.0)
    good = 0
    reasons: Counter[str] = Counter()
    for table in stats_tables(run.output, [*names, "status", "reason"]):
        is_good = pc.and_(pc.not_equal(table["status"], "failed"), pc.is_valid(table["luma_mean_in"]))
        good += pc.sum(is_good).as_py() or 0
        reasons.update(reason.partition(":")[0] for reason in table["reason"].drop_null().to_pylist())
        for name in names:
            values = table[name].filter(is_good) if name.startswith("luma") else table[name]
            total[name] += pc.sum(values).as_py() or 0
    counts = {name: int(total[name]) for name in names[:3]}
    luma = {name: round(total[name] / max(good, 1), 4) for name in names[3:]}
    return {"reasons": dict(sorted(reasons.items())), **counts, **luma}
