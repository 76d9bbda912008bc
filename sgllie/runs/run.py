"""A run in its output folder: begun, resumed or refused, counted and finished. What run.json and _SUCCESS say."""

import dataclasses
import importlib.metadata
import json
import platform
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from sgllie.errors import StorageError, UsageError
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
    parts,
)
from sgllie.runs.plan import Plan
from sgllie.runs.progress import Display, display
from sgllie.runs.schemas import SCHEMA_VERSION
from sgllie.runs.settings import JobSettings
from sgllie.runs.shard_runner import Report
from sgllie.runs.tables import stats_table
from sgllie.runs.words import plural
from sgllie.settings import option, output_settings
from sgllie.storage import SCRATCH, Storage

PACKAGES = ("sgllie", "av", "numpy", "onnxruntime", "opencv-python-headless", "pillow", "pyarrow", "ray", "torch")

Json = dict[str, Any]
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
        """Where the workers compute: `auto`, `cpu` or `cuda`."""
        return "cpu"

    def on_device(self, device: Device) -> Self:
        """Return the same run with its device decided."""
        return self

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


def open_run(
    settings: Any, output: Storage, plan: Plan, manifest: Path, inputs: Json, fingerprints: dict[str, str]
) -> tuple[Plan, bool]:
    """Begin a run, or find the one that is to be resumed. Nothing is written for a dry run.

    Args:
        settings: of the present command.
        output: where the run lies.
        plan: what the input came to.
        manifest: the local folder with the manifest of the plan.
        inputs: what run.json says of the input, with its `roots`.
        fingerprints: the hash of what else must be the same where it is resumed, by what it is called.

    Returns:
        The plan, cut as that of the earlier run if there is one, and whether there is.

    Raises:
        UsageError: the output holds something else, or a run with other settings or another input.
    """
    description = describe(settings, plan, inputs, fingerprints)
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
    inputs = description["input"]
    try:
        if output.exists(RUN):
            refuse_to_remove(filter(None, (inputs.get("uri"), *inputs["roots"].values())), output)
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
        output.write(RUN, json.dumps(description, indent=2).encode())
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


def refuse_to_remove(sources: Iterable[str], output: Storage) -> None:
    """Raise UsageError if what a run is to read lies in the output that it is to replace."""
    for source in sources:
        if lies_within(source, output.uri):
            raise UsageError(f"--overwrite would remove the input: {source} lies in {output.uri}; choose another OUT")


def lies_within(uri: str, folder: str) -> bool:
    """Tell whether a path or uri is a folder or lies below it, links followed."""
    if "://" in uri or "://" in folder:
        return f"{uri.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
    return Path(uri).resolve().is_relative_to(Path(folder).resolve())


def refuse_other_files(output: Storage, own: Collection[str]) -> None:
    """Raise UsageError if the output holds anything but what a start that was killed may have left."""
    for entry in output.list():
        if entry.path.split("/")[0] not in own:
            raise UsageError(f"output {output.uri} holds other files ({entry.path}); choose an empty folder")


def describe(settings: Any, plan: Plan, inputs: Json, fingerprints: dict[str, str]) -> Json:
    """Return what run.json says."""
    return {
        **header(settings, PACKAGES),
        "input": inputs | {"items": plan.items, "bytes": plan.size, "digest": plan.digest},
        "fingerprints": fingerprints,
        "shards": plan.shards,
    }


def header(settings: Any, packages: Sequence[str]) -> Json:
    """Return what run.json says of any run, training included."""
    return {
        "schema_version": SCHEMA_VERSION,
        "command": command_of(settings),
        "output_settings": output_settings(settings),
        "settings": dataclasses.asdict(settings),
        "versions": versions(packages),
        "begun": now(),
    }


def command_of(settings: Any) -> str:
    """Return the command that settings belong to: `enhance` for EnhanceSettings."""
    return type(settings).__name__.removesuffix("Settings").lower()


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """Return the version of Python, and those of packages as installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def now() -> str:
    """Return the time in UTC, by the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def changed_options(earlier: Json, present: Json) -> list[str]:
    """Return what differs between two sets of settings, as a user reads it: `--quality (95 then, 90 now)`."""
    return [
        f"{option(name)} ({earlier.get(name)} then, {value} now)"
        for name, value in present.items()
        if earlier.get(name) != value
    ]


def refuse_changes(changes: list[str], name: str, advice: str) -> None:
    """Raise UsageError if there are changes between a command and the run that it would resume.

    Args:
        changes: what differs.
        name: of the run, as the user calls it.
        advice: what else the user can do, after "Use the same settings to go on, ".
    """
    if changes:
        raise UsageError(
            f"{name} belongs to a run with other settings: {'; '.join(changes)}. "
            f"Use the same settings to go on, {advice}"
        )


def refuse_differences(earlier: Json, present: Json, output: str) -> None:
    """Raise UsageError unless the present command does what the earlier one began."""
    changes = changed_options(earlier["output_settings"], present["output_settings"])
    changes += [
        f"the content of {name}"
        for name, value in present["fingerprints"].items()
        if earlier["fingerprints"].get(name) != value
    ]
    if earlier["input"]["digest"] != present["input"]["digest"]:
        then, new = earlier["input"]["items"], present["input"]["items"]
        changes.append(f"the input ({then} files then, {new} now, or other sizes or dates)")
    refuse_changes(changes, f"output {output}", "choose another output, or --overwrite to begin anew")


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
    """Yield the rows of each finished shard, or some of their columns, a file at a time."""
    for shard in sorted(parts(output.list(STATS))):
        yield stats_table(output, shard, columns)


KINDS = {"input": dict, "fingerprints": dict, "output_settings": dict, "shards": list}
"""What run.json of a job over shards holds, and of which type it is."""


def read_run(
    output: Storage,
    command: str,
    kinds: Mapping[str, type] = KINDS,
    *,
    replace: bool = False,
    advice: str = "use that version, or another folder",
) -> Json | None:
    """Return what run.json says, if a run was begun in the output.

    Args:
        output: where the run lies.
        command: which began it.
        kinds: what its run.json must hold; by default that of a job over shards.
        replace: accept a run of any command over shards and of any version, since it is to be removed.
        advice: what the user can do about a run of another version.

    Raises:
        UsageError: the output holds a run.json that is damaged, of another version or command, or of something else.
    """
    run = read_json(output, RUN)
    if run is None:
        return None
    if not (isinstance(run.get("settings"), dict) and isinstance(run.get("versions"), dict)):
        raise UsageError(f"{output.uri}/{RUN} was written by something else; choose an empty folder")
    version = run.get("schema_version", 1)
    if replace and "shards" in run:
        return run
    if version != SCHEMA_VERSION:
        raise UsageError(
            f"{output.uri} was written by another version of sgllie (schema {version} there, {SCHEMA_VERSION} here); "
            f"{advice}"
        )
    if run.get("command") != command:
        raise UsageError(f"{output.uri} belongs to a run of sgllie {run.get('command')}; choose another folder")
    for name, kind in kinds.items():
        if not isinstance(run.get(name), kind):
            raise UsageError(f"{output.uri}/{RUN} is damaged: {name!r} is missing or of the wrong type")
    return run


def read_json(output: Storage, name: str) -> Json | None:
    """Return a JSON object of the output, if it is there; UsageError where it cannot be read."""
    try:
        if not output.exists(name):  # a folder that is yet to be made cannot be told from one that is gone by reading
            return None
        found = json.loads(output.read(name))
    except StorageError as error:
        raise UsageError(f"output {output.uri} cannot be read: {error}") from error
    except ValueError as error:
        raise UsageError(f"{output.uri}/{name} is no JSON; is this an output of sgllie?") from error
    if not isinstance(found, dict):
        raise UsageError(f"{output.uri}/{name} is no JSON object; is this an output of sgllie?")
    return found


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
    output.write(SUCCESS, json.dumps(totals, indent=2).encode())
    output.remove(SCRATCH)
