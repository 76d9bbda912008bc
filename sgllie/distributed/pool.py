"""Shards over a pool of Ray Data actors, each of which holds what its run makes for it."""

import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from sgllie.distributed.cluster import beside_driver, last_line, total_resource
from sgllie.errors import DeviceError
from sgllie.methods.settings import Device
from sgllie.runs.progress import Counts, State, counts_of
from sgllie.runs.run import Run
from sgllie.runs.words import say
from sgllie.runs.worker import ShardWorker

if TYPE_CHECKING:
    from ray.data import Dataset

MOST_DEVICE_FAILURES = 2
"""A GPU that has failed so often in a row gets no more work: its workers compute on the CPU."""


@ray.remote(num_cpus=0)
class Progress:
    """Collects from all workers how far each shard is; a shard that is run again replaces its state.

    It also knows which GPUs do not work, since those who find that out end.
    """

    def __init__(self) -> None:
        self.states: dict[int, State] = {}
        self.failures: Counter[str] = Counter()

    def set(self, shard: int, *state: Any) -> None:
        """Note the state of a shard."""
        self.states[shard] = State(*state)

    def device_failed(self, gpu: str) -> None:
        """Note that a GPU has failed."""
        self.failures[gpu] += 1

    def device_works(self, gpu: str) -> None:
        """Note that a GPU has done a shard: a failure before that was no lasting one."""
        del self.failures[gpu]

    def is_broken(self, gpu: str) -> bool:
        """Tell whether a GPU has failed too often in a row."""
        return self.failures[gpu] >= MOST_DEVICE_FAILURES

    def read(self) -> Counts:
        """Return what is done, for each group."""
        return counts_of(self.states.values())


class RayWorker(ShardWorker):
    """One actor of the pool: runs the shards that Ray Data hands to it."""

    def __init__(self, run: Run[Any], progress: Any) -> None:
        self.progress = progress
        context = ray.get_runtime_context()
        self.gpu = " ".join([context.get_node_id(), *context.get_accelerator_ids()["GPU"]])
        if run.device == "cuda" and ray.get(progress.is_broken.remote(self.gpu)):
            run = run.on_device("cpu")
        self.on_gpu = run.device == "cuda"
        try:
            super().__init__(run, progress.set.remote)
        except DeviceError:
            self.on_gpu = False
            super().__init__(run.on_device("cpu"), progress.set.remote)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Run the shards of a batch; why the job must stop is returned, since Ray would repeat what raises."""
        errors = [self.run(shard) for shard in batch["shard"].tolist()]
        if self.on_gpu:
            self.progress.device_works.remote(self.gpu)
        return {"shard": batch["shard"], "error": errors}

    def device_failed(self) -> None:
        """Have it counted: this process ends, and the next one on this GPU must know."""
        ray.get(self.progress.device_failed.remote(self.gpu))


def shard_dataset(run: Run[Any], progress: Any) -> "Dataset":
    """Return the lazy dataset whose rows are the results of shards, the large ones first (see `plan.cut`)."""
    # Imported here: it takes a second, in which the cluster starts.
    from ray.data import ActorPoolStrategy, DataContext, from_items

    shards = sorted(run.shards, reverse=True)
    settings = run.settings
    device: Device = run.device
    gpus = total_resource("GPU")
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if gpus and hasattr(settings, "device"):
        idle = "CPUs: a GPU pays only where the network is heavy, and --device cuda takes it all the same"
        say(f"Computing on the {'GPUs' if device == 'cuda' else idle}.")
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
        RayWorker,
        fn_constructor_args=(run.on_device(device), progress),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=workers, max_size=most, max_tasks_in_flight_per_actor=2),
        **resources,
    )


class Shards(threading.Thread):
    """Runs the shards that are left of a run on the cluster. Beside the main thread, so that this one can draw, count
    and be interrupted.

    Attributes:
        error: why the job must stop, if it must.
    """

    def __init__(self, run: Run[Any]) -> None:
        super().__init__(daemon=True)
        self.progress = beside_driver(Progress)
        self.dataset = shard_dataset(run, self.progress)
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

    def counts(self) -> Counts:
        """Ask the workers how far they are."""
        return ray.get(self.progress.read.remote())
