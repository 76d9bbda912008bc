"""The training job: Ray Train runs one `TrainingLoop` in each process, Ray Data feeds them."""

import sys
import tempfile
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import ray
import ray.train
import ray.train.torch
import torch
from ray.data import DataContext, ExecutionOptions, ExecutionResources
from ray.train import DataConfig, FailureConfig, LoggingConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from torch import Tensor

from sgllie.distributed.cluster import Connection, beside_driver, last_line, leave_threads_behind
from sgllie.distributed.ingest import Corpus, TrainingData, list_photographs, open_corpus, training_stream
from sgllie.distributed.process_group import ProcessGroup
from sgllie.errors import CollapseError, UsageError
from sgllie.runs.allocator import keep_freed_memory
from sgllie.runs.schemas import Row
from sgllie.runs.words import say
from sgllie.storage import absolute_uri
from sgllie.train.guide import build_guide
from sgllie.train.loop import TrainingLoop
from sgllie.train.photographs import digest_of
from sgllie.train.progress import training_display
from sgllie.train.run import RunFolder, begin_or_resume, refuse_differences
from sgllie.train.sampling import stack, validation_example
from sgllie.train.settings import TrainSettings
from sgllie.train.train_step import Batch, TrainStep, initial_network

POLL_SECONDS = 0.5
BAD_NAMED = 20
"""Photographs that cannot be used are all counted; so many are named."""
STREAM_SHARE = 0.25
"""Of the object store that images on their way to the training processes may fill."""

SWITCH_SECONDS = 2e-4
"""How long a thread of Ray Data may keep a training process waiting; Python's own 5 ms cost it a tenth of its time."""

OK, STOPPED = 0, 1


@ray.remote(num_cpus=0)
class Board:
    """What the first training process has to tell."""

    def __init__(self) -> None:
        self.steps = 0
        self.terms: Row = {}
        self.rows: list[Row] = []

    def tell(self, steps: int, terms: Row) -> None:
        """Note the state after so many steps."""
        self.steps, self.terms = steps, terms

    def epoch(self, row: Row) -> None:
        """Note a finished epoch."""
        self.rows.append(row)

    def read(self, known_rows: int) -> tuple[int, Row, list[Row]]:
        """Steps, the last terms, and the rows after the first `known_rows`."""
        return self.steps, self.terms, self.rows[known_rows:]


@dataclass(frozen=True)
class WorkerContext:
    """What each training process is told.

    Attributes:
        source: reference to the photographs, see `ingest.TrainingData`.
        board: the `Board`.
    """

    source: Any
    board: Any


def train(settings: TrainSettings) -> int:
    """Run the job to its end.

    Returns:
        The exit code: 0 finished, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    settings = replace(settings, run=absolute_uri(settings.run))
    run = RunFolder(settings)
    earlier = run.describe()
    if earlier and run.epochs_done():
        refuse_differences(earlier, settings)
    finished = run.finished()
    if finished:
        say(f"{settings.run} is finished: {finished['epochs']} epochs, the best is {finished['best']['epoch']}.")
        return OK
    initial_network(settings)
    if settings.loss.semantic:
        build_guide(settings.guide.name, settings.guide.weights, settings.guide.classes)
    storage, paths = list_photographs(settings)
    if earlier is None:
        run.claim()
    with Connection(settings.address, object_store_bytes=None) as connection:
        connection.wait()
        check_resources(settings)
        corpus = open_corpus(settings, storage, paths)
        say(left_out(corpus))
        source = corpus.source(settings)
        say(opening(source))
        resumed = begin_or_resume(run, settings, describe_data(settings, corpus))
        if resumed:
            say(f"Going on after epoch {run.epochs_done()} of {settings.epochs}.")
        stopped = work(source, run)
    if stopped:
        say(f"Stopped: {stopped}")
        return STOPPED
    checkpoint = run.load()
    assert checkpoint is not None
    summary = run.finish(checkpoint.history)
    say(f"Finished: the best epoch is {summary['best']['epoch']}; sgllie enhance IN OUT --weights {settings.run}")
    return OK


def check_resources(settings: TrainSettings) -> None:
    """Raise UsageError where the cluster can never hold the training processes, which Ray would wait for."""
    for resource, each in (("CPU", settings.cpus_per_worker), ("GPU", int(settings.use_gpu))):
        there = ray.cluster_resources().get(resource, 0)
        if each * settings.num_workers > there:
            raise UsageError(
                f"{settings.num_workers} workers of {each} {resource} each do not fit: the cluster has {there:g}; "
                "see --num-workers, --cpus-per-worker, --use-gpu"
            )


def describe_data(settings: TrainSettings, corpus: Corpus) -> Row:
    """What run.json says about the photographs."""
    bad = [{"path": row.path, "error": row.error} for row in corpus.rows if row.error]
    return {
        "uri": settings.data,
        "photographs": len(corpus.rows) - len(bad),
        "digest": digest_of(corpus.rows),
        "bad": len(bad),
        "bad_examples": bad[:BAD_NAMED],
    }


def left_out(corpus: Corpus) -> str:
    """How many photographs there are, and which of them cannot be used."""
    bad = [row for row in corpus.rows if row.error]
    lines = [f"{len(corpus.rows):,} photographs, {len(bad):,} of them cannot be used."]
    lines += [f"Left out: {row.path}: {row.error}" for row in bad[:BAD_NAMED]]
    if len(bad) > BAD_NAMED:
        lines.append(f"Left out: {len(bad) - BAD_NAMED:,} more.")
    return "\n".join(lines)


def opening(source: TrainingData) -> str:
    """What is about to be done, in words."""
    chosen = source.sampling
    bright = f" and {len(chosen.bright):,} brighter ones" if len(chosen.bright) else ""
    where = "decoded once, kept in memory" if source.chunks else "decoded again in each epoch"
    return (
        f"Training on {len(chosen.main):,} of them{bright}, {len(chosen.held_back):,} held back; {where}; "
        f"{source.settings.epochs:,} epochs of {source.steps_per_epoch:,} steps."
    )


def work(source: TrainingData, run: RunFolder) -> str | None:
    """Train on the cluster; the reason, if it was stopped before the end."""
    settings = source.settings
    board = beside_driver(Board)
    rows = 0
    done = run.epochs_done() * source.steps_per_epoch
    try:
        with (
            tempfile.TemporaryDirectory(prefix="sgllie-", ignore_cleanup_errors=True) as scratch,
            training_display(settings.epochs * source.steps_per_epoch, done) as shown,
        ):
            fit = Fit(settings, WorkerContext(ray.put(source), board), scratch)
            fit.start()
            alive = True
            while alive:
                fit.join(POLL_SECONDS)
                alive = fit.is_alive()
                steps, terms, new = ray.get(board.read.remote(rows))
                rows += len(new)
                shown.update(max(steps, done), terms)
                for row in new:
                    shown.epoch(row)
    except KeyboardInterrupt:
        leave_threads_behind()
        return "interrupted. The same command goes on from the last finished epoch."
    return fit.stopped


class Fit(threading.Thread):
    """Ray Train's controller, beside the main thread, so that this one can draw and be interrupted."""

    def __init__(self, settings: TrainSettings, context: WorkerContext, scratch: str) -> None:
        super().__init__(daemon=True)
        self.trainer = make_trainer(settings, context, scratch)
        self.settings = settings
        self.stopped: str | None = None

    def run(self) -> None:
        """Train; `stopped` says why if the end was not reached."""
        try:
            result = self.trainer.fit()
            self.stopped = result.return_value  # type: ignore[attr-defined]
        except Exception as error:
            self.stopped = (
                f"the training processes failed more than --max-failures {self.settings.max_failures} times: "
                f"{last_line(error)}. The same command goes on from the last finished epoch."
            )


def make_trainer(settings: TrainSettings, context: WorkerContext, scratch: str) -> TorchTrainer:
    """Ray Train's trainer for these settings; what it keeps for itself goes to the folder `scratch`."""
    DataContext.get_current().enable_progress_bars = False
    memory = ray.cluster_resources().get("object_store_memory", 0) * STREAM_SHARE / settings.num_workers
    limits = ExecutionResources(object_store_memory=memory)
    resources = {"CPU": float(settings.cpus_per_worker), "GPU": float(settings.use_gpu)}
    return TorchTrainer(
        train_worker,  # type: ignore[arg-type]
        train_loop_config={"work": context},
        # The functions are called whenever training processes start, so that a stream begins after the last epoch.
        datasets={
            stream_name(rank): partial(training_stream, context.source, rank, settings.num_workers)
            for rank in range(settings.num_workers)
        },
        dataset_config=DataConfig(
            datasets_to_split=[],
            execution_options=ExecutionOptions(preserve_order=True, resource_limits=limits),
        ),
        torch_config=ProcessGroup(backend="nccl" if settings.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=settings.num_workers, use_gpu=settings.use_gpu, resources_per_worker=resources
        ),
        # Checkpoints are the run's own. A fresh name and folder keep Ray Train from resuming by itself.
        run_config=RunConfig(
            name=f"sgllie-{uuid.uuid4().hex}",
            storage_path=scratch,
            failure_config=FailureConfig(max_failures=settings.max_failures),
            logging_config=LoggingConfig(log_level="ERROR"),  # type: ignore[call-arg]
        ),
    )


def stream_name(rank: int) -> str:
    """Name of the dataset of one training process."""
    return f"training-{rank}"


def train_worker(config: dict[str, Any]) -> str | None:
    """What each training process runs; why it stopped, if before the end."""
    context: WorkerContext = config["work"]
    source: TrainingData = ray.get(context.source)
    settings = source.settings
    ray_context = ray.train.get_context()
    rank, workers = ray_context.get_world_rank(), ray_context.get_world_size()
    sys.setswitchinterval(SWITCH_SECONDS)
    keep_freed_memory()
    torch.set_num_threads(settings.cpus_per_worker)
    torch.set_flush_denormal(True)  # weights that decay to denormals make every convolution several times slower
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = ray.train.torch.get_device()
    train_step = TrainStep(settings, settings.epochs * source.steps_per_epoch, device, ray.train.torch.prepare_model)
    validation = list(validation_batches(source, np.array_split(source.sampling.held_back, workers)[rank], device))
    loop = TrainingLoop(
        train_step, RunFolder(settings), validation, rank, partial(gather, workers), context.board.tell.remote
    )
    shard = ray.train.get_dataset_shard(stream_name(rank))
    size = settings.batch_size // workers
    stream = shard.iter_torch_batches(batch_size=size, prefetch_batches=2, device=device)
    try:
        for row in loop.epochs(to_batch(batch) for batch in stream):
            ray.train.report({"epoch": row["epoch"]})
            if rank == 0:
                context.board.epoch.remote(row)
    except CollapseError as collapse:
        return f"the training has collapsed: {collapse}."
    return None


def validation_batches(source: TrainingData, numbers: np.ndarray, device: torch.device) -> Iterator[Batch]:
    """The photographs that one process validates on, kept for all epochs."""
    options = source.settings.validation
    for start in range(0, len(numbers), options.batch_size):
        chosen = numbers[start : start + options.batch_size].tolist()
        examples = [validation_example(source.read(number, options.size), source.settings, number) for number in chosen]
        yield to_batch({name: torch.from_numpy(pixels).to(device) for name, pixels in stack(examples).items()})


def to_batch(pixels: dict[str, Tensor]) -> Batch:
    """`images` and perhaps `targets`, N x H x W x 3 in 0..255, as a batch."""
    return Batch(**{name: values.permute(0, 3, 1, 2).float().div(255) for name, values in pixels.items()})


def gather(workers: int, found: Any) -> list[Any]:
    """A list of what each training process found, the same in all of them."""
    if workers == 1:
        return [found]
    everyone: list[Any] = [None] * workers
    torch.distributed.all_gather_object(everyone, found)
    return everyone
