"""A run: what the machinery that runs a job over shards has to know of it, and how it is finished."""

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import ClassVar, Generic, Protocol, Self, TypeVar

from sgllie.errors import StorageError
from sgllie.methods.settings import Device
from sgllie.runs.cost import spent
from sgllie.runs.gpu import on_device
from sgllie.runs.names import COMMITS, RUN, SUCCESS
from sgllie.runs.plan import Plan, in_order
from sgllie.runs.progress import Display, display
from sgllie.runs.run_file import Json, as_json, now, replaced
from sgllie.runs.settings import JobSettings
from sgllie.runs.shard_runner import Report
from sgllie.runs.totals import Totals, add_up, outcome_counts
from sgllie.storage import SCRATCH, Storage

SettingsT = TypeVar("SettingsT", bound=JobSettings)


class Pipeline(Protocol):
    """Brings one shard after another to its commit.

    Attributes:
        used_gpu: whether a GPU has done any item of the last shard.
    """

    used_gpu: bool = False

    def run(self, shard: int) -> Totals:
        """Do all of a shard, and return what its rows come to; errors as of `ShardRunner.run`."""

    def slow(self) -> str:
        """Name the items that take long."""
        return ""

    def leave(self) -> None:
        """Have `run` raise LeavingError within a second, with all that is done in the journal, unless it is over."""
        return


@dataclass(frozen=True)
class Run(ABC, Generic[SettingsT]):
    """One run of a job over shards, as it lies in its output: what the machinery that runs it has to know.

    A subclass for each command says what is done with a shard, and what is told before and after. It is sent to the
    workers.

    Attributes:
        settings: of the present command.
        output, plan, resumed, roots, notes, version: see `start.Opened`.
        shards: those that are not done, and how many items of each are to be done.
        done: the totals of the others.
        began: when the command did, on the monotonic clock of its process.
    """

    noun: ClassVar[str] = "images"
    """What the items are called."""
    starts_early: ClassVar[bool] = True
    """Whether child processes of the command begin with the shards, until a local cluster pays and has started."""

    settings: SettingsT
    output: Storage
    plan: Plan
    resumed: bool
    roots: dict[str, str]
    notes: list[str]
    version: str | None
    shards: dict[int, int]
    done: dict[int, Totals] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic, kw_only=True)

    @abstractmethod
    def describe_plan(self) -> str:
        """Say what is about to be done."""

    @abstractmethod
    def make_pipeline(self, report: Report) -> Pipeline:
        """Make what a worker holds. Called in the worker: what the driver does not need is imported here."""

    @abstractmethod
    def finalize(self, totals: Mapping[int, Totals]) -> Json:
        """Write what is written once, and _SUCCESS; return the result, with the number of `failed`.

        Args:
            totals: of each shard.

        Raises:
            StorageError: the rows are not one for each item, or the output cannot be written.
        """

    @abstractmethod
    def summarize(self, totals: Json, seconds: float) -> str:
        """Say what was done, from the result."""

    @property
    def remaining(self) -> int:
        """Items that are to be done now."""
        return sum(self.shards.values())

    @property
    def device(self) -> Device:
        """Where the workers compute; the CPU, where the settings leave no choice."""
        return getattr(self.settings, "device", "cpu")

    @property
    def threads(self) -> int | None:
        """Items that each worker has in hand, where the settings say; None for as many as it gets processors."""
        return getattr(self.settings, "threads", None)

    @property
    def commit_sizes(self) -> Mapping[int, int]:
        """How many rows each commit has, by its number."""
        return self.plan.commit_sizes

    def for_workers(self, device: Device, threads: int | None = None) -> Self:
        """Return the same run with its device decided, without what only the driver needs.

        Args:
            device: where the workers compute.
            threads: of each, where the settings do not say.
        """
        settings = on_device(self.settings, device)
        if threads and getattr(settings, "threads", threads) is None:
            settings = dataclasses.replace(settings, threads=threads)
        return dataclasses.replace(self, settings=settings, shards={}, done={})

    @property
    def order(self) -> list[int]:
        """The shards that are to be done, in the order in which workers get them."""
        return in_order(self.shards)

    def display(self) -> AbstractContextManager[Display]:
        """Return what shows how far the run is."""
        return display(self.remaining, self.noun)

    def failed(self, results: Mapping[int, Totals]) -> int:
        """Count the items that have failed in shards that are done, by earlier commands or with these totals now."""
        return sum(int(totals.get("failed", 0)) for totals in (self.done | dict(results)).values())

    def check_replaced(self) -> None:
        """Raise ReplacedError where another command has begun a run in the same output since."""
        found = self.output.find(RUN)
        if found is None or found.version != self.version:
            raise replaced(self.output)

    def of_items(self, totals: Mapping[int, Totals]) -> Totals:
        """Add up the totals of the shards that hold items, and no other files."""
        return add_up(one for shard, one in totals.items() if shard not in self.plan.others)

    def spent(self, totals: Totals) -> Json:
        """Return what is told of the cost: what all shards took, and for how long this command has run."""
        return spent(totals) | {"wall_seconds": round(time.monotonic() - self.began, 3)}

    def counted(self, totals: Mapping[int, Totals]) -> Json:
        """Return the counts that every summary holds, from the totals of each shard.

        Raises:
            StorageError: there is not one row for each item of the plan.
        """
        counts = outcome_counts(self.of_items(totals))
        if counts["images"] != self.plan.items:
            raise StorageError(
                f"{self.output.uri}/{COMMITS} holds {counts['images']} rows for {self.plan.items} images"
            )
        return counts | {"finished": now()}


def mark_finished(output: Storage, totals: Json) -> None:
    """Write _SUCCESS, then clear away what was temporary."""
    output.commit(SUCCESS, as_json(totals))
    output.remove(SCRATCH)
