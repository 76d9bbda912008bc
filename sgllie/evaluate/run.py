"""A run of `sgllie evaluate` on images or label maps: planned, resumed or refused, summed up and finished."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from sgllie.evaluate import summary
from sgllie.evaluate.inputs import Inputs, find_inputs, fingerprint_of_run
from sgllie.evaluate.map_measures import UNKNOWN_COLUMNS, label_scheme
from sgllie.evaluate.matching import Item
from sgllie.evaluate.measures import make_measure
from sgllie.evaluate.settings import EvaluateSettings, MeasuringSettings
from sgllie.evaluate.summary import Comparison
from sgllie.evaluate.table import classes_text, comparisons_text, undefined_text, unknown_text, worst_text
from sgllie.runs.commits import commit_tables
from sgllie.runs.cost import SPENT
from sgllie.runs.cost import describe as describe_spent
from sgllie.runs.names import SUMMARY
from sgllie.runs.plan import Plan, write_manifest
from sgllie.runs.run import Pipeline, Run, mark_finished
from sgllie.runs.run_file import Json, as_json, describe
from sgllie.runs.shard_runner import Report
from sgllie.runs.start import Opened, open_run, survey
from sgllie.runs.totals import Totals, add_up
from sgllie.runs.words import duration, outcomes, plural
from sgllie.storage import open_storage

DARK_CITYSCAPE = ("dark_miou", "dark_mpa")

SettingsT = TypeVar("SettingsT", bound=MeasuringSettings)


@dataclass(frozen=True)
class MeasuringRun(Run[SettingsT]):
    """What measuring one's images and comparing methods on them have in common."""

    def describe_plan(self) -> str:
        """Say how much there is to measure."""
        plan = self.plan
        size = f" ({plan.size / 1e6:,.1f} MB)" if plan.size else ""
        left = f", {len(self.shards):,} of them left" if self.resumed else ""
        lines = [f"{plural(plan.items, self.noun)}{size} to measure, {plural(len(plan.shards), 'shards')}{left}"]
        lines += self.notes
        if self.settings.dry_run:
            lines.append(f"Dry run: the result would go into {self.settings.output}; nothing was written.")
        return "\n".join(lines)

    def rows(self) -> pa.Table:
        """Return the rows of all shards."""
        return pa.concat_tables(commit_tables(self.output))

    def counted(self, totals: Mapping[int, Totals]) -> Json:
        """Return the counts, how many bytes the listing tells of, and what it took; errors as of `Run.counted`."""
        read = {"bytes_in": self.plan.size} | self.spent(add_up(totals.values()))
        return super().counted(totals) | read

    def mark_finished(self, result: Json) -> Json:
        """Write the summary, and mark the run as finished."""
        self.output.write(SUMMARY, as_json(result))
        told = ("images", "ok", "failed", "errors", "finished", "bytes_in", *SPENT, "wall_seconds")
        mark_finished(self.output, {name: result[name] for name in told})
        return result

    def outcome(self, totals: Json, seconds: float) -> str:
        """Say how many rows there are, how many failed, and where they lie."""
        done = f"{plural(totals['images'], self.noun)}: {outcomes(totals, 'measured')}; {duration(seconds)}."
        if not self.shards:
            done += " All of it was there already."
        output = self.settings.output
        cost = describe_spent(totals, totals["images"], self.settings.price)
        return f"{done}\n{cost}\nOne row for each in {output}/stats, this table in {output}/summary.json."

    def summarize(self, totals: Json, seconds: float) -> str:
        """Write the tables of what was measured before and after."""
        parts = [
            comparisons_text([Comparison(**one) for one in totals["metrics"]]),
            classes_text(totals.get("classes", {})),
            worst_text(totals.get("worst", [])),
            undefined_text(totals.get("undefined", {}), self.noun),
            unknown_text(totals.get("unknown", {})),
            self.outcome(totals, seconds),
        ]
        return "\n\n".join(part for part in parts if part)


@dataclass(frozen=True)
class EvaluateRun(MeasuringRun[EvaluateSettings]):
    """One run; its roots are those of the sides `after`, `before` and `truth`."""

    def make_pipeline(self, report: Report) -> Pipeline:
        """Make the pipeline of a worker."""
        from sgllie.evaluate.pipeline import EvaluatePipeline

        return EvaluatePipeline(self.settings, self.roots, report)

    def finalize(self, totals: Mapping[int, Totals]) -> Json:
        """Sum up all rows; write summary.json and _SUCCESS."""
        settings, counted = self.settings, self.counted(totals)
        table = self.rows()
        if settings.task == "segmentation":
            comparisons, classes = summary.segmentation(table, label_scheme(settings).names)
            found: Json = {"metrics": [asdict(one) for one in comparisons], "classes": classes}
            found["unknown"] = summary.unknown_shares(table, list(UNKNOWN_COLUMNS.values()))
        elif settings.task == "darkcityscape":
            found = {"metrics": [asdict(one) for one in summary.means(table, DARK_CITYSCAPE)]}
        else:
            has_before = "before" in self.roots
            metrics = settings.chosen_metrics(has_before)
            found = {"metrics": [asdict(one) for one in summary.means(table, metrics)], "worst": summary.worst(table)}
            found["undefined"] = summary.undefined_counts(table, metrics, has_before=has_before)
        return self.mark_finished(counted | found)


def prepare(settings: EvaluateSettings) -> EvaluateRun:
    """Find the evaluation that is to be resumed, or find the files and begin one.

    Raises:
        UsageError: files are missing, or the result folder holds something else.
    """
    fingerprints = fingerprint_of_run(settings)
    if settings.task == "segmentation":
        fingerprints["the classes"] = hashlib.sha256(repr(label_scheme(settings)).encode()).hexdigest()[:16]

    def find() -> Inputs:
        inputs = find_inputs(settings)
        make_measure(settings, set(inputs.roots))  # its sentences are for the user, not for a worker
        return inputs

    sources = ("images", "before", "reference", "labels", "predictions", "predictions_before")
    run = open_measuring(settings, sources, fingerprints, Item, find)
    return EvaluateRun(settings, *run, *survey(settings, run))


def open_measuring(
    settings: MeasuringSettings,
    sources: Sequence[str],
    fingerprints: dict[str, str],
    item_type: type[tuple[Any, ...]],
    find: Callable[[], Inputs],
) -> Opened:
    """Begin a measurement, or find the one that is to be resumed. Nothing is written for a dry run.

    Args:
        settings: of the present command.
        sources: the settings that name its input.
        fingerprints: what else must be the same where it is resumed.
        item_type: type of the items, named tuples with `size`.
        find: finds what is to be measured.

    Raises:
        UsageError: the result folder holds something else.
    """

    def list_input(manifest: Path) -> tuple[Plan, Json]:
        inputs = find()
        plan = write_manifest(inputs.items, item_type, settings.shard_images, manifest)
        return plan, {"roots": inputs.roots, "notes": inputs.notes}

    named = {name: getattr(settings, name) for name in sources}
    output = open_storage(settings.output, settings.s3)
    return open_run(settings, output, describe(settings, named, fingerprints), list_input)
