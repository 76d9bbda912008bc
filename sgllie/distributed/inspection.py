"""The first look at all photographs of a training, on all processors of the cluster."""

from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, WorkerCrashedError

from sgllie.corpus.listing import Listing
from sgllie.corpus.packed import packed
from sgllie.distributed.board import get
from sgllie.errors import StorageError, UsageError
from sgllie.runs.progress import Counts, display
from sgllie.runs.words import examples, plural, say
from sgllie.storage import Storage, absolute_uri, open_source
from sgllie.train import photographs
from sgllie.train.photographs import Photograph, PhotoInfo
from sgllie.train.settings import TrainSettings

CHUNK = 64
"""Photographs of one task, and of one object in the object store."""
MEMORY_SHARE = 0.5
"""Of the object store that decoded photographs may fill."""


@dataclass(frozen=True)
class Corpus:
    """All photographs of a training, after the first look.

    Attributes:
        storage: where they lie.
        rows: one for each, in the order of the listing.
        chunks: references to CHUNK decoded photographs each, None in the place of one that cannot be used; None where
            photographs are read again in each epoch.
    """

    storage: Storage
    rows: list[PhotoInfo]
    chunks: list[Any] | None


def list_photographs(settings: TrainSettings) -> tuple[Storage, list[str]]:
    """Return where the photographs of a training lie, and their paths below it.

    Raises:
        UsageError: the input cannot be listed, or holds no images.
    """
    listing = Listing(
        *(settings.data, settings.s3, absolute_uri(settings.run)),
        image_column=settings.image_column,
        photographs_only=True,
    )
    try:
        paths = [entry.path for entry in listing]
    except (StorageError, OSError) as error:
        raise UsageError(f"{settings.data} cannot be listed: {error}") from error
    if listing.label_maps.count:
        say(f"{plural(listing.label_maps.count, 'label maps')} left out: {examples(listing.label_maps.examples)}")
    if not paths:
        raise UsageError(f"{settings.data} holds no images")
    return packed(open_source(listing.root, settings.s3)), paths


def open_corpus(settings: TrainSettings, storage: Storage, paths: list[str]) -> Corpus:
    """Look at each photograph once; StorageError where the storage is gone."""
    size = settings.images.size
    keep = settings.cache == "memory" or (settings.cache == "auto" and fits(len(paths), size))
    rows, chunks = inspect_all(storage, paths, size, keep)
    return Corpus(storage, rows, chunks if keep else None)


def fits(count: int, size: int) -> bool:
    """Tell whether that many photographs of size x size pixels fit in the cluster's object store, with room to work."""
    return count * size * size * 3 < MEMORY_SHARE * ray.cluster_resources().get("object_store_memory", 0)


@ray.remote(num_returns=2, max_retries=1)
def inspect(
    storage: Storage, paths: list[str], size: int, keep: bool, crashers: frozenset[str]
) -> tuple[list[PhotoInfo], list[Photograph | None]]:
    """Run `photographs.inspect` as a task, whose pixels stay in the object store if they are to be kept."""
    rows, pixels = photographs.inspect(storage, paths, size, crashers)
    return rows, pixels if keep else []


def inspect_all(storage: Storage, paths: list[str], size: int, keep: bool) -> tuple[list[PhotoInfo], list[Any]]:
    """Look at all photographs, and return their rows, and references to their pixels by chunks.

    Raises:
        StorageError: the storage is gone; no photograph is to blame.
    """
    parts = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    tasks: list[Any] = [inspect.remote(storage, part, size, keep, frozenset()) for part in parts]
    rows: list[PhotoInfo] = []
    with display(len(paths), "photographs") as shown:
        for place, part in enumerate(parts):
            try:
                found = get(tasks[place][0])
            except (WorkerCrashedError, OutOfMemoryError):
                crashers = frozenset(path for path in part if kills(storage, path, size))
                tasks[place] = inspect.remote(storage, part, size, keep, crashers)
                found = get(tasks[place][0])
            rows += found
            shown.update(Counts({"": (len(rows), sum(bool(row.error) for row in rows))}))
    return rows, [pixels for _, pixels in tasks]


def kills(storage: Storage, path: str, size: int) -> bool:
    """Tell whether looking at this photograph ends the process that does it."""
    try:
        task: Any = inspect.remote(storage, [path], size, False, frozenset())
        get(task[0])
    except (WorkerCrashedError, OutOfMemoryError):
        return True
    return False
