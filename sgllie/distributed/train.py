"""The training job: Ray Train runs one `TrainingLoop` in each process, Ray Data feeds them."""

import tempfile
import threading
import uuid
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import ray
from ray.data import DataContext, ExecutionOptions, ExecutionResources
from ray.exceptions import RayError
from ray.train import (
    DataConfig,
    FailureConfig,
    LoggingConfig,
    RunConfig,
    ScalingConfig,
    TrainingFailedError,
)
from ray.train.torch import TorchTrainer

from sgllie.distributed.board import GOES_ON, Board, reason_to_stop
from sgllie.distributed.cluster import Connection, beside_driver, last_line, leave_threads_behind
from sgllie.distributed.ingest import TrainingData, training_stream
from sgllie.distributed.inspection import Corpus, list_photographs, open_corpus
from sgllie.distributed.placement import nodes_now, room_for
from sgllie.distributed.process_group import ProcessGroup
from sgllie.distributed.ray_internals import found_no_room, was_preempted
from sgllie.distributed.training_process import stream_name, train_worker
from sgllie.distributed.training_workers import each_worker, room_in_all, room_left, shared_among
from sgllie.errors import StorageError, UsageError
from sgllie.exit_codes import OK, STOPPED
from sgllie.runs.schemas import Row
from sgllie.runs.words import say
from sgllie.storage import absolute_uri
from sgllie.train.photographs import digest_of
from sgllie.train.progress import training_display
from sgllie.train.run import RunFolder, begin_or_resume, refuse_differences
from sgllie.train.settings import TrainSettings
from sgllie.train.train_step import guide_of, initial_network

POLL_SECONDS = 0.5
BAD_NAMED = 20
"""Photographs that cannot be used are all counted; so many are named."""
STREAM_SHARE = 0.25
"""Of the object store that images on their way to the training processes may fill."""


def train(settings: TrainSettings) -> int:
    """Run the job to its end.

    Returns:
        The exit code: 0 finished, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    settings = replace(settings, run=absolute_uri(settings.run))
    try:
        stopped = carry_out(settings, RunFolder(settings))
    except StorageError as error:
        stopped = reason_to_stop(error)
    except RayError as error:
        stopped = f"the cluster gave up: {last_line(error)}. {GOES_ON}"
    if stopped:
        say(f"Stopped: {stopped}")
        return STOPPED
    return OK


def carry_out(settings: TrainSettings, run: RunFolder) -> str | None:
    """Begin, resume or report the run; return the reason if it was stopped before its end.

    Raises:
        UsageError: the settings cannot be carried out.
        StorageError: a storage is gone.
    """
    earlier = run.describe()
    if earlier and run.epochs_done():
        refuse_differences(earlier, settings)
        run.load()  # a damaged checkpoint is told here, not by every training process
    finished = run.finished()
    if finished:
        say(f"{settings.run} is finished: {finished['epochs']} epochs, the best is {finished['best']['epoch']}.")
        return None
    initial_network(settings)
    guide_of(settings)
    storage, listed = list_photographs(settings)
    run.claim(is_new=earlier is None)
    with Connection(settings.address, object_store_bytes=None) as connection:
        connection.wait()
        check_resources(settings)
        corpus = open_corpus(settings, storage, listed)
        say(left_out(corpus))
        source = TrainingData.of(corpus, settings, run, beside_driver(Board))
        say(opening(source))
        resumed = begin_or_resume(run, settings, describe_data(settings, corpus))
        if resumed:
            say(f"Going on after epoch {run.epochs_done()} of {settings.epochs}.")
        stopped = follow(source, run.epochs_done() * source.steps_per_epoch)
    if not stopped:
        best = run.finish()["best"]["epoch"]
        say(f"Finished: the best epoch is {best}; sgllie enhance IN OUT --weights {settings.run}")
    return stopped


def check_resources(settings: TrainSettings) -> None:
    """Raise UsageError where the cluster has no room for the training processes, which Ray would wait for."""
    there = room_for(nodes_now(), each_worker(settings))
    if there < settings.least_workers:
        raise UsageError(
            f"the cluster has room for {there} workers of {in_words(settings)} each, not for {settings.least_workers}; "
            "see --num-workers, --min-workers, --cpus-per-worker, --use-gpu"
        )


def in_words(settings: TrainSettings) -> str:
    """Say what a training process asks of its node."""
    return " and ".join(f"{amount:g} {resource}" for resource, amount in each_worker(settings).items() if amount)


def describe_data(settings: TrainSettings, corpus: Corpus) -> Row:
    """Return what run.json says about the photographs."""
    bad = [{"path": row.path, "error": row.error} for row in corpus.rows if row.error]
    return {
        "uri": settings.data,
        "photographs": len(corpus.rows) - len(bad),
        "digest": digest_of(corpus.rows),
        "bad": len(bad),
        "bad_examples": bad[:BAD_NAMED],
    }


def left_out(corpus: Corpus) -> str:
    """Say how many photographs there are, and which of them cannot be used."""
    bad = [row for row in corpus.rows if row.error]
    lines = [f"{len(corpus.rows):,} photographs, {len(bad):,} of them cannot be used."]
    lines += [f"Left out: {row.path}: {row.error}" for row in bad[:BAD_NAMED]]
    if len(bad) > BAD_NAMED:
        lines.append(f"Left out: {len(bad) - BAD_NAMED:,} more.")
    return "\n".join(lines)


def opening(source: TrainingData) -> str:
    """Say what is about to be done."""
    chosen = source.sampling
    bright = f" and {len(chosen.bright):,} brighter ones" if len(chosen.bright) else ""
    where = "decoded once, kept in memory" if source.pixels else "decoded again in each epoch"
    return (
        f"Training on {len(chosen.main):,} of them{bright}, {len(chosen.held_back):,} held back; {where}; "
        f"{source.settings.epochs:,} epochs of {source.steps_per_epoch:,} steps."
    )


def follow(source: TrainingData, done: int) -> str | None:
    """Train on the cluster, and show how far it is; return the reason if it was stopped before the end.

    Args:
        source: put into the object store here.
        done: steps of earlier commands.
    """
    settings, board = source.settings, source.board
    rows = 0
    try:
        with (
            tempfile.TemporaryDirectory(prefix="sgllie-", ignore_cleanup_errors=True) as scratch,
            training_display(settings.epochs * source.steps_per_epoch, done) as shown,
        ):
            fit = Fit(source, scratch, shown.remark)
            fit.start()
            alive = True
            while alive:
                fit.join(POLL_SECONDS)
                alive = fit.is_alive()
                state = ray.get(board.read.remote(rows))
                rows += len(state.rows)
                shown.update(max(state.steps, done), state.terms)
                for row in state.rows:
                    shown.epoch(row)
    except KeyboardInterrupt:
        leave_threads_behind()
        return f"interrupted. {GOES_ON}"
    return ray.get(board.ending.remote()) or fit.failure


class Fit(threading.Thread):
    """Ray Train's controller, beside the main thread, so that this one can draw and be interrupted.

    Ray Train counts the failures of a whole run, which a long one on machines that come and go would use up. So it is
    begun anew after each, and those since the last finished epoch are counted here.

    Args:
        source: of the training.
        scratch: a folder for what Ray Train keeps for itself.
        remark: called with what the user should know.

    Attributes:
        failure: why Ray Train gave up, if it did.
        most: training processes for which there is room, as far as is known.
    """

    def __init__(self, source: TrainingData, scratch: str, remark: Callable[[str], None]) -> None:
        super().__init__(daemon=True)
        self.source, self.scratch, self.remark = source, scratch, remark
        self.workers = self.most = source.settings.num_workers
        self.failure: str | None = None

    def run(self) -> None:
        """Train to the end, until the board says that it must end, or until more has failed than is allowed."""
        settings, run = self.source.settings, self.source.run
        allowed = settings.max_failures
        try:
            failed = Failures(run.epochs_done)
            while run.epochs_done() < settings.epochs:
                error = self.attempt()
                if ray.get(self.source.board.ending.remote()):
                    return
                if found_no_room(error):
                    self.make_do()
                elif error and not was_preempted(error) and failed.one_more() > allowed:
                    self.failure = (
                        f"the training processes failed more than --max-failures {allowed} times since the last "
                        f"finished epoch: {last_line(error)}. {GOES_ON}"
                    )
                    return
        except StorageError as error:
            self.failure = reason_to_stop(error)
        except Exception as error:
            self.failure = f"the cluster gave up: {last_line(error)}. {GOES_ON}"

    def attempt(self) -> TrainingFailedError | None:
        """Train until the end, or until more processes could train, or one fails; return that failure."""
        settings, run = self.source.settings, self.source.run
        run.next_attempt()
        before, self.workers = self.workers, shared_among(settings, min(self.most, room_in_all(settings)))
        if self.workers != before:
            self.remark(f"Training with {self.workers} of {settings.num_workers} processes.")
        # From the same epoch for all: a process that is left of the attempt before may finish one meanwhile.
        reference = ray.put(replace(self.source, first_epoch=run.epochs_done()))
        try:
            result = make_trainer(settings, self.workers, reference, self.scratch).fit()
        except TrainingFailedError as error:
            return error
        self.most = result.return_value or self.most  # type: ignore[attr-defined]  # as Train V2 has it
        return None

    def make_do(self) -> None:
        """Have the next attempt begin with fewer processes, if there may be fewer: what others leave room for."""
        settings, left = self.source.settings, room_left(self.source.settings)
        self.most = min(left, self.workers - 1)
        self.remark(
            f"Waiting for room for {self.workers} training processes of {in_words(settings)} each: the cluster has "
            f"room for {room_in_all(settings)}, and others leave room for {left}."
        )


class Failures:
    """Counts failures since the last finished epoch.

    Args:
        epochs_done: tells how many epochs are finished.
    """

    def __init__(self, epochs_done: Callable[[], int]) -> None:
        self.epochs_done = epochs_done
        self.epochs, self.count = epochs_done(), 0

    def one_more(self) -> int:
        """Count one more, and return how many there were since the last finished epoch."""
        epochs = self.epochs_done()
        if epochs > self.epochs:
            self.epochs, self.count = epochs, 0
        self.count += 1
        return self.count


def make_trainer(settings: TrainSettings, workers: int, source: Any, scratch: str) -> TorchTrainer:
    """Make Ray Train's trainer.

    Args:
        settings: of the job.
        workers: training processes.
        source: a reference to the `TrainingData`.
        scratch: a folder for what Ray Train keeps for itself.
    """
    DataContext.get_current().enable_progress_bars = False
    stores = [node.get("object_store_memory", 0) for node in nodes_now()]
    # As if all were like the smallest: the images of all processes may be loaded on any of them.
    limits = ExecutionResources(object_store_memory=min(stores) * len(stores) * STREAM_SHARE / workers)
    return TorchTrainer(
        train_worker,  # type: ignore[arg-type]  # what it returns is in the result
        train_loop_config={"source": source},
        # The functions are called when the training processes start, so that a stream begins after the last epoch.
        datasets={stream_name(rank): partial(training_stream, source, rank, workers) for rank in range(workers)},
        dataset_config=DataConfig(
            datasets_to_split=[],
            execution_options=ExecutionOptions(preserve_order=True, resource_limits=limits),
        ),
        torch_config=ProcessGroup(backend="nccl" if settings.use_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=workers, use_gpu=settings.use_gpu, resources_per_worker=each_worker(settings)
        ),
        # Checkpoints are the run's own. A fresh name and folder keep Ray Train from resuming by itself.
        run_config=RunConfig(
            name=f"sgllie-{uuid.uuid4().hex}",
            storage_path=scratch,
            # Each failure, and each minute without room, ends the attempt: `Fit` decides how to go on.
            failure_config=FailureConfig(max_failures=0, controller_failure_limit=0, max_preemption_failures=0),  # type: ignore[call-arg]
            logging_config=LoggingConfig(log_level="ERROR"),
        ),
    )
