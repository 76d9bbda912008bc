"""One worker of a run, whatever process it lives in: holds a pipeline, runs shards, and tells how far they are."""

import os
import time
from collections.abc import Callable
from typing import Any

from sgllie.errors import DeviceError, StorageError, StuckError
from sgllie.runs.allocator import keep_freed_memory
from sgllie.runs.run import Run

REPORT_SECONDS = 0.5


class ShardWorker:
    """Runs the shards that it is given.

    Args:
        run: makes the pipeline.
        tell: called twice a second at most with shard, items done, items failed, and the group that they count for.
    """

    def __init__(self, run: Run[Any], tell: Callable[[int, int, int, str], object]) -> None:
        import cv2

        keep_freed_memory()
        cv2.setNumThreads(1)  # the pipeline's own threads are the parallel ones
        self.tell = tell
        self.pending: tuple[int, int, int, str] | None = None
        self.told = 0.0
        self.pipeline = run.make_pipeline(self.report)

    def run(self, shard: int) -> str:
        """Run a shard; return why the job must stop, or nothing."""
        try:
            self.pipeline.run(shard)
        except StorageError as error:
            return str(error)
        except StuckError:
            os._exit(1)  # nothing else stops its thread; the shard is begun again, and knows what was done
        except DeviceError:
            self.device_failed()
            os._exit(1)  # no call to the GPU works any more in this process
        finally:
            self.send()
        return ""

    def device_failed(self) -> None:
        """Note that the GPU does not work, before this process ends."""

    def report(self, shard: int, done: int, failed: int, group: str = "") -> None:
        """Take down the state of a shard, and send it on now and then."""
        self.pending = (shard, done, failed, group)
        if time.monotonic() - self.told > REPORT_SECONDS:
            self.send()

    def send(self) -> None:
        """Send the last state on."""
        if self.pending is not None:
            self.tell(*self.pending)
        self.pending = None
        self.told = time.monotonic()
