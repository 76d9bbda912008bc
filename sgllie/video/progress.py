"""How far each video of a job is: a bar for each that is at work on a terminal, lines every ten seconds in a log."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from sgllie.runs.progress import LOG_SECONDS, Counts, Display
from sgllie.runs.words import duration, printable, say
from sgllie.video.plan import Segment


class FrameCounts:
    """The frames that each video has to come to, and when it was first seen at work."""

    def __init__(self, segments: list[Segment]) -> None:
        self.frames: dict[str, int] = {}
        for segment in segments:
            self.frames[segment.path] = self.frames.get(segment.path, 0) + segment.frames
        self._begun: dict[str, tuple[float, int]] = {}

    def count(self, path: str, done: int) -> str:
        """Say how many frames are done; not every container tells how many there will be."""
        total = self.frames[path]
        return f"{done:,} of {total:,} frames" if total else f"{done:,} frames"

    def rate(self, path: str, done: int) -> float:
        """Return the frames per second since the video was first seen."""
        now = time.monotonic()
        since, before = self._begun.setdefault(path, (now, done))
        return (done - before) / max(now - since, 1e-9)


class LogVideoDisplay:
    """A line for each video that has moved, every ten seconds."""

    def __init__(self, frame_counts: FrameCounts) -> None:
        self._frame_counts = frame_counts
        self._shown: dict[str, int] = {}
        self._last = time.monotonic()

    def update(self, counts: Counts) -> None:
        """Print lines if it is time."""
        frames = {path: done for path, (done, _) in counts.items()}
        rates = {path: self._frame_counts.rate(path, done) for path, done in frames.items()}
        if time.monotonic() - self._last < LOG_SECONDS:
            return
        self._last = time.monotonic()
        for path, done in frames.items():
            if done != self._shown.get(path):
                total, rate = self._frame_counts.frames[path], rates[path]
                # A short video may be done when it is first seen: how fast it went is not known then.
                speed = f", {rate:.1f} frames/s" if rate else ""
                left = f", {duration((total - done) / rate)} left" if rate and total > done else ""
                say(f"{path}: {self._frame_counts.count(path, done)}{speed}{left}")
        self._shown = dict(frames)


class LiveVideoDisplay:
    """A bar for each video at work, drawn again and again; it goes when the video is done."""

    def __init__(self, frame_counts: FrameCounts, progress: Progress) -> None:
        self._frame_counts, self._progress = frame_counts, progress
        self._tasks: dict[str, TaskID] = {}

    def update(self, counts: Counts) -> None:
        """Redraw."""
        for path, (done, _) in counts.items():
            total, rate = self._frame_counts.frames[path], self._frame_counts.rate(path, done)
            speed = f"{self._frame_counts.count(path, done)}, {rate:,.1f} frames/s,"
            if path not in self._tasks:
                self._tasks[path] = self._progress.add_task(printable(path), total=total or None, speed=speed)
            complete = bool(total) and done >= total
            self._progress.update(self._tasks[path], completed=done, speed=speed, visible=not complete)


@contextmanager
def display(segments: list[Segment]) -> Iterator[Display]:
    """Return a display for these segments, live where standard output is a terminal."""
    console = Console()
    frame_counts = FrameCounts(segments)
    if not console.is_terminal:
        yield LogVideoDisplay(frame_counts)
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console) as progress:
        yield LiveVideoDisplay(frame_counts, progress)
