"""The memory of a worker, shared out among what it has in hand."""

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from sgllie.errors import ItemError


class MemoryBudget:
    """Admits work while all that is admitted needs no more than so many bytes; first come, first served.

    Nobody holds one part of a budget while waiting for another, so nobody waits for ever; and since nobody overtakes,
    what needs much gets its turn as well.

    Args:
        total: bytes.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self._free = total
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, threading.Event]] = deque()

    def check(self, needed: int, noun: str = "image") -> None:
        """Raise ItemError for an item that needs more bytes than there are."""
        if needed > self.total:
            raise ItemError(
                "memory",
                f"the {noun} needs {gigabytes(needed)} of memory, and its worker may use {gigabytes(self.total)} for "
                "what it has in hand; give each worker more memory, and say how much with --worker-memory",
            )

    @contextmanager
    def held(self, needed: int) -> Iterator[None]:
        """Hold so many bytes while the block runs, and wait for them if need be; ItemError where there are too few."""
        self.check(needed)
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


def gigabytes(size: int) -> str:
    """Return a number of bytes in words: `1.5 GB`, and never less than it is."""
    return f"{-(-size // 10**8) / 10:,.1f} GB"
