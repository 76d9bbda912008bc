"""How a run begins in its output, or is found there."""

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from sgllie.corpus.path_list import real_folder
from sgllie.errors import StorageError, UsageError
from sgllie.runs.commits import all_totals
from sgllie.runs.lock import LOCK, alone
from sgllie.runs.names import (
    COMMITS,
    COMPARISON,
    COMPARISON_TABLE,
    FRAMES,
    IMAGES,
    MANIFEST,
    OTHERS,
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
from sgllie.runs.run_file import Json, as_json, identity_of, plan_in, read_run, refuse_differences, with_input
from sgllie.runs.settings import JobSettings
from sgllie.runs.tables import copy_manifest
from sgllie.runs.totals import Totals
from sgllie.runs.words import examples, plural
from sgllie.storage import SCRATCH, Storage
from sgllie.storage.parquet import from_parquet

UNFINISHED = rf"{re.escape(SCRATCH)}/([0-9a-f]{{32}}|owner|(shard-[0-9a-f-]+|encoded)/.+)"
PLANNED = rf"{MANIFEST}/(part-\d+|segments)\.parquet|{re.escape(LOCK)}\d+"
"""Paths below an output that commands write before there is a run: what else lies in these folders is not theirs."""


class Opened(NamedTuple):
    """A run that has begun, or was found.

    Attributes:
        output: where it lies.
        plan: what the input came to.
        resumed: whether an earlier command began it.
        roots: the folders or prefixes that the paths of the items are relative to, by what they hold.
        notes: what the user is to know of the input.
        version: of run.json, which changes when another command begins a run in its place; None for a dry run.
    """

    output: Storage
    plan: Plan
    resumed: bool
    roots: dict[str, str]
    notes: list[str]
    version: str | None


def open_run(
    settings: Any,
    output: Storage,
    description: Json,
    list_input: Callable[[Path], tuple[Plan, Json]],
    *,
    replace: bool | None = None,
) -> Opened:
    """Begin a run, or find the one that is to be resumed. Nothing is written for a dry run.

    The input of a run that is found is not listed again: its manifest is trusted, unless the user names another input
    or asks for `--check-input`.

    Args:
        settings: of the present command.
        output: where the run lies.
        description: what `run_file.describe` says.
        list_input: writes the manifest into a local folder; returns what the input came to, and what run.json is to say
            of it.
        replace: whether a run that lies there is to be replaced; by default if `--overwrite` says so.

    Raises:
        UsageError: the output holds something else, or a run with other settings or another input.
    """
    replace = settings.overwrite if replace is None else replace
    version = version_of_run(output)
    earlier = find_run(settings, output, description, replace=replace)
    is_found = earlier is not None and not replace
    if earlier and is_found and not settings.check_input and earlier["sources"] == description["sources"]:
        return opened(output, earlier, version, resumed=True)
    with TemporaryDirectory(prefix="sgllie-") as scratch:
        present = with_input(description, *list_input(Path(scratch)))
        if earlier and is_found:
            refuse_differences(earlier, present, settings.output)
            listed = {name: present["input"][name] for name in ("roots", "notes")}
            return opened(output, earlier | {"input": earlier["input"] | listed}, version, resumed=True)
        if settings.dry_run:
            return opened(output, present, None, resumed=False)
        try:
            with alone(output) as check:
                meanwhile = read_run(output, description["command"], replace=replace)
                if meanwhile and meanwhile != earlier:  # of another command that was begun at the same time
                    refuse_differences(meanwhile, present, settings.output)
                    return opened(output, meanwhile, version_of_run(output), resumed=True)
                begin(output, Path(scratch), present, check, replace=bool(meanwhile))
                return opened(output, present, version_of_run(output), resumed=False)
        except StorageError as error:
            raise UsageError(f"the run cannot be begun: {error}") from error


def opened(output: Storage, run: Json, version: str | None, *, resumed: bool) -> Opened:
    """Return a run as its run.json describes it."""
    return Opened(output, plan_in(run), resumed, run["input"]["roots"], list(run["input"]["notes"]), version)


def version_of_run(output: Storage) -> str | None:
    """Return the version of run.json; None where there is none. UsageError where the output cannot be read."""
    try:
        found = output.find(RUN)
    except StorageError as error:
        raise UsageError(f"output {output.uri} cannot be read: {error}") from error
    return found and found.version


def find_run(settings: Any, output: Storage, description: Json, *, replace: bool) -> Json | None:
    """Return run.json of the run that lies in an output, if there is one.

    Raises:
        UsageError: the output holds something else, or a run with other settings that is not to be replaced.
    """
    instead = "another output, or --overwrite to begin anew"
    earlier = read_run(output, description["command"], replace=replace, instead=instead)
    if earlier and not replace:
        refuse_differences(earlier, description, settings.output)
    elif settings.retry_failed:
        raise UsageError(f"--retry-failed: there is no run in {settings.output}")
    return earlier


def begin(output: Storage, manifest: Path, description: Json, check: Callable[[], None], *, replace: bool) -> None:
    """Make the output a run. One that lies there is removed, and commands that still work on it stop.

    Args:
        output: where the run is to lie.
        manifest: the local folder with the manifest.
        description: what run.json is to say.
        check: raises UsageError where another command has taken the output over.
        replace: whether there is a run.

    Raises:
        UsageError: the output holds other files, or what is to be read lies in the earlier run.
        StorageError: the output cannot be written.
    """
    run = as_json(description)
    if replace:
        refuse_to_remove(description["input"], manifest, output)
        output.remove(SUCCESS)
        output.remove(MANIFEST)  # without which no command goes on with what is half removed
        output.commit(RUN, run)
        remove_run(output)
    else:
        refuse_other_files(output, f"{UNFINISHED}|{PLANNED}")
        output.remove(MANIFEST)  # of a planning that was killed
        output.remove(SCRATCH)  # the journals of a run of which somebody has removed all else that is to be seen
    copy_manifest(manifest, output)
    check()
    if not replace:
        output.commit(RUN, run)


def remove_run(output: Storage) -> None:
    """Remove all that a run has written but its manifest and run.json, without which the rest would be a stranger's."""
    pages = (SUMMARY, COMPARISON, COMPARISON_TABLE, REPORT)
    for part in (*pages, STATS, COMMITS, OTHERS, SEGMENTS, FRAMES, IMAGES, VIDEOS, SCRATCH):
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
    # Not by `abspath`: what `..` behind a link means is not in the text of a path.
    parent, name = os.path.split(uri)
    is_plain = name not in ("", ".", "..") and not os.path.islink(uri)
    real = os.path.join(real_folder(parent), name) if is_plain else os.path.realpath(uri)
    return f"{real}/".startswith(f"{real_folder(folder)}/")


def refuse_other_files(output: Storage, own: str = UNFINISHED) -> None:
    """Raise UsageError if the output holds anything but what a command that was killed may have left.

    Args:
        output: of a run that is to begin.
        own: pattern of the paths of that.
    """
    for entry in output.list():
        if not re.fullmatch(own, entry.path):
            raise UsageError(f"output {output.uri} holds other files ({entry.path}); choose an empty folder")


def survey(settings: JobSettings, run: Opened) -> tuple[dict[int, int], dict[int, Totals]]:
    """Return the shards that are to be done, with the number of their items, and the totals of those that are done.

    To be done are the shards that are not finished, and with `--retry-failed` the finished ones that hold failed rows,
    which are all that is to be done of them. Where there are any, the run no longer counts as finished.

    Raises:
        UsageError: the manifest has gaps.
    """
    output, sizes = run.output, run.plan.shards
    if not run.resumed:
        return dict(enumerate(sizes)), {}
    if not parts(output.list(MANIFEST)).issuperset(range(len(sizes))):  # others are of an update that was killed
        raise incomplete_manifest(output)
    done = done_shards(run)
    shards = {shard: size for shard, size in enumerate(sizes) if shard not in done}
    if settings.retry_failed:
        shards |= {shard: int(totals["failed"]) for shard, totals in done.items() if totals.get("failed")}
        done = {shard: totals for shard, totals in done.items() if shard not in shards}
    if shards and not settings.dry_run:
        output.remove(SUCCESS)
    return shards, done


def done_shards(run: Opened) -> dict[int, Totals]:
    """Return the totals of all shards that are done; a note names the files that are damaged, and so are not."""
    done: dict[int, Totals] = {}
    damaged: list[str] = []
    run_id = identity_of(run.output).id
    for folder in (COMMITS, OTHERS) if run.plan.others else (COMMITS,):
        there = sorted(parts(run.output.list(folder)))
        done |= all_totals(run.output, there, folder, run_id)
        damaged += [f"{folder}/{part_name(shard)}" for shard in there if shard not in done]
    if damaged:
        run.notes.append(f"{plural(len(damaged), 'files')} damaged, whose shards are done again: {examples(damaged)}")
    return done


def incomplete_manifest(output: Storage) -> UsageError:
    """Return what to raise where a manifest has gaps."""
    return UsageError(f"{output.uri}/{MANIFEST} is not complete (an --overwrite was killed?); begin with --overwrite")
