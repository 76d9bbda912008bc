"""What runs in each training process: one `TrainingLoop` on its share of the images."""

import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from numpy.typing import NDArray

from sgllie.distributed.board import ends_training
from sgllie.distributed.ingest import TrainingData
from sgllie.distributed.training_workers import room_left, shared_among
from sgllie.errors import CollapseError
from sgllie.runs.allocator import keep_freed_memory
from sgllie.train.loop import TrainingLoop
from sgllie.train.sampling import validation_example
from sgllie.train.train_step import Batch, TrainStep, batch_of, set_up_torch, to_batch

SWITCH_SECONDS = 2e-4
"""How long a thread of Ray Data may keep a training process waiting; Python's own 5 ms cost it a tenth of its time."""


def stream_name(rank: int) -> str:
    """Return the name of the dataset of one training process."""
    return f"training-{rank}"


def train_worker(config: dict[str, Any]) -> int | None:
    """Train to the end, unless another process has found that the training must end.

    Args:
        config: `source`, a reference to the `TrainingData`.

    Returns:
        As of `train_epochs`.
    """
    source: TrainingData = ray.get(config["source"])
    if ray.get(source.board.ending.remote()):
        return None
    settings = source.settings
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_freed_memory()
    set_up_torch(settings.cpus_per_worker)
    try:
        with ends_training(source.board):
            return train_epochs(source)
    except CollapseError:
        return None  # all processes find it in the same step, and none waits for another


def train_epochs(source: TrainingData) -> int | None:
    """Train this process's part of the epochs that are left, and tell Ray and the board of each.

    Returns:
        The number of processes of a larger attempt, where there is room for one; None after the last epoch.
    """
    settings, board = source.settings, source.board
    context = ray.train.get_context()
    rank, workers = context.get_world_rank(), context.get_world_size()
    nodes = gather(workers, ray.get_runtime_context().get_node_id())
    device = ray.train.torch.get_device()
    train_step = TrainStep(settings, settings.epochs * source.steps_per_epoch, device, ray.train.torch.prepare_model)
    validation = list(validation_batches(source, np.array_split(source.sampling.held_back, workers)[rank], device))
    loop = TrainingLoop(train_step, source.run, validation, rank, partial(gather, workers), board.tell.remote)
    if loop.epoch != source.first_epoch:
        raise RuntimeError(f"there are {loop.epoch} epochs by now, and the images begin after {source.first_epoch}")
    shard = ray.train.get_dataset_shard(stream_name(rank))
    stream = shard.iter_torch_batches(batch_size=settings.batch_size // workers, prefetch_batches=2, device=device)
    for row in loop.epochs(to_batch(batch) for batch in stream):
        ray.train.report({"epoch": row["epoch"]})
        if rank == 0:
            board.epoch.remote(row)
        if workers < settings.num_workers:
            larger = gather(workers, shared_among(settings, room_left(settings, nodes)))[0]
            if larger > workers:
                return larger
    return None


def validation_batches(source: TrainingData, numbers: NDArray[np.int64], device: torch.device) -> Iterator[Batch]:
    """Yield the photographs that one process validates on, kept for all epochs."""
    options = source.settings.validation
    for start in range(0, len(numbers), options.batch_size):
        chosen = numbers[start : start + options.batch_size].tolist()
        examples = [validation_example(source.read(number, options.size), source.settings, number) for number in chosen]
        yield batch_of(examples, device)


def gather(workers: int, found: Any) -> list[Any]:
    """Return a list of what each training process found, the same in all of them."""
    if workers == 1:
        return [found]
    everyone: list[Any] = [None] * workers
    torch.distributed.all_gather_object(everyone, found)
    return everyone
