"""A treatment in a process of its own, for shards in which an image may kill the process that decodes it."""

import multiprocessing
import os
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from sgllie.methods import make_method
from sgllie.settings import EnhanceSettings
from sgllie.treatment import Treated, Treatment, failed

_treatment: Treatment


class IsolatedTreatment:
    """The same call as a `Treatment`; an image that kills the process becomes a failed row of type `crash`.

    Images go one at a time, so that it is certain which one did it.
    """

    def __init__(self, settings: EnhanceSettings) -> None:
        self._settings = settings
        self._turn = threading.Lock()
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, path: str, data: bytes) -> Treated:
        """Treat one image, given its path below IN and its bytes."""
        with self._turn:
            if self._pool is None:
                self._pool = start(self._settings)
            try:
                return self._pool.submit(treat, path, data).result()
            except BrokenProcessPool:
                self._pool.shutdown()
                self._pool = None
        return failed(path, {"bytes_in": len(data)}, "crash", "decoding or enhancing this image killed its process")

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown()
            self._pool = None


def start(settings: EnhanceSettings) -> ProcessPoolExecutor:
    """A pool of one process, begun afresh: a fork of a process with threads can hang."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(1, context, initializer=prepare, initargs=(settings,))


def prepare(settings: EnhanceSettings) -> None:
    """Load the model in the new process, which ends when its parent does, however that ends."""
    global _treatment
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
    _treatment = Treatment(settings, make_method(settings))


def treat(path: str, data: bytes) -> Treated:
    """Treat one image in this process."""
    return _treatment(path, data)
