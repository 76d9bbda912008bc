"""The executor of large jobs. Ray is imported when it begins, and not before: small jobs do without."""

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sgllie.errors import UsageError
from sgllie.methods import MethodSettings, cpu_instead
from sgllie.runs.job import InProcess
from sgllie.runs.run import Run
from sgllie.runs.totals import Totals
from sgllie.runs.watch import watch
from sgllie.runs.words import say

if TYPE_CHECKING:
    from sgllie.distributed.cluster import Connection

POLL_SECONDS = 0.5

Argument = TypeVar("Argument")


class RayExecutor:
    """Runs shards over the cluster at `--address`, over that of the submitted job, or over one started here."""

    def __init__(self, settings: Any) -> None:
        self.settings = settings
        self._connection: Connection | None = None
        self._lock = threading.Lock()

    @property
    def connection(self) -> "Connection":
        """The connection to the cluster, which may not be made yet."""
        from sgllie.distributed.cluster import Connection

        with self._lock:
            if self._connection is None:
                self._connection = Connection(self.settings.address)
            return self._connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._connection is not None:
            self._connection.close()

    def begin(self) -> None:
        """Connect in the background; UsageError where a GPU is wanted and can never be had."""
        self.connection.begin()
        if getattr(self.settings, "device", "cpu") == "cuda":
            check_gpu(self.connection)
            note = isinstance(self.settings, MethodSettings) and cpu_instead(self.settings)
            if note:
                say(note)

    def run_shards(self, run: Run[Any], results: dict[int, Totals]) -> str | None:
        """Run the shards that are left, note their totals; return the reason if the run was stopped before its end."""
        if not self.connection.is_made:
            say("Starting Ray ..." if self.connection.is_local else "Connecting to Ray ...")
        with ray_data_loading():
            self.connection.wait()
        from ray.exceptions import RayError

        from sgllie.distributed.cluster import last_line, leave_threads_behind
        from sgllie.distributed.pool import Shards

        shards = Shards(run, results)
        shards.start()

        def is_running() -> bool:
            shards.join(POLL_SECONDS)
            return shards.is_alive()

        try:
            reason = watch(run, shards.look, is_running)
        except RayError as error:  # the actor that counts lives as long as the driver's node
            reason = f"the cluster gave up: {last_line(error)}"
        if reason:
            leave_threads_behind()
        return reason or shards.error

    def run_tasks(self, task: Callable[[Argument], None], arguments: Sequence[Argument]) -> None:
        """Call a function with each of some arguments: several as tasks of the cluster, if the job has used one."""
        connection = self._connection
        if len(arguments) <= 1 or connection is None or not connection.is_made or connection.error:
            InProcess().run_tasks(task, arguments)
            return
        from sgllie.distributed.pool import run_tasks

        run_tasks(task, arguments)


@contextmanager
def ray_data_loading() -> Iterator[None]:
    """Import Ray Data, which takes a second or two, while the block runs.

    Not in the main thread: CPython can lose an interrupt that comes within an import, and never give the lock of all
    imports back (both happen in the callback of a weak reference), for which the thread of the cluster would wait.
    """
    loading = threading.Thread(target=import_module, args=("ray.data",))
    loading.start()
    yield
    loading.join()
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def check_gpu(connection: "Connection") -> None:
    """Raise UsageError where no GPU can be had, and say so where one may join; nothing has been written yet."""
    from sgllie.distributed.cluster import total_resource

    connection.wait()
    if total_resource("GPU"):
        return
    if connection.is_local:
        raise UsageError("--device cuda: this machine has no GPU that Ray can use; take --device cpu, without --half")
    say("--device cuda: the cluster has no GPU now, and the job waits until one joins.")
