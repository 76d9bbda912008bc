"""A run in its output folder: begun, resumed or refused, counted and finished. What run.json and _SUCCESS say."""

import dataclasses
import json
import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc

from sgllie.errors import DamagedError, StorageError, UsageError
from sgllie.methods.settings import Device
from sgllie.runs.names import (
    COMPARISON,
    COMPARISON_TABLE,
    FRAMES,
    IMAGES,
    MANIFEST,
    REPORT,
    RUN,
    SEGMENTS,
    STATS,
    SUCCESS,
    SUMMARY,
    VIDEOS,
    part_name,
    parts,
)
from sgllie.runs.plan import Plan
from sgllie.runs.progress import Display, display
from sgllie.runs.run_file import Json, now, read_run, refuse_differences
from sgllie.runs.settings import JobSettings
from sgllie.runs.shard_runner import Report
from sgllie.runs.tables import stats_table
from sgllie.runs.words import plural
from sgllie.storage import SCRATCH, Storage
from sgllie.storage.parquet import from_parquet

SettingsT = TypeVar("SettingsT", bound=JobSettings)


class Pipeline(Protocol):
    """Brings one shard after another to its commit."""

    def run(self, shard: int) -> None:
        """Do all of a shard; StorageError where the job must stop."""


@dataclass(frozen=True)
class Run(ABC, Generic[SettingsT]):
    """One run of a job over shards, as it lies in its output: what the machinery that runs it has to know.

    A subclass for each command says what is done with a shard, and what is told before and after. It is sent to the
    workers as it is.

    Attributes:
        settings: of the present command.
        output: where it lies.
        plan: what the input came to.
        shards: those that are not done, and how many items of each are to be done.
        resumed: whether an earlier command began it.
        roots: the folders or prefixes that the paths of the items are relative to, by what they hold.
        notes: what the user is to know at the start.
    """

    noun: ClassVar[str] = "images"
    """What the items are called."""

    settings: SettingsT
    output: Storage
    plan: Plan
    shards: dict[int, int]
    resumed: bool
    roots: dict[str, str]
    notes: list[str] = field(default_factory=list)

    @abstractmethod
    def describe_plan(self) -> str:
        """Say what is about to be done."""

    @abstractmethod
    def make_pipeline(self, report: Report) -> Pipeline:
        """Make what a worker holds. Called in the worker: what the driver does not need is imported here."""

    @abstractmethod
    def finalize(self) -> Json:
        """Count the rows, write what is written once, and _SUCCESS; return the totals, with the number of `failed`.

        Raises:
            StorageError: the rows are not one for each item, or the output cannot be written.
        """

    @abstractmethod
    def summarize(self, totals: Json, seconds: float) -> str:
        """Say what was done, from the totals."""

    @property
    def remaining(self) -> int:
        """Items that are to be done now."""
        return sum(self.shards.values())

    @property
    def device(self) -> Device:
        """Where the workers compute; the CPU, where the settings leave no choice."""
        return getattr(self.settings, "device", "cpu")

    def on_device(self, device: Device) -> Self:
        """Return the same run with its device decided."""
        if not hasattr(self.settings, "device"):
            return self
        changes: dict[str, Any] = {"device": device}
        if device == "cpu" and hasattr(self.settings, "half"):
            changes["half"] = False  # half precision is for GPUs
        settings = dataclasses.replace(cast(Any, self.settings), **changes)
        return dataclasses.replace(self, settings=settings)

    def display(self) -> AbstractContextManager[Display]:
        """Return what shows how far the run is."""
        return display(self.remaining, self.noun)

    def failed_before(self) -> int:
        """Count the items that have failed in shards that are done, which `--max-failures` counts too."""
        if not self.resumed or self.settings.max_failures is None or self.settings.retry_failed:
            return 0
        return sum(
            failed_rows(self.output, shard) for shard in range(len(self.plan.shards)) if shard not in self.shards
        )


def open_run(settings: Any, output: Storage, plan: Plan, manifest: Path, description: Json) -> tuple[Plan, bool]:
    """Begin a run, or find the one that is to be resumed. Nothing is written for a dry run.

    Args:
        settings: of the present command.
        output: where the run lies.
        plan: what the input came to.
        manifest: the local folder with the manifest of the plan.
        description: what run.json is to say, see `describe`.

    Returns:
        The plan, cut as that of the earlier run if there is one, and whether there is.

    Raises:
        UsageError: the output holds something else, or a run with other settings or another input.
    """
    earlier = find_earlier(settings, output, description, replace=settings.overwrite)
    if earlier:
        return dataclasses.replace(plan, shards=earlier["shards"]), True  # --shard-images may have changed since
    if not settings.dry_run:
        begin(output, manifest, description)
    return plan, False


def find_earlier(settings: Any, output: Storage, description: Json, *, replace: bool) -> Json | None:
    """Return run.json of the run that is to be resumed; None where there is none, or where it is to be replaced.

    Raises:
        UsageError: the output holds something else, or a run with other settings or another input.
    """
    advice = "use that version, or another output, or --overwrite to begin anew"
    earlier = read_run(output, description["command"], replace=replace, advice=advice)
    if earlier and not replace:
        refuse_differences(earlier, description, settings.output)
        return earlier
    if settings.retry_failed:
        raise UsageError(f"--retry-failed: there is no run in {settings.output}")
    return None


def begin(output: Storage, manifest: Path, description: Json) -> None:
    """Make the output a run: the manifest, and run.json last. A run that lies there is removed.

    Args:
        output: where the run is to lie.
        manifest: the local folder with the manifest.
        description: what run.json is to say.

    Raises:
        UsageError: the output cannot be written or holds other files, or what is to be read lies in the earlier run.
    """
    try:
        if output.exists(RUN):
            refuse_to_remove(description["input"], manifest, output)
            remove_run(output)
        else:
            refuse_other_files(output, (MANIFEST, SCRATCH))
            output.remove(MANIFEST)  # of a planning that was killed
        with ThreadPoolExecutor(16) as pool:
            writes = [
                pool.submit(output.write, f"{MANIFEST}/{file.name}", file.read_bytes()) for file in manifest.iterdir()
            ]
            for write in writes:
                write.result()
        output.commit(RUN, json.dumps(description, indent=2).encode())
    except StorageError as error:
        raise UsageError(f"output {output.uri} cannot be written: {error}") from error


def remove_run(output: Storage) -> None:
    """Remove all that a run has written but run.json.

    The mark of a finished run goes first, for what is half removed must not look complete; run.json stays to the end,
    for without it the rest would be taken for somebody else's files.
    """
    pages = (SUMMARY, COMPARISON, COMPARISON_TABLE, REPORT)
    for part in (SUCCESS, *pages, STATS, SEGMENTS, FRAMES, IMAGES, VIDEOS, SCRATCH, MANIFEST):
        output.remove(part)


def refuse_to_remove(inputs: Json, manifest: Path, output: Storage) -> None:
    """Raise UsageError if what a run is to read lies in the output that it is to replace, by whatever path or link.

    Args:
        inputs: what run.json is to say of the input.
        manifest: the local folder with the manifest, of which every file is looked at.
        output: what is to be removed.
    """
    for source in filter(None, (inputs.get("uri"), *inputs["roots"].values(), *planned_files(inputs, manifest))):
        if lies_within(source, output.uri):
            raise UsageError(f"--overwrite would remove the input: {source} lies in {output.uri}; choose another OUT")


def planned_files(inputs: Json, manifest: Path) -> Iterator[str]:
    """Yield where each planned file lies; a column of the manifest is named after its root, or is the path."""
    for part in manifest.glob("part-*.parquet"):
        table = from_parquet(part.read_bytes())
        for side, root in inputs["roots"].items():
            paths = table[side if side in table.column_names else "path"].drop_null()
            yield from (f"{root.rstrip('/')}/{path}" for path in paths.to_pylist())


def lies_within(uri: str, folder: str) -> bool:
    """Tell whether a path or uri is a folder or lies below it, links followed."""
    if "://" in uri or "://" in folder:
        return f"{uri.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
    parent, name = os.path.split(os.path.abspath(uri))
    real = os.path.realpath(uri) if os.path.islink(uri) else os.path.join(real_folder(parent), name)
    return f"{real}/".startswith(f"{real_folder(folder)}/")


@lru_cache(1000)
def real_folder(folder: str) -> str:
    """Return the path of a folder with no links in it; most files of a listing share theirs."""
    return os.path.realpath(folder)


def refuse_other_files(output: Storage, own: Collection[str]) -> None:
    """Raise UsageError if the output holds anything but what a start that was killed may have left."""
    for entry in output.list():
        if entry.path.split("/")[0] not in own:
            raise UsageError(f"output {output.uri} holds other files ({entry.path}); choose an empty folder")


def shards_to_do(settings: JobSettings, output: Storage, plan: Plan, resumed: bool) -> dict[int, int]:
    """Return the shards that are to be done, and how many items each has.

    Those are the shards that are not finished, or with `--retry-failed` the finished ones that hold failed rows. Where
    there are any, the run no longer counts as finished.

    Raises:
        UsageError: the manifest has gaps, or a shard is not finished where failed rows are asked for.
    """
    if not resumed:
        return dict(enumerate(plan.shards))
    if len(parts(output.list(MANIFEST))) != len(plan.shards):
        raise UsageError(
            f"{output.uri}/{MANIFEST} is not complete (an --overwrite was killed?); begin with --overwrite"
        )
    done = parts(output.list(STATS))
    shards = {shard: size for shard, size in enumerate(plan.shards) if shard not in done}
    if settings.retry_failed:
        if shards:
            raise UsageError(f"--retry-failed: {plural(len(shards), 'shards')} not finished; run without it first")
        shards = {shard: count for shard in range(len(plan.shards)) if (count := failed_rows(output, shard))}
    if shards and not settings.dry_run:
        output.remove(SUCCESS)
    return shards


def failed_rows(output: Storage, shard: int) -> int:
    """Count the failed rows of a finished shard."""
    return pc.sum(pc.equal(stats_table(output, shard, ["status"])["status"], "failed")).as_py() or 0


def stats_tables(output: Storage, columns: list[str] | None = None) -> Iterator[pa.Table]:
    """Yield the rows of each finished shard, or some of their columns, a file at a time.

    Raises:
        DamagedError: one of them cannot be read. It is removed, so that its shard counts as not done.
    """
    for shard in sorted(parts(output.list(STATS))):
        try:
            yield stats_table(output, shard, columns)
        except DamagedError as error:
            output.remove(f"{STATS}/{part_name(shard)}")
            output.remove(SUCCESS)
            raise DamagedError(f"{error}; it was removed, and the same command does its shard again") from error


def count_rows(output: Storage, plan: Plan, noun: str = "images") -> Json:
    """Count all rows by status and error type, a file at a time.

    Args:
        output: of the run.
        plan: of the run.
        noun: what the number of all rows is called in the totals.

    Raises:
        StorageError: there is not one row for each item of the plan.
    """
    status: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    for table in stats_tables(output, ["status", "error_type"]):
        for counter, name in ((status, "status"), (errors, "error_type")):
            for counted in pc.value_counts(table[name].drop_null()).to_pylist():
                counter[counted["values"]] += counted["counts"]
    if status.total() != plan.items:
        raise StorageError(f"{output.uri}/{STATS} holds {status.total()} rows for {plan.items} {noun}")
    return {
        noun: status.total(),
        "ok": status["ok"],
        "copied": status["copied"],
        "failed": status["failed"],
        "errors": dict(errors.most_common()),
        "finished": now(),
    }


def mark_finished(output: Storage, totals: Json) -> None:
    """Write _SUCCESS, then clear away what was temporary."""
    output.commit(SUCCESS, json.dumps(totals, indent=2).encode())
    output.remove(SCRATCH)
