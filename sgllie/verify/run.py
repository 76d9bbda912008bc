"""The images or videos of a run against the hashes in its rows, a shard at a time."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa

from sgllie.corpus.pack import pack_of
from sgllie.corpus.packed import Member, packed, unpacked
from sgllie.enhance.run import prepare as prepare_images
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import OTHERS_TALLY, TALLY
from sgllie.errors import DamagedError, Failure, ReadError, UsageError
from sgllie.runs.commits import commit_table, read_totals, write_commit
from sgllie.runs.compaction import unsound
from sgllie.runs.cost import Prices, part_spent
from sgllie.runs.names import COMMITS, IMAGES, OTHERS, RUN, SUCCESS, VIDEOS, part_name, parts
from sgllie.runs.plan import Plan
from sgllie.runs.progress import Counts, display
from sgllie.runs.run_file import Json, plan_in, read_json, read_run
from sgllie.runs.schemas import NO_OUTPUT, OTHERS_SCHEMA, STATS_SCHEMA, VIDEOS_SCHEMA, Row
from sgllie.runs.totals import Tally
from sgllie.runs.words import examples, plural
from sgllie.settings import flat_fields
from sgllie.storage import Entry, S3Options, Storage, open_storage, split_uri
from sgllie.verify.settings import VerifySettings
from sgllie.video.formats import CONTAINERS
from sgllie.video.run import commit_sizes as videos_in_commits
from sgllie.video.run import prepare as prepare_videos
from sgllie.video.run import run_folder
from sgllie.video.settings import VideoSettings
from sgllie.video.totals import VIDEOS_TALLY

WHOLE_BYTES = 2**26
"""A file that is larger is read in parts."""


class Kind(NamedTuple):
    """What a command makes: its settings, how it begins, where its outputs lie, and the columns and sums of its rows.

    `commit_sizes` tells how many rows each commit of a plan has.
    """

    settings: type[EnhanceSettings] | type[VideoSettings]
    prepare: Callable[[Any], Any]
    folder: str
    schema: pa.Schema
    tally: Tally
    commit_sizes: Callable[[Plan], dict[int, int]]


KINDS = {
    "enhance": Kind(EnhanceSettings, prepare_images, IMAGES, STATS_SCHEMA, TALLY, lambda plan: plan.commit_sizes),
    "video": Kind(VideoSettings, prepare_videos, VIDEOS, VIDEOS_SCHEMA, VIDEOS_TALLY, videos_in_commits),
}


class Finished(NamedTuple):
    """A finished run.

    Attributes:
        run: what run.json says.
        output: where it lies.
        files: where its outputs lie: the same, but for a single video, whose run is hidden beside it.
    """

    run: Json
    output: Storage
    files: Storage

    @property
    def kind(self) -> Kind:
        """What the command of the run makes."""
        return KINDS[self.run["command"]]

    @property
    def commit_sizes(self) -> dict[int, int]:
        """How many rows each commit has, by its number."""
        return self.kind.commit_sizes(plan_in(self.run))

    @property
    def other_sizes(self) -> dict[int, int]:
        """The same for the files that are carried."""
        return {shard: self.run["shards"][shard] for shard in self.run["others"]}


@dataclass
class Findings:
    """What was found: the files that are not what their rows say, by shard, and those of `folder` that no row knows.

    `lost` are the tables that are gone or damaged: the rows of shards, and OUT/stats. `packs` are the packs that hold
    outputs, each with its shard.
    """

    folder: str
    checked: int = 0
    wrong: dict[int, dict[str, str]] = field(default_factory=dict)
    lost: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)
    packs: dict[str, int] = field(default_factory=dict)

    def note(self, shard: int, row: Row, kind: str | None) -> None:
        """Take down what a row's output is: right, or wrong in this way."""
        self.checked += 1
        self.known.add(row["output"])
        if kind:
            self.wrong.setdefault(shard, {})[row["path"]] = kind

    def note_stray(self, entry: Entry) -> None:
        """Take down a file that no row knows, or a pack whose images are right, but which is damaged behind them."""
        name = f"{self.folder}/{entry.path}"
        if name not in self.packs:
            self.unknown.append(name)
        elif isinstance(entry, Member):
            found = self.wrong.setdefault(self.packs[name], {})
            if not any(pack_of(path) == entry.path for path in found):
                found[entry.path] = "damaged"

    @property
    def kinds(self) -> Counter[str]:
        """How many outputs are `missing`, `changed`, `damaged` or cannot be read."""
        return Counter(kind for shard in self.wrong.values() for kind in shard.values())

    def describe(self) -> str:
        """Say what was found."""
        count = self.kinds.total()
        differ = "is not what its row says" if count == 1 else "are not what their rows say"
        lines = [f"{plural(self.checked, 'files')} checked, {count:,} {differ}."]
        for kind, count in sorted(self.kinds.items()):
            named = [path for shard in self.wrong.values() for path, one in shard.items() if one == kind]
            lines.append(f"{count:,} {kind}: {examples(named)}")
        if self.lost:
            lines.append(f"{plural(len(self.lost), 'tables')} of rows gone or damaged: {examples(self.lost)}")
        if self.unknown:
            lines.append(
                f"{plural(len(self.unknown), 'files')} in {self.folder}/ that no row knows: {examples(self.unknown)}"
            )
        return "\n".join(lines)


def open_verified(settings: VerifySettings) -> Finished:
    """Find a finished run; UsageError where there is none."""
    place = split_uri(settings.output)
    is_single = PurePosixPath(settings.output).suffix.lower() in CONTAINERS
    output = open_storage(run_folder(place) if is_single else settings.output, settings.s3)
    command = (read_json(output, RUN) or {}).get("command")
    run = read_run(output, command if command in list(KINDS) else "enhance")
    if run is None:
        raise UsageError(
            f"there is no run in {settings.output}: it has no {RUN}. OUT is what sgllie enhance or video has written"
        )
    if not output.exists(SUCCESS):
        raise UsageError(
            f"the run in {settings.output} is not finished; the same sgllie {command} command goes on with it"
        )
    if is_single:
        return Finished(run, output, open_storage(place[0], settings.s3))
    output = packed(output, run["settings"].get("image_column"))
    return Finished(run, output, output)


def verify(settings: VerifySettings, finished: Finished) -> Findings:
    """Read every output of a run, and compare it with its row."""
    findings = Findings(finished.kind.folder)
    output, files = finished.output, finished.files
    items = COMMITS, finished.commit_sizes, finished.kind.schema, partial(difference, files)
    others = OTHERS, finished.other_sizes, OTHERS_SCHEMA, partial(other_size, output)
    with ThreadPoolExecutor(settings.threads) as pool, display(sum(finished.run["shards"]), "files") as shown:
        for folder, sizes, schema, check in (items, others):
            for shard, found in sound_tables(output, folder, sizes, schema, findings.lost):
                rows = [row for row in found if row["output"]]
                # A row of Parquet keeps its name, whatever the format of its image, and is there without one.
                packs = {row["path"]: pack_of(row["path"]) for row in found}
                findings.known |= {f"{IMAGES}/{path}" for path, pack in packs.items() if pack not in (None, path)}
                findings.packs |= {f"{IMAGES}/{pack}": shard for pack in packs.values() if pack}
                for row, kind in zip(rows, pool.map(check, rows), strict=True):
                    findings.note(shard, row, kind)
                    shown.update(Counts({"": (findings.checked, findings.kinds.total())}))
    findings.lost += unsound(output, finished.commit_sizes)
    for entry in unknown(open_storage(output.uri, settings.s3), findings, finished.run):
        findings.note_stray(entry)
    return findings


def sound_tables(
    output: Storage, folder: str, sizes: Mapping[int, int], schema: pa.Schema, lost: list[str]
) -> Iterator[tuple[int, list[Row]]]:
    """Yield each shard of a folder with its rows; the names of tables that are gone or damaged go into `lost`."""
    there = parts(output.list(folder))
    for shard, size in sorted(sizes.items()):
        try:
            if shard not in there:
                raise DamagedError(f"{part_name(shard)} is not there")
            yield shard, commit_table(output, shard, schema, folder, size).to_pylist()
        except DamagedError:
            lost.append(f"{folder}/{part_name(shard)}")


def unknown(output: Storage, findings: Findings, run: Json) -> Iterator[Entry]:
    """Yield the files, the images in packs, and the damaged packs, that are no output of any row."""
    folder, known = findings.folder, findings.known
    left = (entry for entry in output.list(folder) if f"{folder}/{entry.path}" not in known)  # not what was carried
    for entry in unpacked(left, output, folder, run["settings"].get("image_column")):
        if f"{folder}/{entry.path}" not in known:
            yield entry


def difference(files: Storage, row: Row) -> str | None:
    """Return how the output of a row differs from what was written, if it does."""
    try:
        if (row["bytes_out"] or 0) <= WHOLE_BYTES:
            found = hashlib.sha256(files.read(row["output"]))
        else:
            with files.open(row["output"]) as file:
                found = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    except FileNotFoundError:
        return "missing"
    except ReadError:
        return "unreadable"
    return None if found.hexdigest() == row["sha256_out"] else "changed"


def other_size(output: Storage, row: Row) -> str | None:
    """Return how a carried file differs from its row; a server may have copied it, so that its size alone is known."""
    found = output.find(row["output"])
    if found is None:
        return "missing"
    return None if row["bytes"] in (None, found.size) else "changed"


def mark_failed(finished: Finished, findings: Findings) -> None:
    """Let the rows of wrong files say that they failed, and remove damaged tables, so that both are made again."""
    output, kind = finished.output, finished.kind
    output.remove(SUCCESS)
    for name in findings.lost:
        output.remove(name)
    for shard, wrong in findings.wrong.items():
        items = COMMITS, kind.schema, kind.tally
        folder, schema, tally = (OTHERS, OTHERS_SCHEMA, OTHERS_TALLY) if shard in finished.other_sizes else items
        table = commit_table(output, shard, folder=folder)
        rows = list(marked(table.select(schema.names).to_pylist(), wrong))
        spent = part_spent(read_totals(output, shard, folder))
        write_commit(output, shard, rows, schema, tally, folder=folder, columns=table, spent=spent)


def marked(rows: list[Row], wrong: dict[str, str]) -> Iterator[Row]:
    """Yield the rows, those of wrong files as failed."""
    for row in rows:
        kind = wrong.get(row["path"]) or wrong.get(pack_of(row["path"]) or "")
        failed = Failure("write", f"its output is {kind}").columns() | NO_OUTPUT | {"bytes": None}
        yield row | failed if kind else row


def settings_of(finished: Finished, settings: VerifySettings) -> Any:
    """Return the settings of a run, from its run.json, with which what failed is tried again, and the rest is finished.

    Raises:
        UsageError: run.json holds settings that this version does not know.
    """
    run, kind = finished.run, finished.kind
    stored: dict[str, Any] = dict(run["settings"])
    stored |= {"output": settings.output, "s3": settings.s3, "retry_failed": True, "overwrite": False, "dry_run": False}
    stored |= {"price": Prices()}
    known = {name.partition(".")[0] for name, _, _ in flat_fields(kind.settings("in", "out"))}
    try:
        if settings.s3 == S3Options():
            stored["s3"] = S3Options(**run["settings"]["s3"])
        stored["input"] = run["sources"]["input"]  # whatever the folder that the command was given in
        return kind.settings(**{name: value for name, value in stored.items() if name in known})
    except (KeyError, TypeError) as error:
        raise UsageError(f"{finished.output.uri}/{RUN} does not hold the settings of its command: {error}") from error
