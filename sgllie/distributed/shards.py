"""Shards over a pool of Ray Data actors: what all jobs that work through a manifest have in common."""

import dataclasses
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import ray
from ray.exceptions import RayError

from sgllie.corpus import SUCCESS, Row
from sgllie.distributed.cluster import Connection, beside_driver, leave_threads_behind, total
from sgllie.memory import keep_freed_memory
from sgllie.progress import display
from sgllie.settings import failures_allowed
from sgllie.storage import S3Options, StorageError, UsageError, open_storage

if TYPE_CHECKING:
    from ray.data import Dataset

POLL_SECONDS = 0.5
REPORT_SECONDS = 0.5
OK, STOPPED, WITH_FAILURES = 0, 1, 3


class PoolSettings(Protocol):
    """What the settings of a job say about its pool of workers."""

    @property
    def device(self) -> Any:
        """`auto`, `cpu` or `cuda`."""

    @property
    def num_actors(self) -> int | None:
        """Workers; None for one on each processor."""

    @property
    def s3(self) -> S3Options:
        """How to reach S3."""


class Pipeline(Protocol):
    """Brings one shard after another to its commit."""

    def run(self, shard: int) -> None:
        """Do all of a shard; StorageError where the job must stop."""


@ray.remote(num_cpus=0)
class Scoreboard:
    """Collects from all workers how many images of each shard are done; a shard run again replaces its count."""

    def __init__(self) -> None:
        self.shards: dict[int, tuple[int, int]] = {}

    def set(self, shard: int, done: int, failed: int) -> None:
        """Note the state of a shard."""
        self.shards[shard] = (done, failed)

    def read(self) -> tuple[int, int]:
        """Images done and images failed."""
        return sum(done for done, _ in self.shards.values()), sum(failed for _, failed in self.shards.values())


class ShardWorker:
    """One actor of the pool: holds a pipeline, and runs the shards that Ray Data hands to it.

    Args:
        settings: of the job, with their device resolved.
        scoreboard: told of every image.
        make_pipeline: called with the settings, the other arguments, and what is to be called with each finished row.
        arguments: of the pipeline.
    """

    def __init__(self, settings: Any, scoreboard: Any, make_pipeline: Callable[..., Pipeline], *arguments: Any) -> None:
        import cv2

        keep_freed_memory()
        cv2.setNumThreads(1)  # the pipeline's own threads are the parallel ones
        self.scoreboard = scoreboard
        self.pipeline = make_pipeline(settings, *arguments, self.report)
        self.shard = self.done = self.failed = 0
        self.reported = 0.0

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Run the shards of a batch."""
        return run_batch(batch, self.run)

    def run(self, shard: int) -> None:
        """Run one shard, and count its images."""
        self.shard, self.done, self.failed = shard, 0, 0
        try:
            self.pipeline.run(shard)
        finally:
            self.send()

    def report(self, row: Row) -> None:
        """Count a finished image, and tell the scoreboard now and then."""
        self.done += 1
        self.failed += row["status"] == "failed"
        if time.monotonic() - self.reported > REPORT_SECONDS:
            self.send()

    def send(self) -> None:
        """Tell the scoreboard."""
        self.scoreboard.set.remote(self.shard, self.done, self.failed)
        self.reported = time.monotonic()


def run_batch(batch: dict[str, np.ndarray], run: Callable[[int], None]) -> dict[str, Any]:
    """Run the shards of a batch; a storage that fails is an answer, since Ray would try an exception again."""
    errors = []
    for shard in batch["shard"].tolist():
        try:
            run(shard)
            errors.append("")
        except StorageError as error:
            errors.append(str(error))
    return {"shard": batch["shard"], "error": errors}


def shard_dataset(worker: type, settings: PoolSettings, shards: list[int], *arguments: Any) -> "Dataset":
    """The lazy dataset whose rows are the results of shards, in this order.

    Actors of the class `worker` are made with the settings, their device resolved, and the other arguments.
    """
    # Imported here: it takes a second, in which the cluster starts.
    from ray.data import ActorPoolStrategy, DataContext, from_items

    device = settings.device if settings.device != "auto" else ("cuda" if total("GPU") else "cpu")
    resources: dict[str, Any] = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
    # At least one, for which a cluster that grows on demand brings its first node.
    workers = max(1, min(settings.num_actors or total("GPU" if device == "cuda" else "CPU"), len(shards)))
    # Where their number is not set, more are added as nodes join that have room for them.
    most = workers if settings.num_actors else len(shards)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a shard of large images may take longer than any limit set here
    # Ray Data restarts a dead actor and runs its shard again, without a limit; the shard's journal is what ends a
    # vicious circle.
    items = [{"shard": shard} for shard in shards]
    return from_items(items, override_num_blocks=len(items)).map_batches(
        worker,
        fn_constructor_args=(dataclasses.replace(settings, device=device), *arguments),  # type: ignore[type-var]
        batch_size=1,
        compute=ActorPoolStrategy(min_size=workers, max_size=most, max_tasks_in_flight_per_actor=2),
        **resources,
    )


class Shards(threading.Thread):
    """Runs all shards on the cluster. Beside the main thread, so that this one can draw, count and be interrupted."""

    def __init__(self, dataset: "Dataset") -> None:
        super().__init__(daemon=True)
        self.dataset = dataset
        self.error: str | None = None

    def run(self) -> None:
        """Consume the results until the end or the first error."""
        try:
            for result in self.dataset.iter_rows():
                if result["error"]:
                    self.error = result["error"]
                    return
        except Exception as error:
            self.error = f"the cluster gave up: {first_line(error)}"


def watch(dataset: "Dataset", look: Callable[[], str | None]) -> str | None:
    """Run all shards and `look` twice a second; the reason, if the job was stopped before the end.

    `look` draws and counts, and gives a reason where the job must stop.
    """
    shards = Shards(dataset)
    shards.start()
    reason = None
    try:
        while shards.is_alive() and not reason:
            shards.join(POLL_SECONDS)
            reason = look()
    except KeyboardInterrupt:
        reason = "interrupted"
    except RayError as error:  # the scoreboard lives as long as the driver's node
        reason = f"the cluster gave up: {first_line(error)}"
    if reason:
        leave_threads_behind()
    return reason or shards.error


class Tally(NamedTuple):
    """What a job counts.

    Attributes:
        remaining: images that are to be done now.
        images: all images of the job.
        failed: images that have failed in an earlier run of it.
        limit: `--max-failures`.
        noun: what they are called.
    """

    remaining: int
    images: int
    failed: int
    limit: str | None
    noun: str = "images"


def run_shards(
    settings: PoolSettings,
    shards: Iterable[int],
    tally: Tally,
    make_pipeline: Callable[..., Pipeline],
    *arguments: Any,
) -> str | None:
    """Run shards over the pool, counting images; the reason, if the job was stopped before the end.

    For `make_pipeline` and the arguments see `ShardWorker`.
    """
    allowed = failures_allowed(tally.limit, tally.images)
    scoreboard = beside_driver(Scoreboard)
    # Large shards first, small ones last: see corpus.cut.
    order = sorted(shards, reverse=True)
    with display(tally.remaining, tally.noun) as shown:

        def look() -> str | None:
            done, failed = ray.get(scoreboard.read.remote())
            shown.update(done, failed)
            total_failed = tally.failed + failed
            if total_failed > allowed:
                return f"{total_failed} {tally.noun} have failed, more than --max-failures {tally.limit} allows"
            return None

        return watch(shard_dataset(ShardWorker, settings, order, scoreboard, make_pipeline, *arguments), look)


class Job(NamedTuple):
    """The parts of a job over shards; what a run is, only they know.

    Attributes:
        prepare: settings -> run: begins a run or finds the one to be resumed; the run has `shards`, those to be done.
        opening: run -> what is about to be done, in words.
        work: run -> the reason, if the job was stopped before the end.
        finish: run -> totals, with the number of `failed`.
        closing: run, totals, seconds -> what was done, in words.
    """

    prepare: Callable[[Any], Any]
    opening: Callable[[Any], str]
    work: Callable[[Any], str | None]
    finish: Callable[[Any], dict[str, Any]]
    closing: Callable[[Any, dict[str, Any], float], str]


def carry_out(job: Job, settings: Any) -> int:
    """Run a job to its end.

    Returns:
        The exit code: 0 all is there, 3 finished with failures, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    started = time.monotonic()
    with Connection(settings.address) as connection:
        if not settings.dry_run and not finished_before(settings):
            connection.begin()
            if settings.device == "cuda":
                check_gpu(connection)
        run = job.prepare(settings)
        say(job.opening(run))
        if settings.dry_run:
            return OK
        try:
            if run.shards:
                with ray_data_loading():
                    connection.wait()
                stopped = job.work(run)
                if stopped:
                    say(f"Stopped: {stopped}. What is done is kept; the same command goes on.")
                    return STOPPED
            totals = job.finish(run)
        except StorageError as error:
            say(f"Stopped: {error}.")
            return STOPPED
        say(job.closing(run, totals, time.monotonic() - started))
    return WITH_FAILURES if totals["failed"] else OK


@contextmanager
def ray_data_loading() -> Iterator[None]:
    """Import Ray Data, which takes a second or two, while the block runs.

    Not in the main thread: CPython can lose an interrupt that comes within an import, and never give the lock of all
    imports back (both happen in the callback of a weak reference), for which the thread of the cluster would wait.
    """
    loading = threading.Thread(target=import_module, args=("ray.data",))
    loading.start()
    yield
    loading.join()
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def check_gpu(connection: Connection) -> None:
    """Raise UsageError where no GPU can be had, and say so where one may join; nothing has been written yet."""
    connection.wait()
    if total("GPU"):
        return
    if connection.is_local:
        raise UsageError("--device cuda: this machine has no GPU that Ray can use; take --device cpu, without --half")
    say("--device cuda: the cluster has no GPU now, and the job waits until one joins.")


def finished_before(settings: Any) -> bool:
    """Whether the output looks finished, so that a cluster is hardly needed; a wrong guess costs or saves only time."""
    try:
        return open_storage(settings.output, settings.s3).exists(SUCCESS)
    except StorageError:
        return False


def first_line(error: Exception) -> str:
    """The last cause of a Ray error in one line, without the full stop."""
    text = str(error).strip().splitlines()
    return text[-1].rstrip(".") if text else type(error).__name__


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
