"""A run whose input has grown: what is new becomes new shards, what has changed is done again in its own."""

import itertools
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from sgllie.corpus.pack import pack_of
from sgllie.errors import StorageError, UsageError
from sgllie.runs.journal import take_back
from sgllie.runs.lock import alone
from sgllie.runs.names import MANIFEST, RUN, SUCCESS, part_name
from sgllie.runs.plan import Bond, OutputName, Plan, kind_of, name_hash, pack_or, write_manifest
from sgllie.runs.run_file import Json, as_json, identity_of, now, read_json
from sgllie.runs.start import Opened, opened, version_of_run
from sgllie.runs.tables import PARTS_AT_ONCE, copy_manifest, entries_in, manifest_bytes, read_manifest
from sgllie.storage import Entry, Storage


class Known:
    """What a run knows of its input: hashes of each path, of its size and version, and of the name of its output.

    Args:
        output: of the run.
        plan: of the run.
        output_name: path of an image -> path of its output; other files keep theirs.
        moment: of an image, if it has one.

    Attributes:
        packs: the tars and Parquet files among its images.
        moments: hashes of the moments of its images.
    """

    def __init__(self, output: Storage, plan: Plan, output_name: OutputName, moment: Bond) -> None:
        columns = [array("Q") for _ in range(4)]
        self.packs: set[str] = set()
        self.moments: set[int] = set()
        with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            parts = pool.map(lambda one: read_manifest(output, one, Entry), range(len(plan.shards)))
            for shard, entries in enumerate(parts):
                is_other = shard in plan.others
                if not is_other:
                    self.packs |= {pack for pack in map(pack_of, {entry.path for entry in entries}) if pack}
                    self.moments |= {name_hash(name) for name in map(moment, entries) if name is not None}
                for entry in entries:
                    name = entry.path if is_other else output_name(entry.path)
                    row = (name_hash(entry.path), state_hash(entry), name_hash(name), shard)
                    for column, value in zip(columns, row, strict=True):
                        column.append(value)
        arrays = [np.array(column, np.uint64) for column in columns]
        order = np.argsort(arrays[0], kind="stable")
        self.paths, self.states, self.names, self.shards = (one[order] for one in arrays)
        self.seen = np.zeros(len(order), bool)

    def place(self, path: str) -> int | None:
        """Return where a listed file stands among those that are known, if it does."""
        wanted = name_hash(path)
        place = int(np.searchsorted(self.paths, np.uint64(wanted)))
        return place if place < len(self.paths) and int(self.paths[place]) == wanted else None

    def sort(self, listed: Iterable[Entry]) -> tuple[list[Entry], dict[int, dict[str, Entry]]]:
        """Return the files of a listing that are new, and by shard and path those that have changed."""
        new: list[Entry] = []
        changed: dict[int, dict[str, Entry]] = defaultdict(dict)
        for entry in listed:
            place = self.place(entry.path)
            if place is None:
                new.append(entry)
                continue
            self.seen[place] = True
            if int(self.states[place]) != state_hash(entry):
                changed[int(self.shards[place])][entry.path] = entry
        return new, changed

    def refuse_packs(self, entries: Iterable[Entry]) -> None:
        """Raise UsageError where what is new or has changed is, or lies in, a pack that is known already."""
        for entry in entries:
            pack = pack_of(entry.path)
            if pack and (pack in self.packs or (pack != entry.path and self.place(pack) is not None)):
                raise UsageError(
                    f"{pack!r} has changed since it was listed, and --update enhances no tar or Parquet file twice; "
                    "give it another name, or begin with --overwrite"
                )

    def refuse_clashes(self, new: Iterable[Entry], output_name: OutputName) -> None:
        """Raise UsageError where a new file has the output of one that is gone, whose row is kept."""
        kept = set(self.names[~self.seen].tolist())
        for entry in new:
            if name_hash(output_name(entry.path)) in kept:
                raise UsageError(
                    f"{entry.path!r} is new and would be written to the output of a file that is gone; "
                    "rename it, or begin with --overwrite"
                )


def state_hash(entry: Entry) -> int:
    """Return what changes when a file does, as far as its listing tells."""
    return name_hash(f"{entry.size} {entry.version}")


def update(
    run: Opened,
    settings: Any,
    list_input: Callable[[Path], tuple[Plan, Json]],
    output_name: OutputName,
    schemas: Mapping[str, pa.Schema],
    moment: Bond,
) -> Opened:
    """Add to a run what is new in its input, and take back what has changed; nothing is written for a dry run.

    Wherever it is killed, each image has one row at the end: a shard is taken back before its manifest says what has
    changed, and new shards count when run.json names them.

    Args:
        run: that was found.
        settings: of the present command, with `shard_images`.
        list_input: as for `start.open_run`.
        output_name: path of an image -> path of its output; other files keep theirs.
        schemas: of the rows, by the folder in which they are committed.
        moment: of an image, if it has one.

    Returns:
        The run as it is then.

    Raises:
        UsageError: the input cannot be listed, two files would have one output, or a known pack has changed.
    """
    output, first = run.output, len(run.plan.shards)
    with TemporaryDirectory(prefix="sgllie-") as listed, TemporaryDirectory(prefix="sgllie-") as added:
        listing, inputs = list_input(Path(listed))
        known = Known(output, run.plan, output_name, moment)
        new, changed = known.sort(entries_in(Path(listed), set(range(len(listing.shards))) - listing.others))
        others, changed_others = known.sort(entries_in(Path(listed), listing.others))
        changed |= changed_others
        known.refuse_packs(itertools.chain(new, others, *(entries.values() for entries in changed.values())))
        known.refuse_clashes(new, output_name)
        known.refuse_clashes(others, str)
        more = write_manifest(
            *(new, Entry, settings.shard_images, Path(added)),
            first=first,
            apart=kind_of,
            together=pack_or(moment),
        )
        then = first + len(more.shards)
        more = more.carrying(write_manifest(others, Entry, settings.shard_images, Path(added), first=then), first)
        gone = int(np.count_nonzero(~known.seen))
        counts = (len(new) + len(others), sum(map(len, changed.values())), gone)
        note = "Since the last listing: {:,} new, {:,} changed, {:,} gone, whose rows are kept.".format(*counts)
        late = sum(name_hash(name) in known.moments for name in map(moment, new) if name is not None)
        if late:
            note += f" {late:,} of the new ones show a moment that was listed before, and share no exposure with that."
        if settings.dry_run:
            return run._replace(notes=[*run.notes, note])
        describe = partial(grown, listing=listing, more=more, inputs=inputs | {"gone": gone})
        try:
            updated = write_update(run, changed, schemas, more, Path(added), describe)
        except StorageError as error:
            raise UsageError(f"the run cannot be updated: {error}") from error
        return updated._replace(notes=[*updated.notes, note])


def write_update(
    run: Opened,
    changed: Mapping[int, dict[str, Entry]],
    schemas: Mapping[str, pa.Schema],
    more: Plan,
    added: Path,
    describe: Callable[[Json], Json],
) -> Opened:
    """Write what `update` has found into the output, and return the run as it is then.

    Args:
        run: that was found.
        changed: the files that have changed, by their shard and path.
        schemas: of the rows, by the folder in which they are committed.
        more: the plan of the new shards.
        added: the local folder that holds their manifest.
        describe: run.json as it was -> as it is to be.

    Raises:
        UsageError: another command has changed the run meanwhile.
        StorageError: the output cannot be written.
    """
    output = run.output
    with alone(output) as check:
        if version_of_run(output) != run.version:
            raise UsageError(f"another command has just changed the run in {output.uri}; give this one again")
        before = read_json(output, RUN) or {}
        output.commit(RUN, as_json(before | {"updated": now()}))  # other commands at work on it stop
        if more.shards or changed:
            output.remove(SUCCESS)
        take_back_all(run, changed, schemas)
        copy_manifest(added, output)
        check()
        described = describe(before)
        output.commit(RUN, as_json(described))
        return opened(output, described, version_of_run(output), resumed=True)


def take_back_all(run: Opened, changed: Mapping[int, Mapping[str, Entry]], schemas: Mapping[str, pa.Schema]) -> None:
    """Take back the shards whose files have changed; schemas by the folder in which their rows are committed."""
    folders = [run.plan.folder(shard) for shard in changed]
    rows = [schemas[folder] for folder in folders]
    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        list(pool.map(partial(take_back_changed, run.output), changed, changed.values(), folders, rows))


def take_back_changed(
    output: Storage, shard: int, changed: Mapping[str, Entry], folder: str, schema: pa.Schema
) -> None:
    """Let a shard be done again for the files that have changed, and for no others.

    Its rows become those of an attempt that was stopped, without the files that have changed.

    Raises:
        UsageError: one of them is none of the shard's: its path has the hash of another.
    """
    entries = read_manifest(output, shard, Entry)
    for path in changed.keys() - {entry.path for entry in entries}:
        raise UsageError(f"{path!r} cannot be told from another file by the hash of its path; rename it")
    take_back(output, shard, schema, folder, identity_of(output), lambda row: row["path"] in changed)
    current = [changed.get(entry.path, entry) for entry in entries]
    output.write(f"{MANIFEST}/{part_name(shard)}", manifest_bytes(current, Entry))


def grown(run: Json, listing: Plan, more: Plan, inputs: Json) -> Json:
    """Return what run.json says after an update.

    Args:
        run: what it says before.
        listing: what all of the input comes to now.
        more: what is new of it.
        inputs: what there is to say of the input now.
    """
    counts = {"items": run["input"]["items"] + more.items, "bytes": run["input"]["bytes"] + more.size}
    described = run["input"] | inputs | counts | {"digest": listing.digest}
    shards, others = run["shards"] + more.shards, run["others"] + sorted(more.others)
    return run | {"input": described, "shards": shards, "others": others, "updated": now()}
