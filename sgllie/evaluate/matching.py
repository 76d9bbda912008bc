"""Which files belong together: by their path below their root, and where suffixes differ by the path without suffix."""

import posixpath
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from sgllie.storage import Entry


class Item(NamedTuple):
    """The files of one picture, by their paths below the roots of their kinds; None where there is none.

    Attributes:
        path: what the row is called.
        size: bytes of all of them, if they are known.
        version: what changes when one of them does.
        after: the enhanced image, or what was predicted on it.
        before: the same before enhancement.
        truth: the reference or the label.
        problem: why a file is missing that should be there, or None.
    """

    path: str
    size: int | None
    version: str
    after: str | None
    before: str | None
    truth: str | None
    problem: str | None


SIDES = ("after", "before", "truth")


class Names:
    """The files of one kind, to be found by the name of another. All of their names are held in memory.

    Args:
        entries: the files.
        kind: what they are, for sentences: `reference`.
        endings: of names, that do not count.
    """

    def __init__(self, entries: Iterable[Entry], kind: str, endings: tuple[str, ...] = ()) -> None:
        self.kind = kind
        self.endings = endings
        self._by_key: dict[str, list[Entry]] = {}
        self._taken: set[str] = set()
        for entry in entries:
            self._by_key.setdefault(self._key(entry.path), []).append(entry)

    def __bool__(self) -> bool:
        """Tell whether there are any files."""
        return bool(self._by_key)

    def _key(self, path: str) -> str:
        stem = posixpath.splitext(path)[0]
        for ending in self.endings:
            stem = stem.removesuffix(ending)
        return stem

    def find(self, path: str) -> tuple[Entry | None, str | None]:
        """Return the file of this path, else the only one that differs in nothing but suffix; or why there is none."""
        found = self._by_key.get(self._key(path), [])
        exact = [entry for entry in found if entry.path == path]
        if len(exact or found) == 1:
            entry = (exact or found)[0]
            self._taken.add(entry.path)
            return entry, None
        if not found:
            return None, f"there is no {self.kind} of this name"
        return None, f"there are several files that may be its {self.kind}: {', '.join(e.path for e in found[:3])}"

    def left(self) -> Iterator[Entry]:
        """Yield those that no name has found, in their order."""
        for entries in self._by_key.values():
            yield from (entry for entry in entries if entry.path not in self._taken)


def join(path: str, sides: dict[str, tuple[Entry | None, str | None]]) -> Item:
    """Return the item of one picture, from what was found for each of its sides, or why it was not."""
    files = {side: entry for side, (entry, _) in sides.items() if entry}
    sizes = [entry.size for entry in files.values()]
    problems = [problem for _, problem in sides.values() if problem]
    return Item(
        path=path,
        size=sum(size or 0 for size in sizes) if any(sizes) else None,
        version=" ".join(str(entry.version) for entry in files.values()),
        after=files["after"].path if "after" in files else None,
        before=files["before"].path if "before" in files else None,
        truth=files["truth"].path if "truth" in files else None,
        problem="; ".join(problems) or None,
    )


def match(main: str, entries: Iterable[Entry], others: dict[str, Names], keep_left: bool) -> Iterator[Item]:
    """Yield one item for each file of the main side, with those that belong to it.

    Args:
        main: the side (`after`, `before` or `truth`) that the rows are named after.
        entries: its files.
        others: the files of other sides.
        keep_left: whether files of the others that belong to none make items too, with a problem.
    """
    for entry in entries:
        yield join(entry.path, {main: (entry, None)} | {side: names.find(entry.path) for side, names in others.items()})
    if not keep_left:
        return
    reported: set[str] = set()
    for side, names in others.items():
        for entry in names.left():
            if entry.path not in reported:
                reported.add(entry.path)
                yield join(entry.path, {side: (entry, f"there is no enhanced image for this {names.kind}")})
