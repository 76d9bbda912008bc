"""A measurement in its result folder: begun, resumed or refused, and finished; for evaluating and comparing alike."""

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import pyarrow as pa

from sgllie.corpus import STATS, SUCCESS, cut, from_parquet, manifest_bytes, part_name, parts
from sgllie.evaluation.corpus import SUMMARY
from sgllie.plan import Plan
from sgllie.run import (
    PACKAGES,
    begin,
    changed_options,
    now,
    read_run,
    refuse_changes,
    refuse_other_kind,
    unfinished_shards,
    versions,
)
from sgllie.storage import LocalStorage, S3Options, Storage, StorageError, open_storage

COMPARISON, COMPARISON_TABLE = "compare.html", "summary.csv"


class ResultSettings(Protocol):
    """What is asked of the settings of a measurement; `MeasuringSettings` with a place for the result."""

    @property
    def output(self) -> str:
        """Where the result goes."""

    @property
    def outcome(self) -> dict[str, Any]:
        """The settings that change what is written."""

    @property
    def shard_images(self) -> int:
        """Items of a shard, at most."""

    @property
    def overwrite(self) -> bool:
        """Whether an earlier result is removed."""

    @property
    def dry_run(self) -> bool:
        """Whether nothing is written."""

    @property
    def s3(self) -> S3Options:
        """How to reach S3."""


@dataclass(frozen=True)
class MeasuringRun:
    """One measurement, as it lies in its result folder.

    Attributes:
        settings: of the present command.
        output: where the result lies.
        plan: what is to be measured.
        shards: those that are not done, and how many items each has.
        resumed: whether an earlier command began it.
        roots: where the files of each side lie.
        notes: what the user is to know at the start.
    """

    settings: Any
    output: Storage
    plan: Plan
    shards: dict[int, int]
    resumed: bool
    roots: dict[str, str]
    notes: list[str]

    @property
    def remaining(self) -> int:
        """Items that are to be measured now."""
        return sum(self.shards.values())


def open_run(
    settings: ResultSettings,
    items: Sequence[tuple[Any, ...]],
    schema: pa.Schema,
    roots: dict[str, str],
    notes: list[str],
    extra: dict[str, Any] | None = None,
) -> MeasuringRun:
    """Begin a measurement, or find the one that is to be resumed. Nothing is written for a dry run.

    Args:
        settings: of the present command.
        items: what is to be measured, named tuples with `size`.
        schema: of the manifest, whose columns are those of the items.
        roots: where the files of each side lie.
        notes: what the user is to know at the start.
        extra: what else must be the same where it is resumed, such as fingerprints of weights.

    Raises:
        UsageError: the result folder holds something else.
    """
    output = open_storage(settings.output, settings.s3)
    in_the_way = read_run(output)
    earlier = None if settings.overwrite else in_the_way
    with TemporaryDirectory(prefix="sgllie-") as scratch:
        plan = make_plan(items, schema, settings.shard_images, Path(scratch))
        described = describe(settings, plan, roots, extra or {})
        if earlier:
            refuse_differences(earlier, described, settings.output)
        elif not settings.dry_run:
            sources = roots.values() if in_the_way else None
            pages = (SUMMARY, COMPARISON, COMPARISON_TABLE)
            begin(output, settings.output, sources, Path(scratch), described, pages)
    shards = dict(enumerate(plan.shards))
    if earlier:
        plan = dataclasses.replace(plan, shards=earlier["shards"])  # --shard-images may have changed since
        shards = unfinished_shards(output, plan)
    return MeasuringRun(settings, output, plan, shards, bool(earlier), roots, notes)


def make_plan(items: Sequence[Any], schema: pa.Schema, shard_images: int, scratch: Path) -> Plan:
    """Cut items into shards, their manifest parts written to a scratch folder."""
    digest = hashlib.sha256()
    shards: list[int] = []
    for shard in cut(items, shard_images):
        for item in shard:
            digest.update(repr(tuple(item)).encode())
        (scratch / part_name(len(shards))).write_bytes(manifest_bytes(shard, schema))
        shards.append(len(shard))
    return Plan(len(items), sum(item.size or 0 for item in items), shards, digest.hexdigest())


def describe(settings: Any, plan: Plan, roots: dict[str, str], extra: dict[str, Any]) -> dict[str, Any]:
    """What run.json says."""
    return {
        "input": {"roots": roots, "images": plan.images, "bytes": plan.size, "digest": plan.digest},
        "outcome": settings.outcome | extra,
        "settings": dataclasses.asdict(settings),
        "shards": plan.shards,
        "versions": versions(PACKAGES),
        "begun": now(),
    }


def refuse_differences(earlier: dict[str, Any], present: dict[str, Any], output: str) -> None:
    """Raise UsageError unless the present command does what the earlier one began."""
    refuse_other_kind(earlier, present, f"output {output}", "choose another folder with --out")
    changes = changed_options(earlier["outcome"], present["outcome"])
    if earlier["input"]["digest"] != present["input"]["digest"]:
        then, new = earlier["input"]["images"], present["input"]["images"]
        changes.append(f"the files ({then} then, {new} now, or other sizes or dates)")
    refuse_changes(changes, f"output {output}", "another --out, or --overwrite to begin anew")


def tables(output: Storage, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows of each finished shard."""
    for shard in sorted(parts(output.list(STATS))):
        yield from_parquet(output.read(f"{STATS}/{part_name(shard)}"), columns)


def failed_before(run: MeasuringRun) -> int:
    """How many rows of finished shards are failed."""
    return sum(table["status"].to_pylist().count("failed") for table in tables(run.output, ["status"]))


def all_rows(run: MeasuringRun) -> pa.Table:
    """The rows of all shards; StorageError unless there is one for each item."""
    found = list(tables(run.output))
    rows = sum(map(len, found))
    if rows != run.plan.images:
        raise StorageError(f"{run.output.uri}/{STATS} holds {rows} rows for {run.plan.images} images")
    return pa.concat_tables(found)


def totals_of(table: pa.Table) -> dict[str, Any]:
    """How many rows there are, and how many of each status and error type."""
    status = Counter(table["status"].to_pylist())
    errors = Counter(kind for kind in table["error_type"].to_pylist() if kind)
    return {
        "images": len(table),
        "ok": status["ok"],
        "failed": status["failed"],
        "errors": dict(errors.most_common()),
        "finished": now(),
    }


def complete(output: Storage, summary: dict[str, Any]) -> None:
    """Write the summary, clear away what was temporary, and mark the result as finished."""
    output.write(SUMMARY, json.dumps(summary, indent=2).encode())
    output.write(SUCCESS, json.dumps({name: summary[name] for name in ("images", "ok", "failed", "errors")}).encode())
    output.remove(LocalStorage.SCRATCH)
