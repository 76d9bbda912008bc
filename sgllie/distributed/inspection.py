"""The first look at all photographs of a training, on all processors of the cluster."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

from sgllie.corpus.listing import Listing
from sgllie.corpus.packed import packed
from sgllie.distributed.cluster import get
from sgllie.distributed.placement import Resources, nodes_now
from sgllie.errors import StorageError, UsageError
from sgllie.runs.progress import Counts, display
from sgllie.runs.words import examples, plural, say
from sgllie.storage import Entry, Storage, absolute_uri, open_source
from sgllie.train import photographs
from sgllie.train.photographs import PhotoInfo
from sgllie.train.settings import TrainSettings

CHUNK = 64
"""Photographs of one task. Each is an object of its own: a process fetches those that it needs, and no others."""
LOST = (WorkerCrashedError, OutOfMemoryError, NodeDiedError)
"""What becomes of a task whose process has ended, be it by a photograph, or with its machine."""
MEMORY_SHARE = 0.5
"""Of the object store of a node that decoded photographs may fill."""


@dataclass(frozen=True)
class Corpus:
    """All photographs of a training, after the first look.

    Attributes:
        storage: where they lie.
        rows: one for each, in the order of the listing.
        pixels: a reference to each decoded photograph, None behind that of one that cannot be used; None where
            photographs are read again in each epoch.
    """

    storage: Storage
    rows: list[PhotoInfo]
    pixels: list[Any] | None


def list_photographs(settings: TrainSettings) -> tuple[Storage, list[Entry]]:
    """Return where the photographs of a training lie, and what the listing tells of each.

    Raises:
        UsageError: the input cannot be listed, or holds no images.
    """
    listing = Listing(
        *(settings.data, settings.s3, absolute_uri(settings.run)),
        image_column=settings.image_column,
        photographs_only=True,
    )
    try:
        listed = list(listing)
    except (StorageError, OSError) as error:
        raise UsageError(f"{settings.data} cannot be listed: {error}") from error
    if listing.label_maps.count:
        say(f"{plural(listing.label_maps.count, 'label maps')} left out: {examples(listing.label_maps.examples)}")
    if not listed:
        raise UsageError(f"{settings.data} holds no images")
    return packed(open_source(listing.root, settings.s3)), listed


def open_corpus(settings: TrainSettings, storage: Storage, listed: list[Entry]) -> Corpus:
    """Look at each photograph once; StorageError where the storage is gone."""
    size = settings.images.size
    keep = settings.cache == "memory" or (settings.cache == "auto" and fits(len(listed), size, nodes_now()))
    rows, pixels = inspect_all(storage, listed, size, keep)
    return Corpus(storage, rows, pixels if keep else None)


def fits(count: int, size: int, nodes: Sequence[Resources]) -> bool:
    """Tell whether that many photographs of size x size pixels fit in the object store of each node.

    Every node that loads images has all of them sooner or later, since another order brings it others in each epoch.
    """
    least = min((node.get("object_store_memory", 0) for node in nodes), default=0)
    return count * size * size * 3 < MEMORY_SHARE * least


# Nor are pixels made again that are lost with their machine: whoever needs one reads its file.
@ray.remote(max_retries=0)
def inspect(storage: Storage, listed: list[Entry], size: int, keep: bool, crashers: frozenset[str]) -> Any:
    """Run `photographs.inspect` as a task: return the rows, and the pixels each by themselves if they are kept."""
    rows, pixels = photographs.inspect(storage, listed, size, crashers)
    return (rows, *pixels) if keep else rows


def inspect_all(storage: Storage, listed: list[Entry], size: int, keep: bool) -> tuple[list[PhotoInfo], list[Any]]:
    """Look at all photographs, and return their rows, and references to their pixels, if they are to be kept.

    Raises:
        StorageError: the storage is gone; no photograph is to blame.
    """
    parts = [listed[start : start + CHUNK] for start in range(0, len(listed), CHUNK)]
    tasks = [begin(storage, part, size, keep) for part in parts]
    rows: list[PhotoInfo] = []
    with display(len(listed), "photographs") as shown:
        for place, part in enumerate(parts):
            try:
                found = get(tasks[place][0])
            except LOST:
                crashers = frozenset(entry.path for entry in part if kills(storage, entry, size))
                tasks[place] = begin(storage, part, size, keep, crashers)
                found = get(tasks[place][0])
            rows += found
            shown.update(Counts({"": (len(rows), sum(bool(row.error) for row in rows))}))
    return rows, [reference for _, *pixels in tasks for reference in pixels]


def begin(
    storage: Storage, listed: list[Entry], size: int, keep: bool, crashers: frozenset[str] = frozenset()
) -> list[Any]:
    """Begin to look at some photographs; return references to their rows, and to the pixels of each that are kept."""
    count = 1 + len(listed) * keep
    references: Any = inspect.options(num_returns=count).remote(storage, listed, size, keep, crashers)
    return references if keep else [references]


def kills(storage: Storage, entry: Entry, size: int) -> bool:
    """Tell whether looking at this photograph ends the process that does it."""
    try:
        get(begin(storage, [entry], size, keep=False)[0])
    except LOST:
        return True
    return False
