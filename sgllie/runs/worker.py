"""One worker of a run, whatever process it lives in: holds a pipeline, runs shards, and tells how far they are."""

import os
import time
from collections.abc import Callable
from typing import Any

from sgllie.errors import DeviceError, StorageError, StuckError
from sgllie.runs.allocator import keep_freed_memory
from sgllie.runs.run import Run
from sgllie.runs.totals import Totals
from sgllie.storage import slow_downs

REPORT_SECONDS = 0.5
CHECK_SECONDS = 5.0
"""Between two looks at whether another command has begun a new run in the output."""


class ShardWorker:
    """Runs the shards that it is given.

    Args:
        run: makes the pipeline.
        tell: called twice a second at most with shard, items done, items failed, the group that they count for, and
            whether a storage has asked to slow down.
    """

    def __init__(self, run: Run[Any], tell: Callable[[int, int, int, str, bool], object]) -> None:
        import cv2

        keep_freed_memory()
        cv2.setNumThreads(1)  # the pipeline's own threads are the parallel ones
        self.tell = tell
        self.pending: tuple[int, int, int, str] | None = None
        self.told = self.checked = 0.0
        self.check_replaced = run.check_replaced
        self.pipeline = run.make_pipeline(self.report)

    def run(self, shard: int) -> tuple[Totals, str]:
        """Run a shard; return what its rows come to, and why the job must stop, if it must."""
        try:
            self.check()
            return self.pipeline.run(shard), ""
        except StorageError as error:
            return {}, str(error)
        except StuckError:
            os._exit(1)  # nothing else stops its thread; the shard is begun again, and knows what was done
        except DeviceError:
            self.device_failed()
            os._exit(1)  # no call to the GPU works any more in this process
        finally:
            self.send()

    def check(self) -> None:
        """Raise StorageError, now and then, where the run has been replaced."""
        if time.monotonic() - self.checked > CHECK_SECONDS:
            self.check_replaced()
            self.checked = time.monotonic()

    def device_failed(self) -> None:
        """Note that the GPU does not work, before this process ends."""

    def report(self, shard: int, done: int, failed: int, group: str = "") -> None:
        """Take down the state of a shard, and send it on now and then."""
        self.pending = (shard, done, failed, group)
        self.check()
        if time.monotonic() - self.told > REPORT_SECONDS:
            self.send()

    def send(self) -> None:
        """Send the last state on."""
        if self.pending is not None:
            self.tell(*self.pending, slow_downs() > 0)
        self.pending = None
        self.told = time.monotonic()
