"""How far a job is: a live display on a terminal, a line every ten seconds in a log."""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sgllie.runs.words import duration, say

LOG_SECONDS = 10.0
SILENT_SECONDS = 60.0
"""A worker of which nothing has been heard for so long is named; it tells something every second."""


class Counts(dict[str, tuple[int, int]]):
    """For each group of items (a video's frames, or "" for all) how many are done, and how many of these failed.

    Attributes:
        slowed: whether a storage has asked a worker to slow down.
        silent: the processes, on whatever machines, of which nothing has been heard for long.
    """

    slowed = False
    silent: tuple[int, ...] = ()


class Display(Protocol):
    """Shows how far a run is."""

    def update(self, counts: Counts) -> None:
        """Show the counts; called about twice a second."""


class State(NamedTuple):
    """What a worker tells of a shard.

    Attributes:
        done, failed: items done, and those of them that failed.
        group: that they count for.
        slow: the items that take long, in words.
        worker: who has the shard in hand, in words; empty once nobody has.
        slowed: whether a storage has asked the worker to slow down.
        process: number of the worker's process on its machine.
    """

    done: int
    failed: int
    group: str
    slow: str
    worker: str
    slowed: bool
    process: int = 0


def counts_of(states: Iterable[State]) -> Counts:
    """Add up the states of shards for each group."""
    counts = Counts()
    for state in states:
        done, failed = counts.get(state.group, (0, 0))
        counts[state.group] = (done + state.done, failed + state.failed)
        counts.slowed |= state.slowed
    return counts


class Reports:
    """What workers have told of each shard, and when; a shard that is run again replaces its state."""

    def __init__(self) -> None:
        self.states: dict[int, State] = {}
        self.heard: dict[int, float] = {}

    def set(self, shard: int, *state: Any) -> None:
        """Note the state of a shard."""
        self.states[shard] = State(*state)
        self.heard[shard] = time.monotonic()

    def read(self, others: Mapping[int, State] = MappingProxyType({})) -> tuple[Counts, list[str]]:
        """Return what is done, for each group, and what is stuck, a line for each shard.

        Args:
            others: states of shards that are known elsewhere; what is known here is newer.
        """
        counts = counts_of({**others, **self.states}.values())
        now = time.monotonic()
        silent = {shard: now - heard for shard, heard in self.heard.items() if now - heard > SILENT_SECONDS}
        counts.silent = tuple(self.states[shard].process for shard in silent if self.states[shard].worker)
        return counts, list(self._stuck(silent))

    def _stuck(self, silent: Mapping[int, float]) -> Iterator[str]:
        for shard, state in sorted(self.states.items()):
            if state.worker and (silence := silent.get(shard)):
                yield f"nothing heard for {duration(silence)} from {state.worker}, which has shard {shard}"
            elif state.worker and state.slow:
                yield f"{state.slow} ({state.worker}, shard {shard})"


def total(counts: Counts) -> tuple[int, int]:
    """Return how many items of all groups are done, and how many of these failed."""
    return sum(done for done, _ in counts.values()), sum(failed for _, failed in counts.values())


class Rate:
    """Items per second since the first ones were done: how long workers took to start says nothing of the rest."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None

    @property
    def seconds(self) -> float:
        """For how long it has been known that any are done."""
        return time.monotonic() - self.first[0] if self.first else 0

    def after(self, done: int) -> float:
        """Return the rate now that so many are done; 0 where it is not known yet."""
        now = time.monotonic()
        if self.first is None:
            self.first = (now, done) if done else None
            return 0.0
        began, already = self.first
        return (done - already) / max(now - began, 1e-9)


class LogDisplay:
    """One line every ten seconds."""

    def __init__(self, total: int, noun: str) -> None:
        self.total, self.noun = total, noun
        self.rate = Rate()
        self.last = time.monotonic()

    def update(self, counts: Counts) -> None:
        """Print a line if it is time."""
        done, failed = total(counts)
        rate = self.rate.after(done)
        now = time.monotonic()
        if now - self.last < LOG_SECONDS:
            return
        self.last = now
        left = f"{duration((self.total - done) / rate)} left" if rate else "time left is not known yet"
        say(f"{done:,} of {self.total:,} {self.noun}, {rate:.0f} {self.noun}/s, {failed:,} failed, {left}")


class LiveDisplay:
    """One line that is drawn again and again."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=total, rate="", failed="0 failed")
        self.rate = Rate()

    def update(self, counts: Counts) -> None:
        """Redraw."""
        done, failed = total(counts)
        rate = f"{self.rate.after(done):,.0f}"
        self.progress.update(self.task, completed=done, rate=rate, failed=f"{failed:,} failed")


@contextmanager
def display(total: int, noun: str) -> Iterator[Display]:
    """Show how many of `total` things are done, live where standard output is a terminal."""
    console = Console()
    if not console.is_terminal:
        yield LogDisplay(total, noun)
        return
    with live_progress(console, "{task.fields[rate]} " + noun + "/s, {task.fields[failed]},") as progress:
        yield LiveDisplay(progress, total)


def live_progress(console: Console, text: str) -> Progress:
    """Make a bar with a count, then `text` with the fields of the task, then the time elapsed and left."""
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(text),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    return Progress(*columns, console=console)
