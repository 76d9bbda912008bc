"""Photographs into training: one look at each on all processors, then a stream of images for each training process.

Ray Data delivers the stream, one dataset for each training process and all its epochs. The order of images is computed
from seed and epoch (`sampling.order`) and not left to a shuffle of Ray Data: process r of n reads places r, r + n,
r + 2n ..., so that together they see the batches that one process would see, and a resumed run those of an undisturbed
one.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import ray
from ray.data import DataContext, Dataset, Datasource, ReadTask, TaskPoolStrategy
from ray.data._internal.execution.execution_callback import ExecutionCallback
from ray.data.block import Block, BlockAccessor, BlockMetadata
from ray.exceptions import OutOfMemoryError, WorkerCrashedError

from sgllie.corpus.listing import Listing
from sgllie.errors import StorageError, UsageError
from sgllie.runs.progress import display
from sgllie.storage import Storage, absolute_uri, open_source
from sgllie.train import photographs
from sgllie.train.augmentation import Pixels
from sgllie.train.photographs import PhotoInfo
from sgllie.train.run import RunFolder
from sgllie.train.sampling import Order, Sampling, order, sample, stack, steps_per_epoch, training_example
from sgllie.train.settings import TrainSettings

if TYPE_CHECKING:
    from ray.data._internal.execution.streaming_executor import StreamingExecutor

CHUNK = 64
"""Photographs of one task of the first inspection, and of one object in the object store."""
MEMORY_SHARE = 0.5
"""Of the object store that decoded photographs may fill."""
IMAGES_OF_TASK = 64
"""Images that one loading task prepares, at least."""
PACE_SECONDS = 0.02
"""Between two steps of Ray Data's scheduler, each of which takes a millisecond or two."""
TASKS = 10_000
"""Tasks, at most, of a stream: Ray Data holds a description of every task."""


@dataclass(frozen=True)
class Corpus:
    """All photographs of a training, after the first inspection.

    Attributes:
        storage: where they lie.
        rows: one for each, in the order of the listing.
        chunks: the pixels of CHUNK photographs each, in the object store; None where they are read again in each epoch.
    """

    storage: Storage
    rows: list[PhotoInfo]
    chunks: list[Any] | None

    def source(self, settings: TrainSettings) -> "TrainingData":
        """What the loading tasks are told; UsageError where there are too few photographs."""
        chosen = sample(self.rows, settings)
        paths = pa.array([row.path for row in self.rows])
        return TrainingData(self.storage, paths, self.chunks, chosen, settings, steps_per_epoch(chosen, settings))


def list_photographs(settings: TrainSettings) -> tuple[Storage, list[str]]:
    """Where the photographs of a training lie, and their paths below it.

    Raises:
        UsageError: the input cannot be listed, or holds no images.
    """
    listing = Listing(settings.data, settings.s3, exclude=absolute_uri(settings.run))
    try:
        paths = [entry.path for entry in listing]
    except (StorageError, OSError) as error:
        raise UsageError(f"{settings.data} cannot be listed: {error}") from error
    if not paths:
        raise UsageError(f"{settings.data} holds no images")
    return open_source(listing.root, settings.s3), paths


def open_corpus(settings: TrainSettings, storage: Storage, paths: list[str]) -> Corpus:
    """Look at each photograph once."""
    size = settings.images.size
    keep = settings.cache == "memory" or (settings.cache == "auto" and fits(len(paths), size))
    rows, chunks = inspect_all(storage, paths, size, keep)
    return Corpus(storage, rows, chunks if keep else None)


def fits(count: int, size: int) -> bool:
    """Whether that many photographs of size x size pixels fit in the cluster's object store, with room to work."""
    return count * size * size * 3 < MEMORY_SHARE * ray.cluster_resources().get("object_store_memory", 0)


@ray.remote(num_returns=2, max_retries=1)
def inspect(
    storage: Storage, paths: list[str], size: int, keep: bool, crashers: frozenset[str]
) -> tuple[list[PhotoInfo], Any]:
    """`photographs.inspect` as a task, whose pixels stay in the object store if they are to be kept."""
    rows, pixels = photographs.inspect(storage, paths, size, crashers)
    return rows, pixels if keep else None


def inspect_all(storage: Storage, paths: list[str], size: int, keep: bool) -> tuple[list[PhotoInfo], list[Any]]:
    """Look at all photographs: their rows, and references to their pixels by chunks."""
    parts = [paths[start : start + CHUNK] for start in range(0, len(paths), CHUNK)]
    tasks: list[Any] = [inspect.remote(storage, part, size, keep, frozenset()) for part in parts]
    rows: list[PhotoInfo] = []
    with display(len(paths), "photographs") as shown:
        for place, part in enumerate(parts):
            try:
                found = ray.get(tasks[place][0])
            except (WorkerCrashedError, OutOfMemoryError):
                crashers = frozenset(path for path in part if kills(storage, path, size))
                tasks[place] = inspect.remote(storage, part, size, keep, crashers)
                found = ray.get(tasks[place][0])
            rows += found
            shown.update({"": (len(rows), sum(bool(row.error) for row in rows))})
    return rows, [pixels for _, pixels in tasks]


def kills(storage: Storage, path: str, size: int) -> bool:
    """Whether looking at this photograph ends the process that does it."""
    try:
        task: Any = inspect.remote(storage, [path], size, False, frozenset())
        ray.get(task[0])
    except (WorkerCrashedError, OutOfMemoryError):
        return True
    return False


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What a loading task knows; put into the object store once."""

    storage: Storage
    paths: pa.Array
    chunks: list[Any] | None
    sampling: Sampling
    settings: TrainSettings
    steps_per_epoch: int

    def photograph(self, number: int) -> Pixels:
        """The decoded photograph of this number, S x S x 3."""
        if self.chunks is not None:
            return ray.get(self.chunks[number // CHUNK])[number % CHUNK]
        return self.read(number, self.settings.images.size)

    def read(self, number: int, size: int) -> Pixels:
        """The photograph of this number from where it lies, size x size x 3."""
        return photographs.load(self.storage.read(self.paths[number].as_py()), size)

    def batch(self, epoch: int, step: int, rank: int, workers: int) -> dict[str, Pixels]:
        """What worker `rank` of `workers` sees in one step; steps and epochs count from 0."""
        settings = self.settings
        sources, targets, dark = epoch_order(self, epoch)
        places = range(step * settings.batch_size + rank, (step + 1) * settings.batch_size, workers)
        wanted = sorted({*sources[places].tolist(), *targets[places].tolist()})
        with ThreadPoolExecutor(photographs.READERS) as pool:
            loaded = dict(zip(wanted, pool.map(self.photograph, wanted), strict=True))
        examples = [
            training_example(loaded[sources[place]], loaded[targets[place]], bool(dark[place]), settings, epoch, place)
            for place in places
        ]
        return stack(examples)


@lru_cache(2)
def fetch(source: Any) -> TrainingData:
    """The source behind a reference, once for each process."""
    return ray.get(source)


@lru_cache(2)
def epoch_order(source: TrainingData, epoch: int) -> Order:
    """The order of an epoch, computed once for each process."""
    return order(source.sampling, source.settings, epoch)


class TrainingImages(Datasource):
    """The images of one training process, from epoch `first_epoch` to the end, a block for each step."""

    def __init__(self, source: Any, rank: int, workers: int, first_epoch: int) -> None:
        super().__init__()
        self.source, self.rank, self.workers = source, rank, workers
        known = fetch(source)
        self.settings = known.settings
        self.steps_per_epoch = known.steps_per_epoch
        self.first_step = first_epoch * known.steps_per_epoch
        self.last_step = known.settings.epochs * known.steps_per_epoch

    @property
    def batch_size(self) -> int:
        """Images of one step of this process."""
        return self.settings.batch_size // self.workers

    def estimate_inmemory_data_size(self) -> int:
        """Bytes of all images."""
        size = self.settings.images.crop or self.settings.images.size
        images = 2 if self.settings.darkening.stops else 1
        return (self.last_step - self.first_step) * self.batch_size * images * size * size * 3

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """Cut the stream into tasks of some steps each; `parallelism` is Ray Data's wish and plays no part."""
        steps = self.last_step - self.first_step
        steps_of_task = max(-(-IMAGES_OF_TASK // self.batch_size), -(-steps // TASKS))
        tasks = []
        for start in range(self.first_step, self.last_step, steps_of_task):
            stop = min(start + steps_of_task, self.last_step)
            metadata = BlockMetadata((stop - start) * self.batch_size, None, None, None)
            read = partial(blocks, self.source, range(start, stop), self.steps_per_epoch, self.rank, self.workers)
            tasks.append(ReadTask(read, metadata, per_task_row_limit=per_task_row_limit))
        return tasks


def blocks(source: Any, steps: range, steps_per_epoch: int, rank: int, workers: int) -> Iterator[Block]:
    """The blocks of one loading task."""
    known = fetch(source)
    for step in steps:
        yield BlockAccessor.batch_to_block(known.batch(*divmod(step, steps_per_epoch), rank, workers))


class Paced(ExecutionCallback):
    """Lets the training have the processor between two steps of Ray Data's scheduler, which runs in the same process.

    While images are ready that the training does not need yet, the scheduler finds its tasks ready at once, again and
    again, and by itself would keep a processor and the interpreter's lock busy with that.
    """

    def on_execution_step(self, executor: "StreamingExecutor") -> None:
        """Wait a little after each step."""
        time.sleep(PACE_SECONDS)


def training_stream(source: Any, rank: int, workers: int) -> Dataset:
    """The dataset of one training process, beginning after the last finished epoch."""
    settings = fetch(source).settings
    images = TrainingImages(source, rank, workers, RunFolder(settings).epochs_done())
    DataContext.get_current().custom_execution_callback_classes = [Paced]
    # Loading tasks ask for no processor of their own: on a machine whose processors all train there would never be one.
    compute = TaskPoolStrategy(size=settings.loaders)
    return ray.data.read_datasource(images, num_cpus=0, compute=compute, override_num_blocks=1)
