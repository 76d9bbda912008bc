"""A job over shards from its settings to its exit code, whatever runs its shards."""

import dataclasses
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Protocol, Self, TypeVar

from sgllie.errors import StorageError, StuckError
from sgllie.exit_codes import OK, STOPPED, WITH_FAILURES
from sgllie.runs import gpu
from sgllie.runs.compaction import outdated, write_stats_file
from sgllie.runs.local import LocalPool
from sgllie.runs.names import SUCCESS
from sgllie.runs.plan import SHARD_BYTES
from sgllie.runs.run import Run
from sgllie.runs.run_file import Json
from sgllie.runs.settings import JobSettings
from sgllie.runs.totals import Totals
from sgllie.runs.watch import stop_on_sigterm, too_many
from sgllie.runs.words import say
from sgllie.storage import open_storage

SettingsT = TypeVar("SettingsT", bound=JobSettings)
Argument = TypeVar("Argument")

SMALL_ITEMS = 1000
"""What is no more than this, and than SHARD_BYTES, is done before a cluster has started."""
LISTING_SECONDS = 3.0
"""An input whose listing takes longer will keep its workers busy for long: the cluster starts beside it."""


class Executor(Protocol):
    """Runs the shards of a run. Entered before the run is prepared, so that it can start beside that."""

    def begin(self) -> None:
        """Start what takes long; UsageError where it cannot be had."""

    def run_shards(self, run: Run[Any], results: dict[int, Totals]) -> str | None:
        """Run the shards that are left; return the reason if the run was stopped before its end.

        Args:
            run: whose shards they are.
            results: gets the totals of each shard that is done.
        """

    def run_tasks(self, task: Callable[[Argument], None], arguments: Sequence[Argument]) -> None:
        """Call a function with each of some arguments, where there is room; StorageError where one of them fails."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


class InProcess:
    """Runs shards one after another in this process, for what is too small for anything else."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def begin(self) -> None:
        """Do nothing: this process has begun."""

    def run_shards(self, run: Run[Any], results: dict[int, Totals]) -> str | None:
        """Run the shards; StorageError where the job must stop."""
        pipeline = run.make_pipeline(lambda shard, done, failed, group="": None)
        run.check_replaced()
        for shard in run.shards:
            results[shard] = pipeline.run(shard)
        return None

    def run_tasks(self, task: Callable[[Argument], None], arguments: Sequence[Argument]) -> None:
        """Make one call after another."""
        for argument in arguments:
            task(argument)


def run_job(prepare: Callable[[SettingsT], Run[SettingsT]], settings: SettingsT, executor: Executor) -> int:
    """Run a job to its end.

    Args:
        prepare: begins a run, or finds the one that is to be resumed.
        settings: of the job.
        executor: runs the shards, unless the run is so small that child processes do it at once.

    Returns:
        The exit code: 0 all is there, 3 finished with failures, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    started = time.monotonic()
    stop_on_sigterm()
    with executor:
        with beginning(executor, settings):
            run = dataclasses.replace(prepare(settings), began=started)
        say(run.describe_plan())
        if settings.dry_run:
            return OK
        try:
            results: dict[int, Totals] = {}
            stopped = None
            if run.shards:
                is_quick = is_small(run, executor)
                stopped = LocalPool(run, results).run_shards() if is_quick else executor.run_shards(run, results)
            # Since the last look at the workers, or by earlier commands; but a finished run stays finished.
            if not stopped and settings.max_failures and not run.output.exists(SUCCESS):
                stopped = too_many(run, run.failed(results))
            if stopped:
                say(f"Stopped: {stopped}. What is done is kept; the next command goes on from there.")
                return STOPPED
            totals = finish(run, results, executor)
        except (StorageError, StuckError) as error:
            say(f"Stopped: {error}.")
            return STOPPED
        say(run.summarize(totals, time.monotonic() - started))
    return WITH_FAILURES if totals["failed"] or totals.get("others", {}).get("failed") else OK


def finish(run: Run[Any], results: dict[int, Totals], executor: Executor) -> Json:
    """Bring a run whose shards are done to its end; return its result.

    Args:
        run: of which all shards are done.
        results: the totals of the shards that were done now.
        executor: copies the rows into few files.

    Raises:
        StorageError: the rows are not one for each item, or the output cannot be written.
    """
    run.check_replaced()
    executor.run_tasks(partial(write_stats_file, run.output), outdated(run.output, run.commit_sizes))
    return run.finalize(run.done | results)


@contextmanager
def beginning(executor: Executor, settings: Any) -> Iterator[None]:
    """Let an executor begin beside the block: at once where it is sure to be needed, else if the block takes long."""
    if settings.dry_run or is_finished(settings):
        yield
    elif names_cluster(settings):
        executor.begin()
        yield
    else:
        timer = threading.Timer(LISTING_SECONDS, executor.begin)
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()  # what it has begun must be known to whoever ends it


def is_small(run: Run[Any], executor: Executor) -> bool:
    """Tell whether a run is best done by child processes of this one."""
    is_short = run.remaining <= SMALL_ITEMS and run.plan.size <= SHARD_BYTES
    return is_short and not isinstance(executor, InProcess) and not names_cluster(run.settings)


def names_cluster(settings: Any) -> bool:
    """Tell whether a job is meant for a cluster: named, joined, that of a submitted job, or one with GPUs."""
    is_joined = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    device = getattr(settings, "device", "cpu")
    wants_gpu = device == "cuda" or (device == "auto" and gpu.is_in_reach())
    return bool(settings.address or settings.num_actors or os.environ.get("RAY_ADDRESS") or is_joined or wants_gpu)


def is_finished(settings: Any) -> bool:
    """Tell whether all looks done, so that nothing need be started; a wrong guess only costs time."""
    goes_on = any(getattr(settings, name, False) for name in ("overwrite", "retry_failed", "update"))
    try:
        return not goes_on and open_storage(settings.output, settings.s3).exists(SUCCESS)
    except StorageError:
        return False
