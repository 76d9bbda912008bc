"""The memory of a worker, shared out among what it has in hand."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from sgllie.errors import ItemError
from sgllie.runs import machine

MARGIN = 1.25
"""What is measured for each pixel is less than what pictures of noise need, other libraries, and the allocator."""
SHARE = 0.85
"""Of a machine's memory that its workers may use."""
WORKER_BYTES = 650_000_000
"""A worker with its libraries (350 to 450 MB), and a process of its own for what may crash."""
TORCH_BYTES = 520_000_000
"""What a process with torch holds beside: 515 MB were measured on the CPU, with a network opened in the build for CUDA
(2.14). 240 of them are pages of its libraries, which are in memory once for all processes of a machine. What a context
of CUDA needs of the machine's memory was not measured, nor onnxruntime's CUDA, which counts as torch."""
LEAST_BYTES = 250_000_000
"""For what a worker has in hand, however small the machine is."""
FILES_SHARE = 8
"""One part in so many is for files that were read and wait, or are being written; the others are for pixels."""
UNKNOWN_FILE_BYTES = 8_000_000
"""Of a file whose size the listing does not tell, since its name came from a list."""
ADVICE = "give each worker more memory, and say how much with --worker-memory"


def file_bytes(size: int | None) -> int:
    """Return the bytes of memory to hold for a file whose size is what its listing tells."""
    return UNKNOWN_FILE_BYTES if size is None else size


class MemoryBudget:
    """Admits work while all that is admitted needs no more than so many bytes; first come, first served.

    Nobody holds one part of a budget while waiting for another, so nobody waits for ever; and since nobody overtakes,
    what needs much gets its turn as well.

    Args:
        total: bytes.
        most: bytes that one item may need that is worked on alone; by default `total`.
        advice: for an item that needs more.
    """

    def __init__(self, total: int, most: int = 0, advice: str = ADVICE) -> None:
        self.total = total
        self.most = max(most, total)
        self.advice = advice
        self._free = total
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    def check(self, needed: int, noun: str = "image") -> None:
        """Raise ItemError for an item that needs more bytes than there are."""
        if needed > self.most:
            raise ItemError(
                "memory",
                f"the {noun} needs {gigabytes(needed)} of memory, and its worker may use {gigabytes(self.most)} for "
                f"what it has in hand; {self.advice}",
            )

    @contextmanager
    def held(self, needed: int) -> Iterator[None]:
        """Hold so many bytes while the block runs, and wait for them if need be; ItemError where there are too few."""
        self.check(needed)
        needed = min(needed, self.total)
        self._take(needed)
        try:
            yield
        finally:
            self._give_back(needed)

    def _take(self, needed: int) -> None:
        with self._lock:
            if not self._waiting and needed <= self._free:
                self._free -= needed
                return
            turn = threading.Event()
            self._waiting.append((needed, turn))
        turn.wait()

    def _give_back(self, held: int) -> None:
        with self._lock:
            self._free += held
            while self._waiting and self._waiting[0][0] <= self._free:
                needed, turn = self._waiting.popleft()
                self._free -= needed
                turn.set()


def own_bytes(with_torch: bool = False) -> int:
    """Return how many bytes a worker holds by itself; one that was given a GPU has torch, even if it takes the CPU."""
    return WORKER_BYTES + (TORCH_BYTES if with_torch or machine.share.gpus else 0)


def worker_bytes(given: float | None, with_torch: bool = False) -> int:
    """Return how many bytes one worker may use.

    Args:
        given: gigabytes, as `--worker-memory` says; without it the memory of the machine, or of the container, is
            shared out among the processors, one or several of which a worker has.
        with_torch: whether it imports torch.
    """
    if given is None:
        processors = machine.share.processors
        worker = machine.memory_bytes() * SHARE * processors / max(machine.processors(), processors, 1)
    else:
        worker = given * 1e9
    return max(int(worker), own_bytes(with_torch) + LEAST_BYTES)


def budgets(given: float | None, with_torch: bool = False) -> tuple[MemoryBudget, MemoryBudget]:
    """Return what the files, and what the pixels that one worker has in hand may need together; see `worker_bytes`."""
    available = worker_bytes(given, with_torch) - own_bytes(with_torch)
    files = available // FILES_SHARE
    return MemoryBudget(files), MemoryBudget(available - files)


def lenient(budget: MemoryBudget, given: float | None, advice: str = ADVICE) -> MemoryBudget:
    """Return a budget of which one item alone may take more, as long as it fits in the memory of the whole machine.

    For jobs that need many times the bytes of an enhancement for each pixel: a picture of a telephone can take more
    than an equal share, and the other workers seldom have such a one at the same moment. `--worker-memory` is strict.
    """
    return MemoryBudget(budget.total, 0 if given else int(machine.memory_bytes() * SHARE) - own_bytes(), advice)


def gigabytes(size: int) -> str:
    """Return a number of bytes in words: `1.5 GB`, and never less than it is."""
    return f"{-(-size // 10**8) / 10:,.1f} GB"
