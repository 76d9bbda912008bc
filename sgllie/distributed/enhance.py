"""The enhancement job: shards of the manifest over a pool of Ray Data actors, each of which holds the model."""

import dataclasses
import logging
import shlex
import sys
import threading
import time
from typing import Any

import numpy as np
import ray
from ray.data import ActorPoolStrategy, DataContext

from sgllie.corpus import Row
from sgllie.distributed.cluster import beside_driver, cluster, total
from sgllie.memory import keep_freed_memory
from sgllie.progress import display, duration
from sgllie.run import Run, count, finish, prepare
from sgllie.settings import EnhanceSettings, failures_allowed
from sgllie.storage import StorageError
from sgllie.video.settings import VideoSettings

POLL_SECONDS = 0.25
REPORT_SECONDS = 0.5
OK, STOPPED, WITH_FAILURES = 0, 1, 3


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
    """One actor of the pool: holds a pipeline, and runs the shards that Ray Data hands to it."""

    def __init__(self, settings: EnhanceSettings, root: str, scoreboard: Any) -> None:
        # Imported here, since the driver imports this module too, and would wait a second for a model it never runs.
        import cv2

        from sgllie.pipeline import ShardPipeline

        keep_freed_memory()
        cv2.setNumThreads(1)  # the pipeline's own threads are the parallel ones
        self.scoreboard = scoreboard
        self.pipeline = ShardPipeline(settings, root, self.report)
        self.shard = self.done = self.failed = 0
        self.reported = 0.0

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Run the shards of a batch; a storage that fails is an answer, since Ray would try an exception again."""
        errors = []
        for shard in batch["shard"].tolist():
            self.shard, self.done, self.failed = shard, 0, 0
            try:
                self.pipeline.run(shard)
                errors.append("")
            except StorageError as error:
                errors.append(str(error))
            self.send()
        return {"shard": batch["shard"], "error": errors}

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


class Shards(threading.Thread):
    """Runs all shards on the cluster. Beside the main thread, so that this one can draw, count and be interrupted."""

    def __init__(self, dataset: ray.data.Dataset) -> None:
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


def shard_dataset(
    worker: type, settings: EnhanceSettings | VideoSettings, shards: list[int], *arguments: Any
) -> ray.data.Dataset:
    """The lazy dataset whose rows are the results of shards, in this order.

    Actors of the class `worker` are made with the settings, their device resolved, and the other arguments.
    """
    device = settings.device if settings.device != "auto" else ("cuda" if total("GPU") else "cpu")
    resources: dict[str, Any] = {"num_gpus": 1} if device == "cuda" else {"num_cpus": 1}
    workers = settings.num_actors or total("GPU" if device == "cuda" else "CPU")
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_no_progress_timeout_s = -1  # a shard of large images may take longer than any limit set here
    # Ray Data restarts a dead actor and runs its shard again, without a limit; the shard's journal is what ends a
    # vicious circle.
    items = [{"shard": shard} for shard in shards]
    return ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
        worker,
        fn_constructor_args=(dataclasses.replace(settings, device=device), *arguments),
        batch_size=1,
        compute=ActorPoolStrategy(size=min(workers, len(items)), max_tasks_in_flight_per_actor=2),
        **resources,
    )


def enhance(settings: EnhanceSettings) -> int:
    """Run the job to its end.

    Returns:
        The exit code: 0 all images are there, 3 finished with failed images, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    started = time.monotonic()
    run = prepare(settings)
    say(opening(run))
    if settings.dry_run:
        return OK
    if run.shards:
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        with cluster(settings.address):
            stopped = work(run)
        if stopped:
            say(f"Stopped: {stopped}. What is done is kept; the same command goes on.")
            return STOPPED
    try:
        totals = finish(run)
    except StorageError as error:
        say(f"Stopped: {error}.")
        return STOPPED
    say(closing(run, totals, time.monotonic() - started))
    return WITH_FAILURES if totals["failed"] else OK


def work(run: Run) -> str | None:
    """Run the shards that are left; the reason, if the job was stopped before the end."""
    limit = run.settings.max_failures
    allowed = failures_allowed(limit, run.plan.images)
    before = count(run.output)["failed"] if limit and run.resumed and not run.settings.retry_failed else 0
    scoreboard = beside_driver(Scoreboard)
    # Large shards first, small ones last: see corpus.cut.
    order = sorted(run.shards, reverse=True)
    shards = Shards(shard_dataset(ShardWorker, run.settings, order, run.root, scoreboard))
    shards.start()
    try:
        with display(run.remaining, "images") as shown:
            while shards.is_alive():
                shards.join(POLL_SECONDS)
                done, failed = ray.get(scoreboard.read.remote())
                shown.update(done, failed)
                if before + failed > allowed:
                    return f"{before + failed} images have failed, more than --max-failures {limit} allows"
    except KeyboardInterrupt:
        return "interrupted"
    return shards.error


def opening(run: Run) -> str:
    """What is about to be done, in words."""
    ignored, examples = run.ignored
    settings, plan = run.settings, run.plan
    lines = [
        f"{plan.images:,} images ({plan.size / 1e6:,.1f} MB) in {settings.input}, {len(plan.shards):,} shards"
        + (f", {len(run.shards):,} of them left" if run.resumed else "")
    ]
    if ignored:
        named = ", ".join(examples[:5]) + (", ..." if ignored > 5 else "")
        lines.append(f"{ignored:,} other files ignored: {named}")
    if settings.dry_run:
        lines.append(f"Dry run: {run.remaining:,} would be enhanced into {settings.output}; nothing was written.")
    return "\n".join(lines)


def closing(run: Run, totals: dict[str, Any], seconds: float) -> str:
    """What was done, in words."""
    output = run.settings.output
    parts = [f"{totals['ok']:,} enhanced"]
    if totals["copied"]:
        parts.append(f"{totals['copied']:,} copied")
    if totals["failed"]:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in totals["errors"].items())
        parts.append(f"{totals['failed']:,} failed ({kinds})")
    lines = [
        f"{totals['images']:,} images: {', '.join(parts)}; "
        f"mean luminance {totals['luminance_mean_in']:.2f} -> {totals['luminance_mean_out']:.2f}; {duration(seconds)}."
    ]
    if not run.shards:
        lines[0] += " All of it was there already."
    lines.append(f"Images in {output}/images, one row for each in {output}/stats.")
    lines.append(f"See what it did: sgllie report {shlex.quote(output)}")
    return "\n".join(lines)


def first_line(error: Exception) -> str:
    """The last cause of a Ray error in one line."""
    text = str(error).strip().splitlines()
    return text[-1] if text else type(error).__name__


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
