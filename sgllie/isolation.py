"""A function in a process of its own, for shards in which one call may kill the process that makes it."""

import multiprocessing
import os
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Self

_function: Callable[..., Any]


class CrashError(Exception):
    """A call has killed its process."""


class Isolated:
    """Calls what `make(*arguments)` gives, in a process that is made anew when a call has killed it.

    Calls go one at a time, so that it is certain which one did it; that one raises CrashError.
    """

    def __init__(self, make: Callable[..., Callable[..., Any]], *arguments: Any) -> None:
        self._made = make, arguments
        self._turn = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, *arguments: Any) -> Any:
        """One call in the other process."""
        with self._turn:
            if self._pool is None:
                # Begun afresh: a fork of a process with threads can hang.
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(1, context, initializer=prepare, initargs=self._made)
            try:
                return self._pool.submit(call, *arguments).result()
            except BrokenProcessPool as error:
                self._end()
                raise CrashError from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def _end(self) -> None:
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def prepare(make: Callable[..., Callable[..., Any]], arguments: tuple[Any, ...]) -> None:
    """Make the function in the new process, which ends when its parent does, however that ends."""
    global _function
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _function = make(*arguments)


def call(*arguments: Any) -> Any:
    """Call the function of this process."""
    return _function(*arguments)
