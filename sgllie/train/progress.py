"""How far a training is: a live line with the losses on a terminal, a line every ten seconds in a log."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from sgllie.runs.progress import LOG_SECONDS
from sgllie.runs.words import duration

Row = dict[str, Any]


class TrainingDisplay(Protocol):
    """Shows steps and losses."""

    def update(self, steps: int, terms: Row) -> None:
        """Called about twice a second with the steps done and the latest terms."""

    def epoch(self, row: Row) -> None:
        """Called once for each finished epoch."""


class LogDisplay:
    """Lines of text."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.first = total, done
        self.started = self.last = time.monotonic()

    def update(self, steps: int, terms: Row) -> None:
        """Print a line if it is time."""
        now = time.monotonic()
        if now - self.last < LOG_SECONDS or steps <= self.first:
            return
        self.last = now
        left = (now - self.started) / (steps - self.first) * (self.total - steps)
        say(f"step {steps:,} of {self.total:,}: {in_words(terms)}, {duration(left)} left")

    def epoch(self, row: Row) -> None:
        """Print the epoch."""
        say(epoch_line(row))


class LiveDisplay:
    """One line that is drawn again and again, and one that stays for each epoch."""

    def __init__(self, progress: Progress, total: int, done: int) -> None:
        self.progress = progress
        self.task = progress.add_task("", total=total, completed=done, terms="")

    def update(self, steps: int, terms: Row) -> None:
        """Redraw."""
        self.progress.update(self.task, completed=steps, terms=in_words(terms))

    def epoch(self, row: Row) -> None:
        """Print the epoch above the line."""
        self.progress.console.print(epoch_line(row), highlight=False)


@contextmanager
def training_display(total: int, done: int) -> Iterator[TrainingDisplay]:
    """A display of `total` steps of which `done` are, live where standard output is a terminal."""
    console = Console()
    if not console.is_terminal:
        yield LogDisplay(total, done)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("steps, {task.fields[terms]},"),
        TimeElapsedColumn(),
        TextColumn("gone,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as progress:
        yield LiveDisplay(progress, total, done)


def in_words(terms: Row) -> str:
    """`loss 1.234 (spatial 0.123, colour 0.456)`."""
    parts = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in terms.items() if name != "loss"]
    return f"loss {terms['loss']:.4g} ({', '.join(parts)})" if terms else "starting"


def epoch_line(row: Row) -> str:
    """An epoch in one line."""
    dead = row["validation_dead_layers"]
    return (
        f"epoch {row['epoch']}: loss {row['training_loss']:.4g}; validation: loss {row['validation_loss']:.4g}, "
        f"brightness {row['validation_brightness']:.3f}, clipped {row['validation_clipped']:.2%}, "
        f"NIQE {row['validation_niqe']:.2f}; {duration(row['seconds'])}" + (f"; dead layers: {dead}" if dead else "")
    )


def say(text: str) -> None:
    """Print, at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
