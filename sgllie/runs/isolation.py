"""A function in processes of its own, for shards in which one call may kill the process that makes it."""

import contextlib
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_tracker
from queue import Empty, SimpleQueue
from typing import Any, Self

from sgllie.errors import CrashError, ItemError, LeavingError, StorageError

BEGINNINGS = 3
"""How often a process is begun that dies of it, before this machine is taken to be unable."""

_function: Callable[..., Any]


class Isolated:
    """Calls what `make(*arguments)` returns, in processes that are made anew when a call has killed one.

    Each process does one call at a time, so that it is certain which one killed it; that one raises CrashError. What a
    call raises is raised here too; one that takes too long is killed, and raises ItemError. Where `make` raises, no
    call is to blame, and StorageError is raised. Where the block ends by an exception, nobody waits for the calls that
    are still under way: they raise LeavingError.

    Args:
        processes: how many calls are made at the same time.
        deadline: seconds that a call may take; infinity for any time.
        make: called once in each process.
        arguments: of `make`.
    """

    def __init__(
        self, processes: int, deadline: float, make: Callable[..., Callable[..., Any]], *arguments: Any
    ) -> None:
        self._made = make, arguments
        self._deadline = deadline
        self._idle: SimpleQueue[ProcessPoolExecutor | None] = SimpleQueue()
        self._numbers: dict[ProcessPoolExecutor, int] = {}
        self._is_over = False
        self._processes = processes
        for _ in range(processes):
            self._idle.put(None)

    def __call__(self, *arguments: Any) -> Any:
        """Make one call in a process that has nothing to do."""
        process = self._idle.get()
        try:
            if self._is_over:
                raise LeavingError
            process = process or self._begin()  # which is no time of the call
            try:
                limit = self._deadline if math.isfinite(self._deadline) else None
                return process.submit(call, *arguments).result(limit)
            except TimeoutError as error:
                os.kill(self._numbers[process], signal.SIGKILL)
                self._end(process)
                process = None
                raise ItemError("timeout", f"working on it took longer than {self._deadline:g} s") from error
        except BrokenProcessPool as error:
            self._end(process)
            process = None
            raise (LeavingError if self._is_over else CrashError) from error
        finally:
            self._idle.put(process)

    def _begin(self, beginnings: int = BEGINNINGS) -> ProcessPoolExecutor:
        """Begin a process, and note its number; StorageError where this machine cannot, for which no call is to blame.

        It may have no room for one more process, or for the threads of this one, which dies of that again and again.
        """
        context = multiprocessing.get_context("spawn")  # afresh: a fork of a process with threads can hang
        process = ProcessPoolExecutor(1, context, initializer=prepare, initargs=self._made)
        try:
            with blocked(signal.SIGTERM):  # a death by it would look like a crash
                self._numbers[process] = process.submit(os.getpid).result()
        except (OSError, RuntimeError) as error:
            process.shutdown(wait=False)
            if isinstance(error, BrokenProcessPool) and beginnings > 1 and not self._is_over:
                return self._begin(beginnings - 1)
            raise LeavingError if self._is_over else StorageError(f"this machine cannot go on: {error}") from error
        return process

    def end_idle(self) -> None:
        """End the processes that have nothing to do; others take their places when they are needed."""
        for _ in range(self._processes):
            with contextlib.suppress(Empty):
                self._end(self._idle.get_nowait())
                self._idle.put(None)

    def _end(self, process: ProcessPoolExecutor | None) -> None:
        """Have a process end, if there is one, and wait for it."""
        if process is not None:
            self._numbers.pop(process, None)
            process.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *rest: object) -> None:
        if error_type is not None:  # nobody waits for what is still under way
            self._is_over = True
            for number in list(self._numbers.values()):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            return
        for _ in range(self._processes):
            self._end(self._idle.get())


@contextlib.contextmanager
def blocked(number: signal.Signals) -> Iterator[None]:
    """Let a process that is begun within the block never see a signal, from its first moment on.

    Sent to all processes of a group, it is for the parent to answer.
    """
    resource_tracker.ensure_running()  # which the first process would begin, and that unblocks the signal
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def prepare(make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    """Make the function in the new process; where that fails, one that says so."""
    global _function
    end_with_parent()
    try:
        _function = make(*arguments)
    except Exception as error:  # of an initializer it would look like a death
        sentence = f"a process that is to work on single items cannot begin: {error or type(error).__name__}"

        def _function(*_: Any) -> None:
            raise StorageError(sentence)


def end_with_parent() -> None:
    """Have this process end when its parent does, however that ends."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def call(*arguments: Any) -> Any:
    """Call the function of this process."""
    return _function(*arguments)
