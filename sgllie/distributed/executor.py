"""The executor of large jobs. Ray is imported when a cluster is needed, and not before: many jobs do without."""

import logging
import threading
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sgllie.errors import UsageError
from sgllie.methods import MethodSettings, cpu_instead
from sgllie.runs.job import InProcess, names_cluster
from sgllie.runs.local import LocalPool, end_stopped
from sgllie.runs.progress import Counts, Rate, counts_of, total
from sgllie.runs.run import Run
from sgllie.runs.totals import Totals
from sgllie.runs.watch import stop_on_sigterm, watch
from sgllie.runs.words import say

if TYPE_CHECKING:
    from sgllie.distributed.cluster import Connection
    from sgllie.distributed.pool import Shards

Argument = TypeVar("Argument")

HEAD_START_SECONDS, PAYS_SECONDS = 5.0, 60.0
"""For how long child processes get things done before it is reckoned what is left; and if that takes them longer than
the latter, a local cluster is started, which takes a dozen seconds of a processor."""


NICENESS = 15
"""Of the child processes, as of Ray's workers: a cluster could not start beside them otherwise."""


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

    @property
    def has_begun(self) -> bool:
        """Whether there is a connection, or one is being made."""
        return self._connection is not None

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
        with Work(self, run, results) as work:
            try:
                work.begin()
                reason = watch(run, work.look, work.is_running)
            except Exception as error:
                from ray.exceptions import RayError

                from sgllie.distributed.cluster import last_line

                if not isinstance(error, RayError):  # the actor that counts lives as long as the driver's node
                    raise
                reason = f"the cluster gave up: {last_line(error)}"
        if reason and work.shards:
            from sgllie.distributed.cluster import leave_threads_behind

            leave_threads_behind()
        return reason or work.error

    def run_tasks(self, task: Callable[[Argument], None], arguments: Sequence[Argument]) -> None:
        """Call a function with each of some arguments: several as tasks of the cluster, if the job has used one."""
        connection = self._connection
        if len(arguments) <= 1 or connection is None or not connection.is_made or connection.error:
            InProcess().run_tasks(task, arguments)
            return
        from sgllie.distributed.pool import run_tasks

        run_tasks(task, arguments)


class Work:
    """The shards of a run: in child processes until a local cluster pays and has started, then over the cluster.

    It alone moves shards between the two. Once the cluster is there, the children get no more of them; once a worker of
    the cluster has begun, they leave what they have in hand, which goes to the first worker that is free. Where the
    cluster would have fewer workers than there are children, or cannot be started, these do it all.

    Args:
        executor: connects to the cluster, unless it has.
        run: whose shards they are.
        results: gets the totals of each shard that is done.
    """

    def __init__(self, executor: RayExecutor, run: Run[Any], results: dict[int, Totals]) -> None:
        self.executor, self.run, self.results = executor, run, results
        self.children = LocalPool(run, results, NICENESS)
        self.rate = Rate()
        self.shards: Shards | None = None
        # Ray takes a second or two to import. Not in the main thread: CPython can lose an interrupt that comes within
        # an import, and never give the lock of all imports back (both happen in the callback of a weak reference), for
        # which the thread of the cluster would wait.
        self.loading = threading.Thread(target=self._load)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.children.end()
        if self.loading.ident is not None:
            self.loading.join()  # what it begins must be known to whoever ends it

    def begin(self) -> None:
        """Begin with the shards in child processes where that makes sense, else when the cluster is there."""
        if self.run.starts_early and not names_cluster(self.run.settings):
            self.children.begin()
            if self.executor.has_begun:  # beside a long listing
                self._connect()
        else:
            if not self.executor.has_begun:  # since the run looked finished, and is not
                self.executor.begin()
            self._connect()
            self._begin_on_cluster()

    def _connect(self) -> None:
        """Connect to the cluster, or start it, in the background."""
        if self.children.at_work:
            say(f"Starting Ray; the first {self.run.noun} are done meanwhile ...")
        elif not self.executor.connection.is_made:
            say("Starting Ray ..." if self.executor.connection.is_local else "Connecting to Ray ...")
        self.loading.start()

    def _load(self) -> None:
        """Connect, and import what takes long; where there will be no cluster, whoever is at work goes on without."""
        self.executor.connection.begin()
        import_module("ray.data")
        try:
            self.executor.connection.wait()
        except UsageError as error:
            if self.children.at_work:
                say(f"Child processes do it all: {error}")

    def _pays(self) -> bool:
        """Tell whether what is left takes child processes so long that a cluster is worth its start."""
        done, _ = total(counts_of(self.children.reports.states.values()))
        is_long = self.run.remaining - done > PAYS_SECONDS * self.rate.after(done)
        return self.rate.seconds > HEAD_START_SECONDS and is_long and self._has_enough

    @property
    def _has_enough(self) -> bool:
        """Whether a cluster would have as many workers as there are children: each begins with a shard that waits."""
        return len(self.children.waiting) >= len(self.children.at_work)

    def _takes_over(self) -> bool:
        """Tell whether the cluster is there and is to go on with the shards."""
        if self.loading.is_alive():
            return False
        stop_on_sigterm()  # whether it takes over or not, Ray has changed that when it connected
        return self.executor.connection.error is None and self._has_enough

    @property
    def error(self) -> str | None:
        """Why the job must stop, if it must."""
        return self.children.error or (self.shards.error if self.shards else None)

    def look(self) -> tuple[Counts, list[str]]:
        """Tell how far the workers are, and what is stuck; whoever was stopped on this machine is ended."""
        if self.shards is None:
            return self.children.look()
        counts, stuck = self.shards.look(self.children.reports.states)
        if self.executor.connection.is_local:
            end_stopped(counts.silent)
        return counts, stuck

    def is_running(self) -> bool:
        """Wait a moment; tell whether there are shards to be waited for."""
        if self.shards is None:
            if self.loading.ident is None:
                if self._pays():
                    self._connect()
            elif self._takes_over():
                self._begin_on_cluster()
                return True
            return self.children.is_running()
        if self.children.at_work:
            self._hand_over(self.shards)
        return self.shards.is_running() and self.children.error is None

    def _begin_on_cluster(self) -> None:
        """Give what no child process has in hand to the cluster; UsageError where there is none."""
        self.loading.join()
        self.executor.connection.wait()
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        from sgllie.distributed.pool import Shards

        self.children.waiting.clear()
        self.shards = Shards(self.run, self.results, self.children.at_work.values())
        self.shards.start()

    def _hand_over(self, shards: "Shards") -> None:
        """Have the child processes end once a worker of the cluster has begun, and give it what they leave."""
        children = self.children
        if not children.is_leaving and shards.have_begun():
            children.leave()
        children.is_running(0)
        while children.left:
            shards.take(children.left.pop())


def check_gpu(connection: "Connection") -> None:
    """Raise UsageError where no GPU can be had, and say so where one may join; nothing has been written yet."""
    from sgllie.distributed.cluster import gpus_now

    connection.wait()
    if gpus_now():
        return
    if connection.is_local:
        raise UsageError("--device cuda: this machine has no GPU that Ray can use; take --device cpu, without --half")
    say("--device cuda: the cluster has no GPU now, and the job waits until one joins.")
