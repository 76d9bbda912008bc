"""Joining a Ray cluster, or starting one on this machine."""

import logging
import os
import secrets
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from subprocess import DEVNULL, PIPE
from tempfile import TemporaryDirectory
from typing import Any, Self

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sgllie.distributed.ray_internals import few_services, on_loopback
from sgllie.errors import SgllieError, UsageError
from sgllie.runs import machine
from sgllie.runs.watch import stop_on_sigterm

OBJECT_STORE_BYTES = 256 * 2**20
"""For enhancement on a local cluster: no pixels in the object store, only a few bytes for each shard."""

STARTS = 3
REMOVING = 'read -r _; while [ -e "$0" ]; do rm -rf "$0"; sleep 1; done'
"""A shell with this command removes a folder once its standard input ends, however whoever holds the other end does."""


SESSIONS = "/tmp"
"""Where the folder of a local cluster is made: only its user may enter it, and it goes with the cluster, while Ray's
own is open to all and stays. Not TMPDIR, which may be long: the path of a socket has 107 bytes at most."""


class Connection:
    """A connection to the cluster at `address`, to that of the submitted job, or to one started here for this job.

    A cluster that happens to run on this machine is joined only when asked for (`--address auto`); one that the calling
    program is connected to already is used, and left as it is. It is made in the background, so that the program can
    read and list meanwhile.

        with Connection(address) as connection:
            connection.begin()
            ...
            connection.wait()

    Args:
        address: of the cluster; None for that of the submitted job, or a local one.
        object_store_bytes: for one that is started here; None leaves it to Ray, which takes a third of the memory.
    """

    def __init__(self, address: str | None, object_store_bytes: int | None = OBJECT_STORE_BYTES) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS") or "local"
        self.object_store_bytes = object_store_bytes
        self.ours = not ray.is_initialized()
        self.error: Exception | None = None
        self.thread: threading.Thread | None = None
        self.folder: TemporaryDirectory[str] | None = None
        self.remover: subprocess.Popen[bytes] | None = None
        self.made, self.left = threading.Event(), threading.Event()

    @property
    def is_local(self) -> bool:
        """Whether the cluster is one that is started here, to which no machine can be added."""
        return self.ours and self.address == "local"

    @property
    def is_made(self) -> bool:
        """Whether it need not be waited for."""
        return not self.ours or self.made.is_set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        self.left.set()
        if self.thread:
            self.thread.join()

    def begin(self) -> None:
        """Connect in the background."""
        if self.ours and not self.thread:
            self.thread = threading.Thread(target=self._live)
            self.thread.start()

    def wait(self) -> None:
        """Return when connected; UsageError where there is no such cluster."""
        self.begin()
        if self.thread:
            self.made.wait()
            stop_on_sigterm()
        if self.error:
            failure = "cannot be reached" if self.address != "local" else "cannot be started"
            raise UsageError(f"the Ray cluster ({self.address}) {failure}: {self.error}") from self.error

    def _live(self) -> None:
        """Connect, and stay: the processes of a local cluster die with the thread that started them."""
        try:
            self._connect()
        except Exception as error:  # Ray raises a bare one for a start that takes too long
            self.error = error
        self.made.set()
        self.left.wait()
        ray.shutdown()
        if self.folder:
            self.folder.cleanup()
        if self.remover:
            self.remover.communicate()

    def _connect(self) -> None:
        if self.address == "local":
            self.folder = TemporaryDirectory(prefix="ray-", dir=SESSIONS, ignore_cleanup_errors=True)
            # Where this process is killed the shell is left, in a session of its own, to which no Ctrl-C comes.
            line = ["sh", "-c", REMOVING, self.folder.name]
            self.remover = subprocess.Popen(line, stdin=PIPE, stdout=DEVNULL, stderr=DEVNULL, start_new_session=True)
            inner = os.path.join(self.folder.name, "r")  # which Ray opens to all, as it does with any
            # Ray would count processors that this process may not use, or none of a container that has a part of one.
            processors = machine.whole_processors()
            start_local(num_cpus=processors, object_store_memory=self.object_store_bytes, _temp_dir=inner)
        else:
            with quiet_core():
                ray.init(self.address, logging_level=logging.ERROR, log_to_driver=False)


def start_local(**options: Any) -> None:
    """Start a cluster on this machine, with these options of `ray.init`, and connect to it.

    Ray waits half a minute for its own processes, which is too little on a machine that is busy; so it is tried again.
    The token that its ports ask for is told to its processes alone: Ray would write one that all users can read.
    """
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    for attempt in range(1, STARTS + 1):
        try:
            with quiet_core(), few_services(), on_loopback():
                ray.init("local", include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False, **options)
            return
        except Exception:
            ray.shutdown()
            if attempt == STARTS:
                raise


@contextmanager
def quiet_core() -> Iterator[None]:
    """Keep Ray's C++ core from the terminal while it starts: told to report only fatal errors, it reports that."""
    terminal = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(nowhere)
        os.close(terminal)


def beside_driver(actor: Any) -> Any:
    """Start an actor class without arguments on the driver's node: what the driver asks must not die before it.

    Without a node an actor that needs no CPU may land on any, a spot machine too.
    """
    node = ray.get_runtime_context().get_node_id()
    return actor.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote()


def leave_threads_behind() -> None:
    """Keep the threads of a job that was stopped quiet when the cluster ends under them.

    They would report it as a fault of Ray Data's. (Nor do they start another cluster: see `ray_internals.ENVIRONMENT`.)
    """
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)


def get(reference: Any) -> Any:
    """Return what one or several tasks gave; an error of ours is raised without Ray's account of it."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, SgllieError):
            raise error.cause from None
        raise


def gpus_now() -> int:
    """Return how many GPUs the cluster has now."""
    return int(ray.cluster_resources().get("GPU", 0))


def last_line(error: Exception) -> str:
    """Return the last cause of a Ray error in one line, without the full stop."""
    text = str(error).strip().splitlines()
    return text[-1].rstrip(".") if text else type(error).__name__
