"""The first look at all photographs of a training, on all processors of the cluster."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
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
DIED = (WorkerCrashedError, OutOfMemoryError)
"""What becomes of a task whose process has ended, by a photograph or by others on its machine."""
MOST_DEATHS = 2
"""Of a task until its photographs are suspected: the end of a machine, and others that need its memory, kill, too."""
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


# Run again here, and not by Ray, which does not count how often a task has died for want of memory. Nor are pixels made
# again that are lost with their machine: whoever needs one reads its file.
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
    pixels: list[Any] = []
    with display(len(listed), "photographs") as shown:
        for part, task in zip(parts, tasks, strict=True):
            look = partial(begin, storage, part, size, keep)
            try:
                found, kept = settled(task, look)
            except DIED:
                look = partial(look, frozenset(entry.path for entry in part if kills(storage, entry, size)))
                found, kept = settled(look(), look)
            rows += found
            pixels += kept
            shown.update(Counts({"": (len(rows), sum(bool(row.error) for row in rows))}))
    return rows, pixels


def begin(
    storage: Storage, listed: list[Entry], size: int, keep: bool, crashers: frozenset[str] = frozenset()
) -> list[Any]:
    """Begin to look at some photographs; return references to their rows, and to the pixels of each that are kept."""
    count = 1 + len(listed) * keep
    references: Any = inspect.options(num_returns=count).remote(storage, listed, size, keep, crashers)
    return references if keep else [references]


def settled(task: list[Any], again: Callable[[], list[Any]]) -> tuple[list[PhotoInfo], list[Any]]:
    """Return the rows of a task, and the references to pixels; it is begun again where it was lost.

    Args:
        task: the references that its beginning gave.
        again: begins it.

    Raises:
        WorkerCrashedError, OutOfMemoryError: its process has died MOST_DEATHS times.
    """
    deaths = 0
    while True:
        try:
            return get(task[0]), task[1:]
        except NodeDiedError:  # whatever it looked at
            pass
        except DIED:
            deaths += 1
            if deaths == MOST_DEATHS:
                raise
        task = again()


def kills(storage: Storage, entry: Entry, size: int) -> bool:
    """Tell whether looking at this photograph ends the process that does it."""
    look = partial(begin, storage, [entry], size, keep=False)
    try:
        settled(look(), look)
    except DIED:
        return True
    return False
