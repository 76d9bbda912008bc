"""The images of a run against the hashes in its rows, a shard at a time."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sgllie.corpus.pack import pack_of
from sgllie.corpus.packed import packed, unpacked
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import OTHERS_TALLY, TALLY
from sgllie.errors import ReadError, UsageError
from sgllie.runs.commits import commit_table, read_totals, write_commit
from sgllie.runs.cost import Prices, part_spent
from sgllie.runs.names import COMMITS, IMAGES, OTHERS, RUN, SUCCESS, parts
from sgllie.runs.progress import Counts, display
from sgllie.runs.run_file import Json, read_run
from sgllie.runs.schemas import OTHERS_SCHEMA, STATS_SCHEMA, Row
from sgllie.runs.words import examples, plural
from sgllie.settings import flat_fields
from sgllie.storage import S3Options, Storage, open_storage
from sgllie.verify.settings import VerifySettings


@dataclass
class Findings:
    """What was found: the files that are not what their rows say, by shard, and those that no row knows."""

    checked: int = 0
    wrong: dict[int, dict[str, str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def note(self, shard: int, row: Row, kind: str | None) -> None:
        """Take down what a row's output is: right, or wrong in this way."""
        self.checked += 1
        self.known.add(row["output"])
        if kind:
            self.wrong.setdefault(shard, {})[row["path"]] = kind

    @property
    def kinds(self) -> Counter[str]:
        """How many images are `missing`, `changed` or cannot be read."""
        return Counter(kind for shard in self.wrong.values() for kind in shard.values())

    def describe(self) -> str:
        """Say what was found."""
        lines = [f"{plural(self.checked, 'files')} checked, {self.kinds.total():,} are not what their rows say."]
        for kind, count in sorted(self.kinds.items()):
            named = [path for shard in self.wrong.values() for path, one in shard.items() if one == kind]
            lines.append(f"{count:,} {kind}: {examples(named)}")
        if self.unknown:
            lines.append(
                f"{plural(len(self.unknown), 'files')} in {IMAGES}/ that no row knows: {examples(self.unknown)}"
            )
        return "\n".join(lines)


def open_verified(settings: VerifySettings) -> tuple[Storage, Json]:
    """Return the output of a finished run and its run.json; UsageError where there is none."""
    output = open_storage(settings.output, settings.s3)
    run = read_run(output, "enhance")
    if run is None:
        raise UsageError(f"there is no run in {settings.output}: it has no {RUN}. OUT is the output of sgllie enhance")
    if not output.exists(SUCCESS):
        raise UsageError(
            f"the run in {settings.output} is not finished; the same sgllie enhance command goes on with it"
        )
    return packed(output, run["settings"].get("image_column")), run


def verify(settings: VerifySettings, output: Storage, run: Json) -> Findings:
    """Read every output of a run, and compare it with its row."""
    findings = Findings()
    with ThreadPoolExecutor(settings.threads) as pool, display(sum(run["shards"]), "files") as shown:
        for shard in sorted(parts(output.list(COMMITS))):
            found = commit_table(output, shard, STATS_SCHEMA.names).to_pylist()
            rows = [row for row in found if row["output"]]
            # A row of Parquet keeps its name, whatever the format of its image, and is there without one.
            findings.known |= {f"{IMAGES}/{row['path']}" for row in found if pack_of(row["path"])}
            for row, kind in zip(rows, pool.map(lambda row: difference(output, row), rows), strict=True):
                findings.note(shard, row, kind)
                shown.update(Counts({"": (findings.checked, findings.kinds.total())}))
        for shard in sorted(parts(output.list(OTHERS))):
            table = commit_table(output, shard, OTHERS_SCHEMA.names, OTHERS)
            rows = [row for row in table.to_pylist() if row["output"]]
            for row, kind in zip(rows, pool.map(lambda row: other_size(output, row), rows), strict=True):
                findings.note(shard, row, kind)
                shown.update(Counts({"": (findings.checked, findings.kinds.total())}))
    findings.unknown = list(unknown(open_storage(settings.output, settings.s3), findings.known, run))
    return findings


def unknown(output: Storage, known: set[str], run: Json) -> Iterator[str]:
    """Yield the files, and the images in packs, that are no output of any row."""
    left = (entry for entry in output.list(IMAGES) if f"{IMAGES}/{entry.path}" not in known)  # not what was carried
    for entry in unpacked(left, output, IMAGES, run["settings"].get("image_column")):
        if f"{IMAGES}/{entry.path}" not in known:
            yield f"{IMAGES}/{entry.path}"


def difference(output: Storage, row: Row) -> str | None:
    """Return how the output of a row differs from what was written, if it does."""
    try:
        data = output.read(row["output"])
    except FileNotFoundError:
        return "missing"
    except ReadError:
        return "unreadable"
    return None if hashlib.sha256(data).hexdigest() == row["sha256_out"] else "changed"


def other_size(output: Storage, row: Row) -> str | None:
    """Return how a carried file differs from its row; a server may have copied it, so that its size alone is known."""
    found = output.find(row["output"])
    if found is None:
        return "missing"
    return None if row["bytes"] in (None, found.size) else "changed"


def mark_failed(output: Storage, findings: Findings) -> None:
    """Let the rows of wrong files say that they failed, so that they are tried again."""
    output.remove(SUCCESS)
    others = parts(output.list(OTHERS))
    for shard, wrong in findings.wrong.items():
        is_other = shard in others
        folder, schema, tally = (OTHERS, OTHERS_SCHEMA, OTHERS_TALLY) if is_other else (COMMITS, STATS_SCHEMA, TALLY)
        table = commit_table(output, shard, folder=folder)
        rows = list(marked(table.select(schema.names).to_pylist(), wrong))
        spent = part_spent(read_totals(output, shard, folder))
        write_commit(output, shard, rows, schema, tally, folder=folder, columns=table, spent=spent)


def marked(rows: list[Row], wrong: dict[str, str]) -> Iterator[Row]:
    """Yield the rows, those of wrong files as failed."""
    for row in rows:
        kind = wrong.get(row["path"])
        failed = {"status": "failed", "error_type": "write", "error": f"its output is {kind}", "output": None}
        yield row | failed | {"bytes_out": None, "sha256_out": None, "bytes": None} if kind else row


def settings_of(run: Json, settings: VerifySettings) -> EnhanceSettings:
    """Return the settings of a run, from its run.json, that try its failed images again.

    Raises:
        UsageError: run.json holds settings that this version does not know.
    """
    stored: dict[str, Any] = dict(run["settings"])
    stored |= {"output": settings.output, "s3": settings.s3, "retry_failed": True, "overwrite": False, "dry_run": False}
    stored |= {"price": Prices()}
    known = {name.partition(".")[0] for name, _, _ in flat_fields(EnhanceSettings("in", "out"))}
    try:
        if settings.s3 == S3Options():
            stored["s3"] = S3Options(**run["settings"]["s3"])
        return EnhanceSettings(**{name: value for name, value in stored.items() if name in known})
    except (KeyError, TypeError) as error:
        raise UsageError(f"{settings.output}/{RUN} does not hold the settings of sgllie enhance: {error}") from error
