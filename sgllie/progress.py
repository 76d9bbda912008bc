"""How far a job is: a live display on a terminal, a line every ten seconds in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LOG_SECONDS = 10.0


class Display(Protocol):
    """Shows how many items are done."""

    def update(self, done: int, failed: int) -> None:
        """Called about twice a second."""


class Rate:
    """Items per second since the first ones were done: how long workers took to start says nothing of the rest."""

    def __init__(self) -> None:
        self.first: tuple[float, int] | None = None

    def after(self, done: int) -> float:
        """The rate now that so many are done; 0 where it is not known yet."""
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

    def update(self, done: int, failed: int) -> None:
        """Print a line if it is time."""
        rate = self.rate.after(done)
        now = time.monotonic()
        if now - self.last < LOG_SECONDS:
            return
        self.last = now
        left = f"{duration((self.total - done) / rate)} left" if rate else "time left is not known yet"
        sys.stdout.write(
            f"{done:,} of {self.total:,} {self.noun}, {rate:.0f} {self.noun}/s, {failed:,} failed, {left}\n"
        )
        sys.stdout.flush()


class LiveDisplay:
    """One line that is drawn again and again."""

    def __init__(self, progress: Progress, total: int) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=total, rate="", failed="0 failed")
        self.rate = Rate()

    def update(self, done: int, failed: int) -> None:
        """Redraw."""
        rate = f"{self.rate.after(done):,.0f}"
        self.progress.update(self.task, completed=done, rate=rate, failed=f"{failed:,} failed")


@contextmanager
def display(total: int, noun: str) -> Iterator[Display]:
    """A display of `total` things, live where standard output is a terminal."""
    console = Console()
    if not console.is_terminal:
        yield LogDisplay(total, noun)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]} " + noun + "/s, {task.fields[failed]},"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as progress:
        yield LiveDisplay(progress, total)


def duration(seconds: float) -> str:
    """`75` -> `1 min 15 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
