"""From a listing to a manifest: counted, cut into shards, and checked before anything is written to the output."""

import hashlib
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from sgllie.corpus import cut, manifest_bytes, part_name
from sgllie.storage import Entry, UsageError


@dataclass(frozen=True)
class Plan:
    """What a listing came to.

    Attributes:
        images: number of images.
        size: their bytes, as far as the listing told.
        shards: the number of images in each shard.
        digest: SHA-256 over path, size and version of every image, in order.
    """

    images: int
    size: int
    shards: list[int]
    digest: str


def make_plan(
    entries: Iterable[Entry], shard_images: int, output_name: Callable[[str], str], write: Callable[[str, bytes], None]
) -> Plan:
    """Stream a listing into manifest parts, with one shard in memory at a time and eight bytes for each image.

    Args:
        entries: the listed images; listed a second time where two of them clash.
        shard_images: images in a shard, at most.
        output_name: the path of the enhanced image for the path of an input.
        write: takes name and bytes of each manifest part.

    Raises:
        UsageError: an output would lie outside the output folder, or two inputs would be written to one name.
    """
    digest = hashlib.sha256()
    names = array("Q")
    size = 0
    shards: list[int] = []
    for shard in cut(entries, shard_images):
        for entry in shard:
            digest.update(f"{entry.path}\0{entry.size}\0{entry.version}\n".encode())
            names.append(name_hash(checked(output_name(entry.path))))
            size += entry.size or 0
        write(part_name(len(shards)), manifest_bytes(shard))
        shards.append(len(shard))
    refuse_clashes(entries, output_name, names)
    return Plan(sum(shards), size, shards, digest.hexdigest())


def checked(name: str) -> str:
    """The name as a folder would hold it: keys of S3 such as `/a` and `b//c` are `a` and `b/c` there."""
    path = PurePosixPath(name)
    if ".." in path.parts:
        raise UsageError(f"the output of {name!r} would lie outside OUT; rename the input or choose another IN")
    return str(path).lstrip("/")


def name_hash(name: str) -> int:
    """64 bits that stand for a name."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


def refuse_clashes(entries: Iterable[Entry], output_name: Callable[[str], str], names: "array[int]") -> None:
    """Raise UsageError where two inputs have one output name; only where hashes repeat are names compared."""
    hashes = np.sort(np.array(names, np.uint64))
    repeated = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not repeated:
        return
    first: dict[str, str] = {}
    for entry in entries:
        name = checked(output_name(entry.path))
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
