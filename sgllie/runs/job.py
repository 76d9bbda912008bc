"""A job over shards from its settings to its exit code, whatever runs its shards."""

import time
from collections.abc import Callable
from typing import Any, Protocol, Self, TypeVar

from sgllie.errors import StorageError, StuckError
from sgllie.runs.names import SUCCESS
from sgllie.runs.run import Run
from sgllie.runs.settings import JobSettings
from sgllie.runs.words import say
from sgllie.storage import open_storage

SettingsT = TypeVar("SettingsT", bound=JobSettings)

OK, STOPPED, WITH_FAILURES = 0, 1, 3


class Executor(Protocol):
    """Runs the shards of a run. Entered before the run is prepared, so that it can start beside that."""

    def begin(self) -> None:
        """Start what takes long; UsageError where it cannot be had."""

    def run_shards(self, run: Run[Any]) -> str | None:
        """Run the shards that are left; return the reason if the run was stopped before its end."""

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

    def run_shards(self, run: Run[Any]) -> str | None:
        """Run the shards; StorageError where the job must stop."""
        pipeline = run.make_pipeline(lambda shard, done, failed, group="": None)
        for shard in run.shards:
            pipeline.run(shard)
        return None


def run_job(prepare: Callable[[SettingsT], Run[SettingsT]], settings: SettingsT, executor: Executor) -> int:
    """Run a job to its end.

    Args:
        prepare: begins a run, or finds the one that is to be resumed.
        settings: of the job.
        executor: runs the shards.

    Returns:
        The exit code: 0 all is there, 3 finished with failures, 1 stopped before the end.

    Raises:
        UsageError: the settings cannot be carried out.
    """
    started = time.monotonic()
    with executor:
        if not settings.dry_run and not is_finished(settings):
            executor.begin()
        run = prepare(settings)
        say(run.describe_plan())
        if settings.dry_run:
            return OK
        try:
            stopped = executor.run_shards(run) if run.shards else None
            if stopped:
                say(f"Stopped: {stopped}. What is done is kept; the same command goes on.")
                return STOPPED
            totals = run.finalize()
        except (StorageError, StuckError) as error:
            say(f"Stopped: {error}.")
            return STOPPED
        say(run.summarize(totals, time.monotonic() - started))
    return WITH_FAILURES if totals["failed"] else OK


def is_finished(settings: Any) -> bool:
    """Tell whether the output looks finished, so that nothing need be started; a wrong guess only costs time."""
    try:
        return open_storage(settings.output, settings.s3).exists(SUCCESS)
    except StorageError:
        return False
