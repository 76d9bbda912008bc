"""Photographs into training: a stream of images for each training process.

Ray Data delivers the stream, one dataset for each training process and all its epochs. The order of images is computed
from seed and epoch (`sampling.order`) and not left to a shuffle of Ray Data: process r of n reads places r, r + n,
r + 2n ..., so that together they see the batches that one process would see, and a resumed run those of an undisturbed
one.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import DataContext, Dataset, Datasource, ReadTask, TaskPoolStrategy
from ray.data.block import Block, BlockAccessor, BlockMetadata
from ray.exceptions import ObjectLostError

from sgllie.distributed.board import ends_training
from sgllie.distributed.cluster import get
from sgllie.distributed.inspection import Corpus
from sgllie.distributed.ray_internals import pace_scheduler
from sgllie.errors import ItemError, ReadError, StorageError, failure_of
from sgllie.storage import Storage
from sgllie.train import photographs
from sgllie.train.photographs import Photograph
from sgllie.train.run import RunFolder
from sgllie.train.sampling import Order, Sampling, order, sample, stack, steps_per_epoch, training_example
from sgllie.train.settings import TrainSettings

IMAGES_OF_TASK = 64
"""Images that one loading task prepares, at least."""
TASKS = 10_000
"""Tasks, at most, of a stream: Ray Data holds a description of every task."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What training processes and loading tasks know; put into the object store once.

    Attributes:
        storage: where the photographs lie.
        paths: of all of them, below it.
        digests: SHA-256 of each file, 32 bytes.
        pixels: as in `inspection.Corpus`.
        sampling: which of them are used.
        settings: of the job.
        steps_per_epoch: follows from these.
        run: where the training is kept.
        board: the `Board` of the training.
        first_epoch: epochs that were finished when this attempt began.
    """

    storage: Storage
    paths: pa.Array
    digests: pa.Array
    pixels: list[Any] | None
    sampling: Sampling
    settings: TrainSettings
    steps_per_epoch: int
    run: RunFolder
    board: Any
    first_epoch: int = 0

    @classmethod
    def of(cls, corpus: Corpus, settings: TrainSettings, run: RunFolder, board: Any) -> "TrainingData":
        """Choose the photographs to train on; UsageError where there are too few."""
        chosen = sample(corpus.rows, settings)
        paths = pa.array([row.path for row in corpus.rows])
        digests = pa.array([bytes.fromhex(row.digest) for row in corpus.rows])
        steps = steps_per_epoch(chosen, settings)
        return cls(corpus.storage, paths, digests, corpus.pixels, chosen, settings, steps, run, board)

    def photograph(self, number: int) -> Photograph:
        """Return the decoded photograph of this number, S x S x 3; errors as of `read`."""
        if self.pixels is not None:
            with suppress(ObjectLostError):  # with its machine
                return get(self.pixels[number])
        return self.read(number, self.settings.images.size)

    def read(self, number: int, size: int) -> Photograph:
        """Read the photograph of this number from where it lies, as size x size x 3.

        Raises:
            StorageError: it cannot be read any more, is another file by now, or the storage is gone. Without it the
                training would become another one, so there is no going on.
        """
        path = self.paths[number].as_py()
        try:
            data = self.storage.read(path)
            if hashlib.sha256(data).digest() != self.digests[number].as_py():
                raise ReadError("it was replaced since")
            return photographs.load(data, size)
        except (OSError, StorageError, ItemError) as error:
            now = failure_of(error, "photograph").error
            raise ReadError(f"{path} of {self.storage.uri} could be used when the training began, but {now}") from error

    def batch(self, epoch: int, step: int, rank: int, workers: int) -> dict[str, NDArray[np.uint8]]:
        """Make what process `rank` of `workers` sees in one step; steps and epochs count from 0."""
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
    """Return the training data behind a reference, fetched once for each process."""
    return ray.get(source)


@lru_cache(2)
def epoch_order(source: TrainingData, epoch: int) -> Order:
    """Return the order of an epoch, computed once for each process."""
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
        """Return the bytes of all images."""
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
    """Yield the blocks of one loading task."""
    known = fetch(source)
    with ends_training(known.board):
        for step in steps:
            yield BlockAccessor.batch_to_block(known.batch(*divmod(step, steps_per_epoch), rank, workers))


def training_stream(source: Any, rank: int, workers: int) -> Dataset:
    """Return the dataset of one training process, beginning after the last finished epoch."""
    known = fetch(source)
    images = TrainingImages(source, rank, workers, known.first_epoch)
    pace_scheduler(DataContext.get_current())
    # Loading tasks ask for no processor of their own: on a machine whose processors all train there would never be one.
    compute = TaskPoolStrategy(size=known.settings.loaders)
    return ray.data.read_datasource(images, num_cpus=0, compute=compute, override_num_blocks=1)
