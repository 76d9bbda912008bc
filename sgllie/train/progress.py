"""How far a training is: a live line with the losses on a terminal, a line every ten seconds in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import Progress

from sgllie.runs.progress import LOG_SECONDS, Rate, live_progress
from sgllie.runs.schemas import Row
from sgllie.runs.words import duration, say


class TrainingDisplay(Protocol):
    """Shows steps and losses."""

    def update(self, steps: int, terms: Row) -> None:
        """Show the steps done and the latest terms; called about twice a second."""

    def epoch(self, row: Row) -> None:
        """Show a finished epoch; called once for each."""

    def remark(self, text: str) -> None:
        """Say what else happens; called from any thread."""


class LogDisplay:
    """Lines of text."""

    def __init__(self, total: int, done: int) -> None:
        self.total, self.first = total, done
        self.told = done  # by the line of an epoch
        self.rate = Rate()
        self.last = time.monotonic()

    def update(self, steps: int, terms: Row) -> None:
        """Print a line if it is time, and if there are steps that no epoch's line has told."""
        rate = self.rate.after(steps - self.first)
        now = time.monotonic()
        if now - self.last < LOG_SECONDS or steps <= self.told:
            return
        self.last = now
        left = f", {duration((self.total - steps) / rate)} left" if rate > 0 else ""
        say(f"step {steps:,} of {self.total:,}: {in_words(terms)}{left}")

    def epoch(self, row: Row) -> None:
        """Print the epoch."""
        self.told = row["steps"]
        say(epoch_line(row))

    def remark(self, text: str) -> None:
        """Print it."""
        say(text)


class LiveDisplay:
    """One line that is drawn again and again, and one that stays for each epoch."""

    def __init__(self, progress: Progress, total: int, done: int) -> None:
        self.progress = progress
        self.told = done
        self.task = progress.add_task("", total=total, completed=done, terms=in_words({}))

    def update(self, steps: int, terms: Row) -> None:
        """Redraw; the reports of single steps may lag behind an epoch's."""
        self.progress.update(self.task, completed=max(steps, self.told), terms=in_words(terms))

    def epoch(self, row: Row) -> None:
        """Print the epoch above the line."""
        self.told = row["steps"]
        self.progress.update(self.task, completed=self.told)
        self.remark(epoch_line(row))

    def remark(self, text: str) -> None:
        """Print it above the line."""
        self.progress.console.print(text, highlight=False)


@contextmanager
def training_display(total: int, done: int) -> Iterator[TrainingDisplay]:
    """Show how many of `total` steps are done, live where standard output is a terminal; `done` were done before."""
    console = Console()
    if not console.is_terminal:
        yield LogDisplay(total, done)
        return
    with live_progress(console, "steps, {task.fields[terms]},") as progress:
        yield LiveDisplay(progress, total, done)


def in_words(terms: Row) -> str:
    """Write `loss 1.234 (spatial 0.123, colour 0.456)`."""
    parts = [f"{name.replace('_', ' ')} {value:.4g}" for name, value in terms.items() if name != "loss"]
    return f"loss {terms['loss']:.4g} ({', '.join(parts)})" if terms else "starting"


def epoch_line(row: Row) -> str:
    """Write an epoch in one line."""
    dead = row["validation_dead_layers"]
    return (
        f"epoch {row['epoch']}: loss {row['training_loss']:.4g}; validation: loss {row['validation_loss']:.4g}, "
        f"brightness {row['validation_brightness']:.3f}, clipped {row['validation_clipped']:.2%}, "
        f"NIQE {row['validation_niqe']:.2f}; {duration(row['seconds'])}" + (f"; dead layers: {dead}" if dead else "")
    )
