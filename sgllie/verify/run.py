"""The images of a run against the hashes in its rows, a shard at a time."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import TALLY
from sgllie.errors import ReadError, UsageError
from sgllie.runs.commits import commit_table, read_totals, write_commit
from sgllie.runs.cost import Prices, part_spent
from sgllie.runs.names import COMMITS, IMAGES, RUN, SUCCESS, parts
from sgllie.runs.progress import display
from sgllie.runs.run_file import Json, read_run
from sgllie.runs.schemas import STATS_SCHEMA, Row
from sgllie.runs.words import examples, plural
from sgllie.settings import flat_fields
from sgllie.storage import S3Options, Storage, open_storage
from sgllie.verify.settings import VerifySettings


@dataclass
class Findings:
    """What was found: the images that are not what their rows say, by shard, and the files that no row knows."""

    checked: int = 0
    wrong: dict[int, dict[str, str]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)

    @property
    def kinds(self) -> Counter[str]:
        """How many images are `missing`, `changed` or cannot be read."""
        return Counter(kind for shard in self.wrong.values() for kind in shard.values())

    def describe(self) -> str:
        """Say what was found."""
        lines = [f"{plural(self.checked, 'images')} checked, {self.kinds.total():,} are not what their rows say."]
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
    return output, run


def verify(settings: VerifySettings, output: Storage) -> Findings:
    """Read every output, and compare it with its row."""
    shards = sorted(parts(output.list(COMMITS)))
    findings = Findings()
    known: set[str] = set()
    with ThreadPoolExecutor(settings.threads) as pool, display(sum(1 for _ in output.list(IMAGES)), "images") as shown:
        for shard in shards:
            rows = [row for row in commit_table(output, shard).to_pylist() if row["output"]]
            for row, kind in zip(rows, pool.map(lambda row: difference(output, row), rows), strict=True):
                findings.checked += 1
                known.add(row["output"])
                if kind:
                    findings.wrong.setdefault(shard, {})[row["path"]] = kind
                shown.update({"": (findings.checked, findings.kinds.total())})
    listed = (f"{IMAGES}/{entry.path}" for entry in output.list(IMAGES))
    findings.unknown = [name for name in listed if name not in known]
    return findings


def difference(output: Storage, row: Row) -> str | None:
    """Return how the output of a row differs from what was written, if it does."""
    try:
        data = output.read(row["output"])
    except FileNotFoundError:
        return "missing"
    except ReadError:
        return "unreadable"
    return None if hashlib.sha256(data).hexdigest() == row["sha256_out"] else "changed"


def mark_failed(output: Storage, findings: Findings) -> None:
    """Let the rows of wrong images say that they failed, so that they are tried again."""
    output.remove(SUCCESS)
    for shard, wrong in findings.wrong.items():
        rows = list(marked(commit_table(output, shard).to_pylist(), wrong))
        write_commit(output, shard, rows, STATS_SCHEMA, TALLY, spent=part_spent(read_totals(output, shard)))


def marked(rows: list[Row], wrong: dict[str, str]) -> Iterator[Row]:
    """Yield the rows, those of wrong images as failed."""
    for row in rows:
        kind = wrong.get(row["path"])
        failed = {"status": "failed", "error_type": "write", "error": f"its output is {kind}", "output": None}
        yield row | failed | {"bytes_out": None, "sha256_out": None} if kind else row


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
