"""What the rows of shards come to: numbers that add up, so that nobody need read the rows again to count them."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sgllie.runs.schemas import Row

Totals = dict[str, float]
"""`rows`, `ok`, `copied`, `failed`, `failed:truncated` and so on, and the sums of a job's own columns."""

FAILED = "failed:"


@dataclass(frozen=True)
class Tally:
    """How the rows of a job become totals.

    Attributes:
        sums: columns that are added up over all rows; null counts as nothing.
        good_sums: columns that are added up over the rows that did not fail.
    """

    sums: tuple[str, ...] = ()
    good_sums: tuple[str, ...] = ()

    def __call__(self, rows: Iterable[Row]) -> Totals:
        """Return the totals of some rows."""
        totals: Counter[str] = Counter()
        for row in rows:
            has_failed = row["status"] == "failed"
            totals.update(["rows", row["status"], *([f"{FAILED}{row['error_type']}"] if has_failed else [])])
            totals.update({name: row.get(name) or 0 for name in self.sums})
            totals.update({name: row.get(name) or 0 for name in ([] if has_failed else self.good_sums)})
        return dict(totals)


def add_up(all_totals: Iterable[Totals]) -> Totals:
    """Return the totals of several shards together."""
    together: defaultdict[str, float] = defaultdict(float)
    for totals in all_totals:
        for name, value in totals.items():
            together[name] += value
    return dict(together)


def outcome_counts(totals: Totals) -> dict[str, Any]:
    """Return what every summary says: rows by status, and those that failed by error type, the most frequent first."""
    kinds = {name.removeprefix(FAILED): int(count) for name, count in totals.items() if name.startswith(FAILED)}
    counts = {name: int(totals.get(name, 0)) for name in ("ok", "copied", "failed")}
    errors = most_frequent(kinds)
    return {"images": int(totals.get("rows", 0)), **counts, "errors": errors}


def most_frequent(counts: Mapping[str, int]) -> dict[str, int]:
    """Return counts with the highest first, equal ones by name: rows come in any order, and one run has one summary."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
