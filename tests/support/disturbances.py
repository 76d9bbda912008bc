"""Ways to disturb a job: bytes at which the hooks of its processes misbehave, and who these processes are."""

import subprocess
import time
from pathlib import Path

import psutil

MARKER = b"KILL THE DECODER"
SLOW = b"WAIT WITH ME"
ENDLESS = b"NEVER COME BACK"
TOGETHER = b"WAIT FOR ANOTHER"
STOPPED = b"STOP THE DECODER"


def wait_for(condition, seconds=180.0):
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def written(output: Path) -> int:
    """How many images are there."""
    return sum(1 for path in output.rglob("images/**/*.jpg") if path.is_file())


def workers_of(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The Ray Data actors below a driver."""
    found = psutil.Process(process.pid).children(recursive=True)
    alive = [child for child in found if child.status() != psutil.STATUS_ZOMBIE]
    return [child for child in alive if "MapWorker" in " ".join(child.cmdline()[:1])]
