"""Shards over a pool of Ray Data actors, each of which holds what its run makes for it."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import ray
from ray.exceptions import RayError

from sgllie.distributed.cluster import Connection, beside_driver, last_line, leave_threads_behind, total_resource
from sgllie.errors import StorageError, StuckError, UsageError
from sgllie.methods.settings import Device
from sgllie.runs import progress
from sgllie.runs.allocator import keep_freed_memory
from sgllie.runs.progress import Counts
from sgllie.runs.run import Run
from sgllie.runs.settings import failures_allowed
from sgllie.runs.words import say

if TYPE_CHECKING:
    from ray.data import Dataset

POLL_SECONDS = 0.5
REPORT_SECONDS = 0.5


@ray.remote(num_cpus=0)
class Progress:
    """Collects from all workers how many items of each shard are done; a shard that is run again replaces its count."""

    def __init__(self) -> None:
        self.shards: dict[int, tuple[int, int, str]] = {}

    def set(self, shard: int, done: int, failed: int, group: str) -> None:
        """Note the state of a shard."""
        self.shards[shard] = (done, failed, group)

    def read(self) -> Counts:
        """Return the items that are done, and those that failed, of each group."""
        counts: dict[str, tuple[int, int]] = {}
        for done, failed, group in self.shards.values():
            before = counts.get(group, (0, 0))
            counts[group] = (before[0] + done, before[1] + failed)
        return counts


class ShardWorker:
    """One actor of the pool: holds a pipeline, and runs the shards that Ray Data hands to it."""

    def __init__(self, run: Run[Any], progress: Any) -> None:
        import cv2

        keep_freed_memory()
        cv2.setNumThreads(1)  # the pipeline's own threads are the parallel ones
        self.progress = progress
        self.pending: tuple[int, int, int, str] | None = None
        self.reported = 0.0
        self.pipeline = run.make_pipeline(self.report)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Run the shards of a batch; a storage that fails is returned, since Ray would repeat what raises."""
        errors = []
        for shard in batch["shard"].tolist():
            try:
                self.pipeline.run(shard)
                errors.append("")
            except StorageError as error:
                errors.append(str(error))
            except StuckError:
                os._exit(1)  # nothing else stops its thread; Ray begins the shard again, which knows what was done
            finally:
                self.send()
        return {"shard": batch["shard"], "error": errors}

    def report(self, shard: int, done: int, failed: int, group: str = "") -> None:
        """Take down the state of a shard, and send it on now and then."""
        self.pending = (shard, done, failed, group)
        if time.monotonic() - self.reported > REPORT_SECONDS:
            self.send()

    def send(self) -> None:
        """Send the last state on."""
        if self.pending is not None:
            self.progress.set.remote(*self.pending)
        self.pending = None
        self.reported = time.monotonic()


class RayExecutor:
    """Runs shards over the cluster at `--address`, over that of the submitted job, or over one started here."""

    def __init__(self, settings: Any) -> None:
        self.connection = Connection(settings.address)
        self.wants_gpu = getattr(settings, "device", "cpu") == "cuda"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def begin(self) -> None:
        """Connect in the background; UsageError where a GPU is wanted and can never be had."""
        self.connection.begin()
        if self.wants_gpu:
            check_gpu(self.connection)

    def run_shards(self, run: Run[Any]) -> str | None:
        """Run the shards that are left; return the reason if the run was stopped before its end."""
        with ray_data_loading():
            self.connection.wait()
        limit = run.settings.max_failures
        allowed = failures_allowed(limit, run.plan.items)
        failed_before = run.failed_before()
        told = beside_driver(Progress)
        shards = ShardThread(shard_dataset(run, told))
        reason = None
        try:
            with run.display() as display:
                shards.start()
                while shards.is_alive() and not reason:
                    shards.join(POLL_SECONDS)
                    counts = ray.get(told.read.remote())
                    display.update(counts)
                    failed = failed_before + progress.total(counts)[1]
                    if failed > allowed:
                        reason = f"{failed} {run.noun} have failed, more than --max-failures {limit} allows"
        except KeyboardInterrupt:
            reason = "interrupted"
        except RayError as error:  # the progress actor lives as long as the driver's node
            reason = f"the cluster gave up: {last_line(error)}"
        if reason:
            leave_threads_behind()
        return reason or shards.error


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
    if total_resource("GPU"):
        return
    if connection.is_local:
        raise UsageError("--device cuda: this machine has no GPU that Ray can use; take --device cpu, without --half")
    say("--device cuda: the cluster has no GPU now, and the job waits until one joins.")


def shard_dataset(run: Run[Any], told: Any) -> "Dataset":
    """Return the lazy dataset whose rows are the results of shards, the large ones first (see `plan.cut`)."""
    # Imported here: it takes a second, in which the cluster starts.
    from ray.data import ActorPoolStrategy, DataContext, from_items

    shards = sorted(run.shards, reverse=True)
    settings = run.settings
    device: Device = run.device
    if device == "auto":
        device = "cuda" if total_resource("GPU") else "cpu"
    resources: dict[str, Any] = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
    # At least one, for which a cluster that grows on demand brings its first node.
    wanted = settings.num_actors or total_resource("GPU" if device == "cuda" else "CPU")
    workers = max(1, min(wanted, len(shards)))
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
        ShardWorker,
        fn_constructor_args=(run.on_device(device), told),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=workers, max_size=most, max_tasks_in_flight_per_actor=2),
        **resources,
    )


class ShardThread(threading.Thread):
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
            self.error = f"the cluster gave up: {last_line(error)}"
