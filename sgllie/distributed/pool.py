"""Shards over a pool of Ray Data actors, each of which holds what its run makes for it."""

import json
import os
import platform
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import ray
from ray.exceptions import RayError, RayTaskError

from sgllie.distributed.cluster import beside_driver, get, gpus_now, last_line
from sgllie.distributed.placement import Placement, in_words, nodes_now, on_cpus, on_gpus, wait_for_gpu
from sgllie.distributed.ray_internals import node_is_draining
from sgllie.errors import StorageError
from sgllie.methods.settings import Device
from sgllie.runs import machine
from sgllie.runs.gpu import not_opened, unused
from sgllie.runs.progress import Counts, Reports, State
from sgllie.runs.run import Run
from sgllie.runs.totals import Totals
from sgllie.runs.words import say
from sgllie.runs.worker import Result, ShardWorker

if TYPE_CHECKING:
    from ray.data import Dataset

Argument = TypeVar("Argument")

BUNCHES = 2000
"""Of shards, at least, if there are so many shards."""
LEAVE_SECONDS = 3.0
"""Until a worker that was asked to end does: its shard is known to be left by then, and `ray job stop` kills it."""
POLL_SECONDS = 0.5
RETRIES = 3
"""Of a task whose node was lost."""
MOST_DEVICE_FAILURES = 2
"""A GPU that has failed so often in a row gets no more work: its workers compute on the CPU."""
OPENING_SECONDS = 30.0
"""For which a worker that cannot open its GPU waits for others to open theirs, where the job demands one."""


@ray.remote(num_cpus=0)
class Progress(Reports):
    """Collects from all workers how far each shard is, those that were left, and which GPUs do not work.

    Whoever leaves a shard, or finds a GPU broken, ends: what it knows must be known elsewhere.

    Attributes:
        has_gpu: whether any worker has opened a GPU.
        notes: what is to be told of the GPUs, the first sentence of each kind that a worker has said.
    """

    def __init__(self) -> None:
        super().__init__()
        self.left: list[int] = []
        self.failures: Counter[str] = Counter()
        self.in_a_row: Counter[str] = Counter()
        self.reasons: dict[str, str] = {}
        self.has_gpu = False
        self.notes: dict[str, str] = {}

    def leave(self, shard: int) -> None:
        """Note a shard that its worker has left to others."""
        self.left.append(shard)

    def take(self) -> int | None:
        """Give away a shard that was left, if there is one."""
        return self.left.pop(0) if self.left else None

    def set(self, shard: int, *state: Any) -> None:
        """Note the state of a shard, which a worker has in hand."""
        super().set(shard, *state)
        if shard in self.left:
            self.left.remove(shard)

    def has_begun(self) -> bool:
        """Tell whether any worker has a shard in hand, or had one."""
        return bool(self.states)

    def failures_of(self, gpu: str) -> int:
        """Count the failures of a GPU until now, for a worker that begins."""
        return self.failures[gpu]

    def device_failed(self, gpu: str, known: int, why: str) -> None:
        """Note that a GPU has failed, unless it is what has ended another worker, too.

        Args:
            gpu: that has failed.
            known: its failures when the worker began: one event ends all workers of a GPU, and counts once.
            why: what it has reported.
        """
        self.reasons[gpu] = why
        if known == self.failures[gpu]:
            self.failures[gpu] += 1
            self.in_a_row[gpu] += 1

    def device_works(self, gpu: str) -> None:
        """Note that a GPU has done images of a shard that is done: a failure before that was no lasting one."""
        del self.in_a_row[gpu]

    def broken(self, gpu: str) -> str:
        """Tell what a GPU has reported last, if it has failed too often in a row."""
        return self.reasons[gpu] if self.in_a_row[gpu] >= MOST_DEVICE_FAILURES else ""

    def gpu_opened(self) -> None:
        """Note that a worker has opened its GPU."""
        self.has_gpu = True

    def note(self, kind: str, sentence: str) -> None:
        """Note what is to be told of the GPU of a worker, unless another has said the like."""
        self.notes.setdefault(kind, sentence)

    def gpus(self) -> tuple[bool, list[str]]:
        """Tell whether any worker has opened a GPU, and what is to be told of them, in the order in which it came."""
        return self.has_gpu, list(self.notes.values())


class RayWorker(ShardWorker):
    """One actor of the pool: runs the shards that Ray Data hands to it.

    Args:
        run: with its device decided.
        progress: the `Progress` of the job.
        demands_gpu: whether the job must stop where no worker can open a GPU.

    Attributes:
        on_gpu: whether this worker computes on a GPU.
        refusal: why it runs no shard, and the job must stop, if it must.
    """

    refusal = ""

    def __init__(self, run: Run[Any], progress: Any, demands_gpu: bool) -> None:
        self.progress = progress
        self.demands_gpu = demands_gpu
        context = ray.get_runtime_context()
        self.gpu = " ".join([context.get_node_id(), *context.get_accelerator_ids()["GPU"]])
        given = context.get_assigned_resources()
        machine.share = machine.Share(given.get("CPU", 0), given.get("GPU", 0))
        if run.device == "cuda" and (why := ray.get(progress.broken.remote(self.gpu))):
            run = run.for_workers("cpu")
            sentence = f"on {platform.node()} {why}, {MOST_DEVICE_FAILURES} times in a row"
            ray.get(progress.note.remote("broken", f"Computing on the CPU instead: {sentence}."))
        self.known_failures = ray.get(progress.failures_of.remote(self.gpu))
        self.on_gpu = run.device == "cuda"
        super().__init__(run, progress.set.remote)
        if self.on_gpu:
            progress.gpu_opened.remote()
        signal.signal(signal.SIGTERM, self.leave)  # in the place of Ray's own handler, which ends the process at once

    def leave(self, *_: object) -> None:
        """Leave the shard to others, and end; Ray has this actor begin again, on a node that stays."""
        super().leave()
        timer = threading.Timer(LEAVE_SECONDS, os._exit, (1,))
        timer.daemon = True
        timer.start()

    def beat(self) -> None:
        """Tell that this worker is there, and leave a node that is about to end: its raylet takes it along, unasked."""
        super().beat()
        if not self.is_leaving and node_is_draining():
            self.leave()

    def device_failed(self, why: str) -> None:
        """Have it counted: this process ends, and the next one on this GPU must know."""
        ray.get(self.progress.device_failed.remote(self.gpu, self.known_failures, why))

    def gpu_not_opened(self, why: str) -> None:
        """Have it told that the CPU takes over; or stop the job, where it demands a GPU and none is to be had."""
        self.on_gpu = False
        sentence = not_opened(why)
        if self.demands_gpu and not self.others_have_gpu():
            self.refusal = sentence
        else:
            ray.get(self.progress.note.remote("not opened", f"Computing on the CPU instead: {sentence}."))

    def curve_is_slow(self, why: str) -> None:
        """Have it told."""
        ray.get(self.progress.note.remote("slow", f"On {platform.node()} {why}."))

    def others_have_gpu(self) -> bool:
        """Tell whether any worker has opened a GPU, once those that begin beside this one have had their time."""
        end = time.monotonic() + OPENING_SECONDS
        while not (found := ray.get(self.progress.gpus.remote())[0]) and time.monotonic() < end:
            time.sleep(POLL_SECONDS)
        return found

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Run the shards of a bunch, and before the next one each that another worker has left meanwhile.

        Why the job must stop is returned, since Ray would repeat what raises; null are the totals of what was left.
        """
        if self.is_leaving:  # for others; Ray gives it to them once this process has ended
            time.sleep(LEAVE_SECONDS)
        results: dict[int, Result] = {}
        bunch = deque(batch["shards"][0])
        while bunch:
            shard = int(bunch.popleft())
            results[shard] = totals, error = ({}, self.refusal) if self.refusal else self.run(shard)
            if error:
                break
            if totals is None:
                ray.get(self.progress.leave.remote(shard))
            elif self.on_gpu and self.pipeline.used_gpu:
                self.progress.device_works.remote(self.gpu)
            left = None if self.is_leaving else ray.get(self.progress.take.remote())
            if left is not None:
                bunch.appendleft(left)
        all_totals, errors = zip(*results.values(), strict=True)
        return {"shard": list(results), "totals": [json.dumps(one) for one in all_totals], "error": list(errors)}


def device_of_workers(run: Run[Any], is_told: bool) -> Device:
    """Decide where the workers of a run compute, and say so where there is a choice, unless CPUs are told already."""
    device: Device = run.device
    gpus = gpus_now()
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    if device == "cuda":
        say(in_words(placement_of(run, device), nodes_now()))
    elif gpus and not is_told and (note := unused(run.settings)):
        say(note)
    return device


def placement_of(run: Run[Any], device: Device) -> Placement:
    """Tell what the workers of a run ask of their nodes."""
    if device == "cpu":
        return on_cpus(nodes_now())
    # A comparison measures times, which workers that share a GPU would spoil.
    return on_gpus(nodes_now(), getattr(run.settings, "workers_per_gpu", 1), run.threads)


def shard_dataset(run: Run[Any], shards: list[int], device: Device, progress: Any) -> "Dataset":
    """Return the lazy dataset whose rows are the results of these shards, run in this order."""
    # Imported here: it takes a second, in which the cluster starts.
    from ray.data import ActorPoolStrategy, DataContext, from_items

    settings = run.settings
    placement = placement_of(run, device)
    # At least one, for which a cluster that grows on demand brings its first node.
    workers = max(1, min(settings.num_actors or placement.workers, len(shards)))
    # Where their number is not set, more are added as nodes join that have room for them.
    most = workers if settings.num_actors else len(shards)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a shard of large images may take longer than any limit set here
    # A worker has one shard in hand and none in waiting, so that all are busy at 1; Ray Data's own threshold is 1.75.
    context.autoscaling_config.actor_pool_util_upscaling_threshold = 1.0
    # Ray Data restarts a dead actor and runs its shard again, without a limit; the shard's journal is what ends a
    # vicious circle.
    bunches = [{"shards": bunch} for bunch in in_bunches(shards, run.shards, workers)]
    # Not `from_arrow`, which has the cluster look at each block before anything begins.
    return from_items(bunches, override_num_blocks=len(bunches)).map_batches(
        RayWorker,
        fn_constructor_args=(run.for_workers(device, placement.threads), progress, run.device == "cuda"),
        batch_size=1,
        compute=ActorPoolStrategy(min_size=workers, max_size=most, max_tasks_in_flight_per_actor=1),
        num_cpus=placement.cpus,
        num_gpus=placement.gpus or None,
    )


def in_bunches(order: list[int], shards: Mapping[int, int], workers: int) -> Iterator[list[int]]:
    """Cut the order of shards into what a worker gets at a time.

    That is a single shard where there are fewer than twice BUNCHES, and at the end. Before it is several, since each
    costs the driver a millisecond or two; but no more than a quarter of what would be a worker's share of the rest.

    Args:
        order: of the shards.
        shards: the number of items of each.
        workers: there are now; a twentieth of the shards is reckoned with, since more may join.
    """
    most, workers = max(1, len(order) // BUNCHES), max(workers, len(order) // 20)
    rest = sum(shards[shard] for shard in order)
    bunch: list[int] = []
    items = 0
    for shard in order:
        if bunch and (len(bunch) == most or items + shards[shard] > rest / (4 * workers)):
            yield bunch
            rest -= items
            bunch, items = [], 0
        bunch.append(shard)
        items += shards[shard]
    if bunch:
        yield bunch


class Shards(threading.Thread):
    """Runs the shards that are left of a run on the cluster. Beside the main thread, so that this one can draw, count
    and be interrupted.

    Args:
        run: whose shards they are.
        results: gets the totals of each shard that is done.
        elsewhere: the shards that others have in hand now; each is done at last, or given to `take`.

    Attributes:
        error: why the job must stop, if it must.
    """

    def __init__(self, run: Run[Any], results: dict[int, Totals], elsewhere: Collection[int] = ()) -> None:
        super().__init__(daemon=True)
        self.results = results
        self.elsewhere = elsewhere
        self.progress = beside_driver(Progress)
        self.whole = run
        self.device = device_of_workers(run, is_told=bool(elsewhere))
        self.error: str | None = None
        self.told = 0

    def run(self) -> None:
        """Consume the results until all are there, or the first error."""
        try:
            # Once more only where workers have left shards that nobody was free for before the end.
            while self.error is None and (missing := self.missing()):
                elsewhere = tuple(self.elsewhere)
                free = [shard for shard in missing if shard not in elsewhere]
                if free:
                    self._await_gpu()
                    self._consume(shard_dataset(self.whole, free, self.device, self.progress))
                else:
                    time.sleep(POLL_SECONDS)
        except Exception as error:
            self.error = f"the cluster gave up: {last_line(error)}"

    def _await_gpu(self) -> None:
        """Wait for a node with a GPU, if that is needed: what such a node has decides what all workers ask for."""
        if self.device == "cuda" and not gpus_now():
            wait_for_gpu()
            say(in_words(placement_of(self.whole, self.device), nodes_now()))

    def missing(self) -> list[int]:
        """Return the shards that are not done, in their order."""
        return [shard for shard in self.whole.order if shard not in self.results]

    def _consume(self, dataset: "Dataset") -> None:
        for result in dataset.iter_rows():
            if result["error"]:
                self.error = result["error"]
                return
            totals = json.loads(result["totals"])
            if totals is not None:
                self.results[result["shard"]] = totals

    def take(self, shard: int) -> None:
        """Give a shard that was elsewhere to the next worker that is free."""
        ray.get(self.progress.leave.remote(shard))

    def have_begun(self) -> bool:
        """Tell whether any worker has a shard in hand, or had one."""
        return ray.get(self.progress.has_begun.remote())

    def look(self, others: Mapping[int, State]) -> tuple[Counts, list[str]]:
        """Ask how far the workers are, and what is stuck; `others` are the states of shards elsewhere."""
        found, (_, notes) = ray.get([self.progress.read.remote(others), self.progress.gpus.remote()])
        for note in notes[self.told :]:
            say(note)
        self.told = len(notes)
        return found

    def is_running(self) -> bool:
        """Wait a moment; tell whether there are shards to be waited for."""
        self.join(POLL_SECONDS)
        return self.is_alive()


def run_tasks(task: Callable[[Argument], None], arguments: Sequence[Argument]) -> None:
    """Call a function with each of some arguments, one processor each; StorageError where one of them fails."""

    @ray.remote(num_cpus=1, max_retries=RETRIES)
    def call(argument: Argument) -> None:
        task(argument)

    try:
        get([call.remote(argument) for argument in arguments])
    except RayTaskError:  # a bug of ours
        raise
    except RayError as error:
        raise StorageError(f"the cluster gave up: {last_line(error)}") from error
