"""One worker of a run, whatever process it lives in: holds a pipeline, runs shards, and tells how far they are."""

import contextlib
import dataclasses
import os
import platform
import threading
import time
from collections.abc import Callable
from typing import Any

from sgllie.errors import DeviceError, LeavingError, StorageError, StuckError
from sgllie.runs.allocator import keep_freed_memory
from sgllie.runs.gpu import opened, slow_curve_told
from sgllie.runs.run import Pipeline, Run
from sgllie.runs.totals import Totals
from sgllie.storage import hurry, slow_downs

Result = tuple[Totals | None, str]
"""What the rows of a shard come to, None where the worker has left it to others; and why the job must stop, if it must.
"""

REPORT_SECONDS = 0.5
BEAT_SECONDS = 1.0
"""Between two signs of life, where nothing else is told."""
CHECK_SECONDS = 5.0
"""Between two looks at whether another command has begun a new run in the output."""


class ShardWorker:
    """Runs the shards that it is given.

    Args:
        run: makes the pipeline.
        tell: called a few times a second at most with the number of a shard and the fields of its `State`.
    """

    def __init__(self, run: Run[Any], tell: Callable[..., object]) -> None:
        import cv2

        keep_freed_memory()
        cv2.setNumThreads(1)  # the pipeline's own threads are the parallel ones
        self.tell = tell
        self.state: tuple[int, int, int, str] | None = None
        self.lock = threading.Lock()
        self.told = self.checked = 0.0
        self.check_replaced = run.check_replaced
        self.is_leaving = False

        def make_pipeline(settings: Any) -> Pipeline:
            return dataclasses.replace(run, settings=settings).make_pipeline(self.report)

        with slow_curve_told(self.curve_is_slow):
            self.pipeline = opened(make_pipeline, run.settings, self.gpu_not_opened)
        threading.Thread(target=self.live, daemon=True).start()

    def leave(self, *_: object) -> None:
        """Leave the shard in hand, and every other, to others. A handler of signals; this process must end soon."""
        self.is_leaving = True
        self.pipeline.leave()
        hurry()  # what is left to save has seconds, however long a slow bucket would have it wait

    def run(self, shard: int) -> Result:
        """Run a shard, unless this worker is leaving; whatever is no fault of an item is a reason to stop the job."""
        if self.is_leaving:
            return None, ""
        try:
            self.check()
            return self.pipeline.run(shard), ""
        except LeavingError:
            return None, ""
        except StorageError as error:
            return {}, str(error)
        except StuckError:
            os._exit(1)  # nothing else stops its thread; the shard is begun again, and knows what was done
        except DeviceError as error:
            self.device_failed(str(error))
            os._exit(1)  # no call to the GPU works any more in this process
        except Exception as error:  # this machine can begin no more threads, say; a death would blame the images
            return {}, f"{type(error).__name__}: {error}"
        finally:
            self.send(is_over=True)

    def live(self) -> None:
        """Give signs of life until the process ends."""
        while True:
            time.sleep(BEAT_SECONDS)
            with contextlib.suppress(Exception):  # whoever is told may be busy, or has gone: the next sign will tell
                self.beat()

    def beat(self) -> None:
        """Give a sign of life."""
        self.send()

    def check(self) -> None:
        """Raise ReplacedError, now and then, where the run has been replaced."""
        if time.monotonic() - self.checked > CHECK_SECONDS:
            self.check_replaced()
            self.checked = time.monotonic()

    def device_failed(self, why: str) -> None:
        """Note that the GPU does not work, before this process ends."""

    def gpu_not_opened(self, why: str) -> None:
        """Note that the GPU cannot be opened, before the CPU takes over."""

    def curve_is_slow(self, why: str) -> None:
        """Note that the GPU takes the slow curve."""

    def report(self, shard: int, done: int, failed: int, group: str = "") -> None:
        """Take down the state of a shard, and send it on now and then."""
        self.state = (shard, done, failed, group)
        self.check()
        if time.monotonic() - self.told > REPORT_SECONDS:
            self.send()

    def send(self, is_over: bool = False) -> None:
        """Send the last state of the shard in hand on; it is in hand no more if it is over."""
        with self.lock:
            if self.state is not None:
                worker = "" if is_over else f"process {os.getpid()} on {platform.node()}"
                self.tell(*self.state, self.pipeline.slow(), worker, slow_downs() > 0, os.getpid())
            if is_over:
                self.state = None
            self.told = time.monotonic()
