"""From a listing to a manifest: counted, cut into shards, and checked before anything is written to the output."""

import hashlib
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

import numpy as np

from sgllie.corpus.pack import pack_of
from sgllie.errors import UsageError
from sgllie.runs.names import COMMITS, OTHERS, part_name
from sgllie.runs.tables import manifest_bytes
from sgllie.storage import Entry

SHARD_BYTES = 256 * 2**20
PARTS = 3000
"""A shard may always hold one part in so many of what is listed by then. So there are few more shards than this below
three million images or 800 GB, and 14,000 to 20,000 at a hundred million or 200 TB: PARTS * (1 + ln(100 / 3))."""


class Sized(Protocol):
    """What is cut into shards: an `Entry`, or what another job has in its place."""

    @property
    def size(self) -> int | None:
        """Bytes, if they are known."""


Item = TypeVar("Item", bound=Sized)
Bond = Callable[[Any], str | None]
"""Item -> what it shares with its neighbours, if anything."""
OutputName = Callable[[str], str]
"""Path of an input -> path of its output."""


@dataclass(frozen=True)
class Plan:
    """What a listing came to.

    Attributes:
        items: how many there are.
        size: their bytes, as far as the listing told.
        shards: the number of items in each shard, those of other files included.
        digest: SHA-256 over all fields of every item, in order.
        others: the shards of files that are carried beside the items, and are none.
    """

    items: int
    size: int
    shards: list[int]
    digest: str
    others: frozenset[int] = frozenset()

    def carrying(self, others: "Plan", first: int = 0) -> "Plan":
        """Return the plan with the shards of other files, whose numbers follow; `first` is that of its first shard."""
        first += len(self.shards)
        digest = hashlib.sha256(f"{self.digest} {others.digest}".encode()).hexdigest() if others.shards else self.digest
        numbers = frozenset(range(first, first + len(others.shards)))
        return Plan(self.items, self.size, self.shards + others.shards, digest, numbers)

    @property
    def commit_sizes(self) -> dict[int, int]:
        """How many rows each commit has, by its number."""
        return {shard: size for shard, size in enumerate(self.shards) if shard not in self.others}

    def folder(self, shard: int) -> str:
        """Return where the rows of a shard are committed."""
        return OTHERS if shard in self.others else COMMITS


def write_manifest(
    items: Iterable[Any],
    item_type: type[tuple[Any, ...]],
    shard_items: int,
    folder: Path,
    *,
    first: int = 0,
    apart: Bond = lambda item: None,
    together: Bond = lambda item: None,
) -> Plan:
    """Stream items into the parts of a manifest, with one shard in memory at a time.

    Args:
        items: named tuples with a `size`.
        item_type: their type.
        shard_items: items of a shard, at most.
        folder: where the parts are written.
        first: the number of the first shard.
        apart: see `cut`.
        together: see `cut`.
    """
    digest = hashlib.sha256()
    size = 0
    shards: list[int] = []
    for shard in cut(items, shard_items, apart, together):
        for item in shard:
            digest.update(repr(tuple(item)).encode())
            size += item.size or 0
        (folder / part_name(first + len(shards))).write_bytes(manifest_bytes(shard, item_type))
        shards.append(len(shard))
    return Plan(sum(shards), size, shards, digest.hexdigest())


def cut(
    items: Iterable[Item],
    shard_items: int,
    apart: Bond = lambda item: None,
    together: Bond = lambda item: None,
) -> Iterator[list[Item]]:
    """Cut a listing into shards of at most `shard_items` items and about SHARD_BYTES; of more, if the listing is long.

    A shard holds at most a sixteenth of what comes before it, so that there are small ones for the end: see
    `in_order`.

    Args:
        items: in their order.
        shard_items: of one shard, at most.
        apart: what all items of one shard share.
        together: what an item shares with its neighbours that are to be in one shard with it, however many they are.
    """
    shard: list[Item] = []
    size = total = 0
    is_full = False
    bonds: tuple[str | None, str | None] = None, None
    for listed, item in enumerate(items, start=1):
        before, bonds = bonds, (apart(item), together(item))
        may_end = bonds[1] is None or bonds[1] != before[1]
        if shard and (bonds[0] != before[0] or (is_full and may_end)):
            yield shard
            shard, size = [], 0
        shard.append(item)
        size += item.size or 0
        total += item.size or 0
        most = max(min(shard_items, max(32, listed // 16)), listed // PARTS)
        is_full = len(shard) >= most or size >= max(SHARD_BYTES, total // PARTS)
    if shard:
        yield shard


def kind_of(entry: Entry) -> str | None:
    """Return what the images of one shard share: they lie in tars and Parquet files, or none does."""
    return "packed" if pack_of(entry.path) else None


def pack_or(moment: Bond) -> Bond:
    """Return what images share that are in one shard: the tar or Parquet file that a worker writes, or their moment."""
    return lambda entry: pack_of(entry.path) or moment(entry)


def in_order(shards: Mapping[int, int]) -> list[int]:
    """Return shards in the order in which they are run; `shards` is the number of items of each.

    Shuffled, always alike, since neighbours lie in one range of keys, which one server of a bucket answers for; and the
    small ones last, so that all workers finish together (guided self-scheduling, Polychronopoulos and Kuck 1987).
    """
    mixed = random.Random(0).sample(sorted(shards), len(shards))
    return sorted(mixed, key=lambda shard: -shards[shard].bit_length())


class OutputNames:
    """The names that the outputs of a listing will have, watched as it streams by: eight bytes are kept of each."""

    def __init__(self) -> None:
        self._hashes = array("Q")

    def watch(self, entries: Iterable[Entry], output_name: OutputName) -> Iterator[Entry]:
        """Yield the same entries, whose outputs will have the names that are made of their paths."""
        for entry in entries:
            self._hashes.append(name_hash(in_folder(output_name(entry.path))))
            yield entry

    def refuse_clashes(self, *kinds: tuple[Iterable[Entry], OutputName]) -> None:
        """Raise UsageError where two inputs have one output name; only where hashes repeat are names compared."""
        hashes = np.sort(np.array(self._hashes, np.uint64))
        repeated = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not repeated:
            return
        first: dict[str, str] = {}
        for entry, name in ((entry, in_folder(named(entry.path))) for entries, named in kinds for entry in entries):
            if name_hash(name) not in repeated:
                continue
            if first.get(name) == entry.path:
                raise UsageError(f"{entry.path!r} is listed twice; name it once")
            if name in first:
                raise UsageError(
                    f"{first[name]!r} and {entry.path!r} would both be written to {name!r}; rename one of them, "
                    "or give each a run of its own"
                )
            first[name] = entry.path


def in_folder(name: str) -> str:
    """Return a name as a folder would hold it: keys of S3 such as `/a` and `b//c` are `a` and `b/c` there."""
    return str(PurePosixPath(name)).lstrip("/")


def name_hash(name: str) -> int:
    """Return 64 bits that stand for a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
