"""How much of a machine this process may use: what its control groups (containers, pods) leave of it."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

SYSTEM = Path("/")


class Share(NamedTuple):
    """What one process has of its machine."""

    processors: float = 1
    gpus: float = 0


share = Share()
"""Of this process. A worker of a cluster is given its own; others have one processor."""


def memory_bytes(system: Path = SYSTEM) -> int:
    """Return the bytes of memory that all processes of this container, or of the machine, have together.

    Args:
        system: the folder in which `proc` and `sys` lie.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits += [int(limit) for (limit,) in values(system, "", "memory.max") if limit != "max"]
    limits += [int(limit) for (limit,) in values(system, "memory", "memory.limit_in_bytes")]
    return min(limits)


def processors(system: Path = SYSTEM) -> float:
    """Return how many processors this process may keep busy; a container may have a fraction of one."""
    limits = [float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)]
    limits += [int(quota) / int(period) for quota, period in values(system, "", "cpu.max") if quota != "max"]
    periods = values(system, "cpu", "cpu.cfs_period_us")
    quotas = zip(values(system, "cpu", "cpu.cfs_quota_us"), periods, strict=True)
    limits += [int(quota) / int(period) for (quota,), (period,) in quotas if int(quota) > 0]
    return min(limits)


def whole_processors() -> int:
    """Return how many processes this one may keep busy, which is one at least."""
    return max(1, int(processors()))


def values(system: Path, controller: str, setting: str) -> Iterator[list[str]]:
    """Yield the words of a setting of the control group that this process is in, and of those around it.

    Source: cgroups(7), and "Control Group v2" in the documentation of the Linux kernel.

    Args:
        system: the folder in which `proc` and `sys` lie.
        controller: of version 1 (`memory`, `cpu`); empty for version 2, in which all share one tree.
        setting: the file that holds it.
    """
    try:
        groups = (system / "proc/self/cgroup").read_text().splitlines()
    except FileNotFoundError:
        return
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if controller not in controllers.split(","):
            continue
        # Inside a container the path may be that of the world outside, of which only the top is to be seen.
        for group in (PurePosixPath(path), *PurePosixPath(path).parents):
            file = system / "sys/fs/cgroup" / controller / group.relative_to("/") / setting
            if file.is_file():
                yield file.read_text().split()
