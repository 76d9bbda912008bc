"""The processes below one: which they are, what they hold and how they end. Some may end while they are looked at."""

import contextlib
from collections.abc import Iterable

import psutil


def below(process: psutil.Process) -> list[psutil.Process]:
    """List all processes below one; none where it has ended."""
    with contextlib.suppress(psutil.Error):
        return process.children(recursive=True)
    return []


def named_below(process: psutil.Process, word: str) -> list[psutil.Process]:
    """List the processes below one that have a word in their name, as Ray's have the class of their actor."""
    return [each for each in below(process) if word in name_of(each)]


def name_of(process: psutil.Process) -> str:
    """Return the first word of the command line of a process; empty where it has ended."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline()[:1])
    return ""


def memory_of(process: psutil.Process) -> float:
    """Return the resident memory of a process in megabytes; 0 where it has ended."""
    with contextlib.suppress(psutil.Error):
        return process.memory_info().rss / 1e6
    return 0.0


def processor_times_of(process: psutil.Process) -> tuple[float, float]:
    """Return the seconds of processors that a process took, for its own code and in the system; 0 if it has ended."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return times.user, times.system
    return 0.0, 0.0


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Send SIGKILL to each."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
