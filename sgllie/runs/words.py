"""How jobs put numbers into words."""

import sys
from collections.abc import Sequence
from typing import Any

EXAMPLES = 5
"""Files that are named where many are counted."""


def say(text: str) -> None:
    """Print a text, at once."""
    sys.stdout.write(printable(text) + "\n")
    sys.stdout.flush()


def printable(text: str) -> str:
    r"""Return a text in which control characters are spelled out (`\x1b`): names of files must not steer a terminal."""
    return "".join(c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def duration(seconds: float) -> str:
    """Write a time in words: `75` -> `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def size(count: int) -> str:
    """Write a number of bytes as people read it."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:,.1f} {name}"
    return f"{count / 1e3:,.1f} kB"


def plural(count: int, noun: str) -> str:
    """Write a count with its noun: `1 shard`, `1,200 images`."""
    return f"{count:,} {noun.removesuffix('s') if count == 1 else noun.removesuffix('s') + 's'}"


def ignored_note(count: int, named: Sequence[str], what: str = "other files", done: str = "ignored") -> list[str]:
    """Return the note on files that are no part of the input, or not all of it, if there are any."""
    if not count:
        return []
    return [f"{plural(count, what)} {done}: {examples(named, count)}"]


def examples(names: Sequence[str], count: int | None = None, separator: str = ", ") -> str:
    """Write the first of some names: `a.txt, b.txt, ...`; `count` is how many there are if not all are given."""
    return separator.join([*names[:EXAMPLES], *(["..."] if (count or len(names)) > EXAMPLES else [])])


def outcomes(totals: dict[str, Any], done: str) -> str:
    """Write what became of the items of a job: `5 enhanced, 1 failed (1 truncated)`; `done` is the first participle."""
    parts = [f"{totals['ok']:,} {done}"]
    if totals.get("copied"):
        reasons = ", ".join(f"{reason}: {count:,}" for reason, count in totals.get("reasons", {}).items())
        parts.append(f"{totals['copied']:,} copied" + (f" ({reasons})" if reasons else ""))
    if totals["failed"]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in totals["errors"].items())
        parts.append(f"{totals['failed']:,} failed ({kinds})")
    return ", ".join(parts)
