"""What the rows of shards come to: numbers that add up, so that nobody need read the rows again to count them."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sgllie.runs.schemas import Row

Totals = dict[str, float]
"""`rows`, `ok`, `copied`, `failed`, `failed:truncated` and so on, and what a job's own columns come to."""


@dataclass(frozen=True)
class Tally:
    """How the rows of a job become totals.

    Attributes:
        sums: columns that are added up over all rows; null counts as nothing.

    Of the rows that did not fail:
        averages: columns that are added up and counted (`column:rows`), where they are not null.
        kinds: columns of texts that are counted up to their first colon, as `column:text`.
    """

    sums: tuple[str, ...] = ()
    averages: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def __call__(self, rows: Iterable[Row]) -> Totals:
        """Return the totals of some rows."""
        totals: Counter[str] = Counter()
        for row in rows:
            has_failed = row["status"] == "failed"
            totals.update(["rows", row["status"], *([f"failed:{row['error_type']}"] if has_failed else [])])
            totals.update({name: row.get(name) or 0 for name in self.sums})
            if not has_failed:
                totals.update(f"{name}:{row[name].partition(':')[0]}" for name in self.kinds if row.get(name))
                for name in self.averages:
                    if row.get(name) is not None:
                        totals.update({name: row[name], f"{name}:rows": 1})
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
    counts = {name: int(totals.get(name, 0)) for name in ("ok", "copied", "failed")}
    return {"images": int(totals.get("rows", 0)), **counts, "errors": counts_of(totals, "failed")}


def counts_of(totals: Totals, name: str) -> dict[str, int]:
    """Return the counts of each kind under a name: the errors of `failed`, or a column's.

    The most frequent come first, equal ones by name: rows come in any order, and one run has one summary.
    """
    prefix = f"{name}:"
    counts = {key.removeprefix(prefix): int(totals[key]) for key in totals if key.startswith(prefix)}
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def mean_of(totals: Totals, name: str) -> float:
    """Return the mean of a column over the rows that have it; 0 where none has."""
    return totals.get(name, 0) / max(totals.get(f"{name}:rows", 0), 1)
