"""A run in its output folder: begun, resumed or refused, and finished. What `OUT/run.json` and `OUT/_SUCCESS` say."""

import dataclasses
import importlib.metadata
import itertools
import json
import platform
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow.compute as pc

from sgllie.corpus import (
    FRAMES,
    IMAGES,
    MANIFEST,
    REPORT,
    RUN,
    SEGMENTS,
    STATS,
    SUCCESS,
    VIDEOS,
    parts,
    stats_table,
)
from sgllie.images import EXTENSIONS, output_name
from sgllie.listing import Listing
from sgllie.methods import describe_weights
from sgllie.plan import Plan, make_plan
from sgllie.settings import CorpusSettings, EnhanceSettings, option
from sgllie.storage import Entry, LocalStorage, Storage, StorageError, UsageError, open_storage

PACKAGES = ("sgllie", "av", "numpy", "onnxruntime", "opencv-python-headless", "pillow", "pyarrow", "ray", "torch")


class Images:
    """The images or videos of a job, found anew by each iteration: its listing up to its limit."""

    def __init__(
        self, settings: CorpusSettings, extensions: Collection[str] = EXTENSIONS, noun: str = "images"
    ) -> None:
        self.noun = noun
        self.input = settings.input
        self.listing = Listing(settings.input, settings.s3, output_uri(settings.output), extensions)
        self.limit = settings.limit

    def __iter__(self) -> Iterator[Entry]:
        return itertools.islice(self.listing, self.limit)


@dataclass(frozen=True)
class Run:
    """One enhancement run, as it lies in its output.

    Attributes:
        settings: of the present command.
        output: where it lies.
        root: folder or prefix that all paths are relative to.
        plan: what the input came to.
        ignored: files of the input that are no images by their name: how many, and the first few.
        shards: those that are not done, and how many images of each are to be enhanced.
        resumed: whether an earlier command began it.
    """

    settings: EnhanceSettings
    output: Storage
    root: str
    plan: Plan
    ignored: tuple[int, list[str]]
    shards: dict[int, int]
    resumed: bool

    @property
    def remaining(self) -> int:
        """Images that are to be enhanced now."""
        return sum(self.shards.values())


def prepare(settings: EnhanceSettings) -> Run:
    """List the input, and begin a run or find the one that is to be resumed. Nothing is written for a dry run.

    Raises:
        UsageError: there is nothing to do, or the output holds something else.
    """
    output = open_storage(settings.output, settings.s3)
    weights = describe_weights(settings)
    in_the_way = read_run(output)
    earlier = None if settings.overwrite else in_the_way
    with TemporaryDirectory(prefix="sgllie-") as scratch:
        images = Images(settings)
        plan = planned(images, settings.shard_images, partial(output_name, format=settings.format), Path(scratch))
        run_json = describe(settings, images, plan, weights)
        if earlier:
            refuse_differences(earlier, run_json, settings.output)
        elif settings.retry_failed:
            raise UsageError(f"--retry-failed: there is no run in {settings.output}")
        elif not settings.dry_run:
            sources = (settings.input, images.listing.root)
            begin(output, settings.output, sources if in_the_way else None, Path(scratch), run_json)
    if earlier:
        plan = dataclasses.replace(plan, shards=earlier["shards"])  # --shard-images may have changed since
    shards = open_shards(output, plan, settings) if earlier else dict(enumerate(plan.shards))
    if shards and earlier and not settings.dry_run:
        output.remove(SUCCESS)  # of a run whose failed images are tried again
    ignored = (images.listing.ignored, images.listing.ignored_examples)
    return Run(settings, output, images.listing.root, plan, ignored, shards, resumed=bool(earlier))


def planned(images: Images, together: int, rename: Callable[[str], str], folder: Path) -> Plan:
    """The plan, its manifest parts written to a local folder.

    Args:
        images: what is listed.
        together: files of one part, at most.
        rename: path of a file -> path of its output.
        folder: for the manifest.

    Raises:
        UsageError: the input cannot be listed, or holds nothing to do.
    """

    def write(name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)

    try:
        plan = make_plan(images, together, rename, write)
    except (StorageError, OSError) as error:
        raise UsageError(f"input {images.input} cannot be listed: {error}") from error
    if not plan.images:
        ignored = images.listing.ignored
        others = f" ({ignored} other files)" if ignored else ""
        raise UsageError(f"input {images.input} holds no {images.noun}{others}")
    return plan


def begin(
    output: Storage,
    name: str,
    sources: Iterable[str] | None,
    scratch: Path,
    run_json: dict[str, Any],
    extra: Sequence[str] = (),
) -> None:
    """Make the output a run: the manifest, and run.json last.

    Args:
        output: where the run is to lie.
        name: of the output, as the user calls it.
        sources: what the run reads, where it replaces an earlier run; None where there is none.
        scratch: the folder with the manifest.
        run_json: what run.json is to say.
        extra: what an earlier run may have left besides the usual parts.

    Raises:
        UsageError: the output cannot be written or holds other files, or what is to be read lies in the earlier run.
    """
    if sources is not None:
        refuse_to_remove(sources, output)
    try:
        if sources is not None:
            # The mark of a finished run goes first, for what is half removed must not look complete; run.json stays to
            # the end, for without it the rest would be taken for somebody else's files.
            parts_of_all = (REPORT, STATS, SEGMENTS, FRAMES, IMAGES, VIDEOS, LocalStorage.SCRATCH, MANIFEST)
            for part in (SUCCESS, *extra, *parts_of_all):
                output.remove(part)
        else:
            refuse_strangers(output, (MANIFEST, LocalStorage.SCRATCH), "OUT")
            output.remove(MANIFEST)  # of a planning that was killed
        with ThreadPoolExecutor(16) as pool:
            for _ in pool.map(
                lambda file: output.write(f"{MANIFEST}/{file.name}", file.read_bytes()), scratch.iterdir()
            ):
                pass
        output.write(RUN, json.dumps(run_json, indent=2).encode())
    except (StorageError, OSError) as error:
        raise UsageError(f"output {name} cannot be written: {error}") from error


def refuse_to_remove(sources: Iterable[str], output: Storage) -> None:
    """Raise UsageError if what a run is to read lies in the output that it is to replace."""
    for source in sources:
        if lies_within(source, output.uri):
            raise UsageError(f"--overwrite would remove the input: {source} lies in {output.uri}; choose another OUT")


def lies_within(uri: str, folder: str) -> bool:
    """Whether a path or uri is a folder or lies below it, links followed."""
    if "://" in uri or "://" in folder:
        return f"{uri.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")
    return Path(uri).resolve().is_relative_to(Path(folder).resolve())


def refuse_strangers(output: Storage, own: Collection[str], place: str) -> None:
    """Raise UsageError if the output, called `place`, holds anything but what a start that was killed may have left."""
    for entry in output.list():
        if entry.path.split("/")[0] not in own:
            raise UsageError(f"output {output.uri} holds other files ({entry.path}); choose an empty {place}")


def describe(settings: CorpusSettings, images: Images, plan: Plan, weights: dict[str, Any] | None) -> dict[str, Any]:
    """What run.json says."""
    return {
        "input": {
            "uri": settings.input,
            "root": images.listing.root,
            "images": plan.images,
            "bytes": plan.size,
            "digest": plan.digest,
            "ignored": images.listing.ignored,
            "ignored_examples": images.listing.ignored_examples,
        },
        "weights": weights,
        "outcome": settings.outcome,
        "settings": dataclasses.asdict(settings),
        "shards": plan.shards,
        "versions": versions(PACKAGES),
        "begun": now(),
    }


def versions(packages: Sequence[str]) -> dict[str, str | None]:
    """The version of Python, and those of packages as installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = None
    return found


def now() -> str:
    """The time, in UTC, by the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def changed_options(earlier: dict[str, Any], present: dict[str, Any]) -> list[str]:
    """What differs between the outcomes of two commands, as a user reads it: `--quality (95 then, 90 now)`."""
    return [
        f"{option(name)} ({earlier.get(name)} then, {value} now)"
        for name, value in present.items()
        if earlier.get(name) != value
    ]


def refuse_changes(changes: list[str], name: str, other: str) -> None:
    """Raise UsageError if there are changes between a command and the run that it would resume.

    Args:
        changes: what differs.
        name: of the run, as the user calls it.
        other: what else the user can do, after "Take the same ones to go on, ".
    """
    if changes:
        raise UsageError(
            f"{name} belongs to a run with other settings: {'; '.join(changes)}. Take the same ones to go on, {other}"
        )


def refuse_other_kind(earlier: dict[str, Any], present: dict[str, Any], name: str, advice: str) -> None:
    """Raise UsageError if a command of another kind began the run, as the names of its settings tell."""
    if earlier["outcome"].keys() != present["outcome"].keys():
        raise UsageError(f"{name} belongs to another kind of run; {advice}")


def refuse_differences(earlier: dict[str, Any], present: dict[str, Any], output: str) -> None:
    """Raise UsageError unless the present command does what the earlier one began."""
    refuse_other_kind(earlier, present, f"output {output}", "choose another OUT, or --overwrite to replace it")
    changes = []
    before, after = earlier["weights"], present["weights"]
    # Where only one of them is, the methods differ, and that is said below.
    if before and after and before["fingerprint"] != after["fingerprint"]:
        changes.append(f"the weights ({before['name']} then, {after['name']} now)")
    outcome = {name: value for name, value in present["outcome"].items() if name != "weights"}
    changes += changed_options(earlier["outcome"], outcome)
    if earlier["input"]["digest"] != present["input"]["digest"]:
        then, new = earlier["input"]["images"], present["input"]["images"]
        changes.append(f"the input ({then} images then, {new} now, or other sizes or dates)")
    refuse_changes(changes, f"output {output}", "another OUT, or --overwrite to begin anew")


def open_shards(output: Storage, plan: Plan, settings: EnhanceSettings) -> dict[int, int]:
    """The shards of a resumed run that are not done, or with --retry-failed those that hold failed images."""
    left = unfinished_shards(output, plan)
    if not settings.retry_failed:
        return left
    if left:
        raise UsageError(f"--retry-failed: {len(left)} shards are not finished; run without it first")
    done = range(len(plan.shards))
    failed = {shard: stats_table(output, shard)["status"].to_pylist().count("failed") for shard in done}
    return {shard: count for shard, count in failed.items() if count}


def unfinished_shards(output: Storage, plan: Plan) -> dict[int, int]:
    """The shards that are not committed, and how many items each has; UsageError where the manifest has gaps."""
    if len(parts(output.list(MANIFEST))) != len(plan.shards):
        raise UsageError(
            f"{output.uri}/{MANIFEST} is not complete (an --overwrite was killed?); begin with --overwrite"
        )
    done = parts(output.list(STATS))
    return {shard: size for shard, size in enumerate(plan.shards) if shard not in done}


def read_run(
    output: Storage, keys: Set[str] = frozenset({"input", "outcome", "settings", "shards"}), place: str = "OUT"
) -> dict[str, Any] | None:
    """What run.json says, if a run was begun in the output.

    Args:
        output: where the run lies.
        keys: what tells such a run from others; by default, one that works through a manifest.
        place: what the user calls the output.

    Raises:
        UsageError: the output holds a run.json that is of no such run.
    """
    run = read_json(output, RUN)
    if run is not None and not keys <= run.keys():
        raise UsageError(f"{output.uri}/{RUN} was written by something else; choose an empty {place}")
    return run


def read_json(output: Storage, name: str) -> dict[str, Any] | None:
    """A JSON object of the output, if it is there."""
    try:
        found = json.loads(output.read(name))
    except FileNotFoundError:
        return None
    except (StorageError, OSError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UsageError(f"output {output.uri} cannot be read: {why}") from error
    except ValueError as error:
        raise UsageError(f"{output.uri}/{name} is no JSON; is this an output of sgllie?") from error
    if not isinstance(found, dict):
        raise UsageError(f"{output.uri}/{name} is no JSON object; is this an output of sgllie?")
    return found


def output_uri(output: str) -> str:
    """The output as an absolute path or uri."""
    return output.rstrip("/") if "://" in output else str(Path(output).absolute())


def finish(run: Run) -> dict[str, Any]:
    """Count the rows, write _SUCCESS, clear away what was temporary; the content of _SUCCESS is returned.

    Raises:
        StorageError: the rows are not one for each image, or the output cannot be written.
    """
    totals = count(run.output)
    if totals["images"] != run.plan.images:
        raise StorageError(f"{run.output.uri}/{STATS} holds {totals['images']} rows for {run.plan.images} images")
    mark_finished(run.output, totals)
    return totals


def mark_finished(output: Storage, totals: dict[str, Any]) -> None:
    """Write _SUCCESS, then clear away what was temporary."""
    output.write(SUCCESS, json.dumps(totals, indent=2).encode())
    output.remove(LocalStorage.SCRATCH)


def count(output: Storage) -> dict[str, Any]:
    """The totals over all rows of statistics, a file at a time."""
    status: Counter[str] = Counter()
    errors: Counter[str] = Counter()
    bytes_in = bytes_out = retries = 0
    brightness = np.zeros(2)
    for shard in sorted(parts(output.list(STATS))):
        table = stats_table(output, shard)
        for counter, column in ((status, "status"), (errors, "error_type")):
            for counted in pc.value_counts(table[column].drop_null()).to_pylist():
                counter[counted["values"]] += counted["counts"]
        bytes_in += pc.sum(table["bytes_in"]).as_py() or 0
        bytes_out += pc.sum(table["bytes_out"]).as_py() or 0
        retries += pc.sum(table["retries"]).as_py() or 0
        for k, side in enumerate(("in", "out")):
            brightness[k] += (
                pc.sum(table[f"luminance_mean_{side}"].filter(pc.not_equal(table["status"], "failed"))).as_py() or 0
            )
    bright = brightness / max(status["ok"] + status["copied"], 1)
    return {
        "images": status.total(),
        "ok": status["ok"],
        "copied": status["copied"],
        "failed": status["failed"],
        "errors": dict(errors.most_common()),
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "retries": retries,
        "luminance_mean_in": round(float(bright[0]), 4),
        "luminance_mean_out": round(float(bright[1]), 4),
        "finished": now(),
    }
