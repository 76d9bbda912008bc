"""Ways to disturb a job: the right moment, bytes at which the hooks of its processes misbehave, and who these are."""

import itertools
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from processes import named_below

from sgllie.storage import LocalStorage

MARKER = b"KILL THE DECODER"
SLOW = b"WAIT WITH ME"
ENDLESS = b"NEVER COME BACK"
TOGETHER = b"WAIT FOR ANOTHER"


def slowed(folder: Path, pattern: str = "*.jpg") -> Path:
    """Let each image of a folder take a tenth of a second."""
    for path in folder.rglob(pattern):
        path.write_bytes(path.read_bytes() + SLOW)
    return folder


def wait_for(condition, seconds=600.0, beside=None):
    """Wait until something is true, or is there, and give it back; a job beside it must not end before."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert beside is None or beside.poll() is None, "the job ended before it was disturbed"
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def kill_after(patch: pytest.MonkeyPatch, steps: int, *names: str) -> None:
    """Have this process "killed", once so many of its steps that change a local folder are done.

    Args:
        patch: undoes it.
        steps: that are still done.
        names: of the methods of LocalStorage that are steps; by default all that change something.
    """
    left = itertools.count(steps, -1)

    def dying(function):
        def step(*arguments):
            if next(left) <= 0:
                raise KeyboardInterrupt
            return function(*arguments)

        return step

    for name in names or ("write", "commit", "remove", "upload", "create", "assemble"):
        patch.setattr(LocalStorage, name, dying(getattr(LocalStorage, name)))


def written(output: Path) -> int:
    """How many images are there."""
    return sum(1 for path in output.rglob("images/**/*.jpg") if path.is_file())


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The Ray Data actors below a driver."""
    return named_below(psutil.Process(process.pid), "MapWorker")
