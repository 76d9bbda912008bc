"""From a listing to a manifest: counted, cut into shards, and checked before anything is written to the output."""

import hashlib
import random
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol, TypeVar

import numpy as np

from sgllie.errors import UsageError
from sgllie.runs.names import part_name
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


@dataclass(frozen=True)
class Plan:
    """What a listing came to.

    Attributes:
        items: how many there are.
        size: their bytes, as far as the listing told.
        shards: the number of items in each shard.
        digest: SHA-256 over all fields of every item, in order.
    """

    items: int
    size: int
    shards: list[int]
    digest: str


def write_manifest(
    items: Iterable[Any], item_type: type[tuple[Any, ...]], shard_items: int, folder: Path, first: int = 0
) -> Plan:
    """Stream items into the parts of a manifest, with one shard in memory at a time.

    Args:
        items: named tuples with a `size`.
        item_type: their type.
        shard_items: items of a shard, at most.
        folder: where the parts are written.
        first: number of the first shard.
    """
    digest = hashlib.sha256()
    size = 0
    shards: list[int] = []
    for shard in cut(items, shard_items):
        for item in shard:
            digest.update(repr(tuple(item)).encode())
            size += item.size or 0
        (folder / part_name(first + len(shards))).write_bytes(manifest_bytes(shard, item_type))
        shards.append(len(shard))
    return Plan(sum(shards), size, shards, digest.hexdigest())


def cut(items: Iterable[Item], shard_items: int) -> Iterator[list[Item]]:
    """Cut a listing into shards of at most `shard_items` items and about SHARD_BYTES; of more, if the listing is long.

    A shard holds at most a sixteenth of what comes before it, so that there are small ones for the end: see
    `in_order`.
    """
    shard: list[Item] = []
    size = total = 0
    for listed, item in enumerate(items, start=1):
        shard.append(item)
        size += item.size or 0
        total += item.size or 0
        most = max(min(shard_items, max(32, listed // 16)), listed // PARTS)
        if len(shard) >= most or size >= max(SHARD_BYTES, total // PARTS):
            yield shard
            shard, size = [], 0
    if shard:
        yield shard


def in_order(shards: Mapping[int, int]) -> list[int]:
    """Return shards in the order in which they are run; `shards` is the number of items of each.

    Shuffled, always alike, since neighbours lie in one range of keys, which one server of a bucket answers for; and the
    small ones last, so that all workers finish together (guided self-scheduling, Polychronopoulos and Kuck 1987).
    """
    mixed = random.Random(0).sample(sorted(shards), len(shards))
    return sorted(mixed, key=lambda shard: -shards[shard].bit_length())


class OutputNames:
    """The names that the outputs of a listing will have, watched as it streams by: eight bytes are kept of each.

    Args:
        output_name: path of an input -> path of its output.
    """

    def __init__(self, output_name: Callable[[str], str]) -> None:
        self.output_name = output_name
        self._hashes = array("Q")

    def watch(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the same entries."""
        for entry in entries:
            self._hashes.append(name_hash(self._name(entry)))
            yield entry

    def _name(self, entry: Entry) -> str:
        """Return the name as a folder would hold it: keys of S3 such as `/a` and `b//c` are `a` and `b/c` there."""
        return str(PurePosixPath(self.output_name(entry.path))).lstrip("/")

    def refuse_clashes(self, entries: Iterable[Entry]) -> None:
        """Raise UsageError where two inputs have one output name; only where hashes repeat are names compared."""
        hashes = np.sort(np.array(self._hashes, np.uint64))
        repeated = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
        if not repeated:
            return
        first: dict[str, str] = {}
        for entry in entries:
            name = self._name(entry)
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


def name_hash(name: str) -> int:
    """Return 64 bits that stand for a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")
