"""All that is used of Ray without being promised by it; `pyproject.toml` bounds Ray above because of it.

`INTERNALS` names each, with what it is for, and what would replace it. `tests/distributed/test_ray_internals.py` tells
which of them a new version of Ray has moved.
"""

import os
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

PACE_SECONDS = 0.02
"""Between two steps of Ray Data's scheduler, each of which takes a millisecond or two."""


class Internal(NamedTuple):
    """A private part of Ray: where it is, why it is used, and what public thing would make it unnecessary."""

    name: str
    purpose: str
    replacement: str


FEWER = "options of `ray.init` that leave these services out; `ray start` has one for the reader of logs only"

INTERNALS = (
    Internal("ray._private.node.Node.start_monitor", "a local cluster without an autoscaler", FEWER),
    Internal("ray._private.node.Node.start_log_monitor", "a local cluster without a reader of logs", FEWER),
    Internal("ray._private.node.Node.start_api_server", "a local cluster without the dashboard's server", FEWER),
    Internal(
        "ray._private.ray_constants.ENABLE_RAY_CLUSTER",
        "a local cluster that listens on 127.0.0.1 only",
        "an option of `ray.init` for the address that its processes listen on",
    ),
    Internal(
        "ray.data._internal.execution.execution_callback.ExecutionCallback.on_execution_step",
        "pauses between two steps of Ray Data's scheduler",
        "a setting of DataContext for how often the scheduler runs",
    ),
    Internal(
        "ray.data.DataContext.custom_execution_callback_classes",
        "registering that pause",
        "the same, or RAY_DATA_EXECUTION_CALLBACKS once it takes classes that are no subclass of a private one",
    ),
    Internal(
        "ray.data.DataContext.execution_no_progress_timeout_s",
        "shards that may take as long as they need",
        "the same as a documented setting",
    ),
    Internal(
        "ray._private.state.state.get_draining_nodes",
        "workers that save what they have done before their node ends, and a training that leaves such nodes out",
        "a signal or a callback in the actors of a node that is drained, and a mark in what `ray.nodes` tells of it",
    ),
    Internal(
        "ray._private.state.available_resources_per_node",
        "a training that grows only where others leave room",
        "the same as a public function; `ray.available_resources` adds up all nodes",
    ),
    Internal(
        "ray.train.v2._internal.exceptions.WorkerGroupStartupTimeoutError",
        "telling that a training waits for room from that it fails",
        "the same as a public exception",
    ),
    Internal(
        "ray.train.v2._internal.execution.failure_handling.default._is_preemption_failure",
        "telling that machines of a training were taken back from that it fails",
        "a public exception for those that Ray Train was not told of before, too",
    ),
    Internal(
        "ray.data.DataContext.print_on_execution_start",
        "a terminal that shows the job's own lines only",
        "the same as a documented setting",
    ),
)

ENVIRONMENT = {
    # Ray would start a cluster for whoever calls it without one, such as a thread that a stopped job has left behind.
    "RAY_ENABLE_AUTO_CONNECT": "0",
    # Ray's C++ core reports a property of Ray Data's own actors as an error on the terminal of every job.
    "RAY_BACKEND_LOG_LEVEL": "fatal",
}
"""Variables that Ray reads when it is imported or started, and has no setting for; those that are set already stay."""


def set_environment() -> None:
    """Set ENVIRONMENT. Called before anything imports Ray (see `sgllie.distributed`)."""
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)


UNUSED_SERVICES = ("start_monitor", "start_log_monitor", "start_api_server")
"""Processes that Ray starts for every local cluster, and that one of a single job has no use for: the autoscaler, the
reader of logs (no output of workers is shown), and the dashboard's server, which is there without the dashboard too.
Each imports Ray anew while the job's own workers want the processors; without them a cluster is there in half the time,
and gone at once."""


@contextmanager
def few_services() -> Iterator[None]:
    """Start a local cluster within the block without UNUSED_SERVICES."""
    from ray._private.node import Node

    started = {name: getattr(Node, name) for name in UNUSED_SERVICES if hasattr(Node, name)}
    for name in started:
        setattr(Node, name, lambda self, **_: None)
    try:
        yield
    finally:
        for name, method in started.items():
            setattr(Node, name, method)


def draining_nodes() -> Collection[str]:
    """Return the nodes that are about to end: a spot machine is taken back, a pod is deleted."""
    from ray._private.state import state

    return state.get_draining_nodes()


def node_is_draining() -> bool:
    """Tell whether the node of this worker is about to end."""
    import ray

    return ray.get_runtime_context().get_node_id() in draining_nodes()


def free_resources() -> dict[str, Mapping[str, float]]:
    """Return what nobody uses of each node that is not about to end."""
    from ray._private.state import available_resources_per_node

    draining = draining_nodes()
    return {node: free for node, free in available_resources_per_node().items() if node not in draining}


def found_no_room(error: Any) -> bool:
    """Tell whether Ray Train gave up since it found no room for its processes for a minute."""
    from ray.train import ControllerError
    from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError

    return isinstance(error, ControllerError) and isinstance(error.controller_failure, WorkerGroupStartupTimeoutError)


def was_preempted(error: Any) -> bool:
    """Tell whether a training ended since machines were taken back, whether that was told before or not."""
    from ray.train.v2._internal.execution.failure_handling.default import _is_preemption_failure

    return _is_preemption_failure(error)


def pace_scheduler(context: Any) -> None:
    """Let a training have the processor between two steps of Ray Data's scheduler, which runs in the same process.

    While images are ready that the training does not need yet, the scheduler finds its tasks ready at once, again and
    again, and by itself would keep a processor and the interpreter's lock busy with that.

    Args:
        context: the `DataContext` of the datasets that are made from now on.
    """
    from ray.data._internal.execution.execution_callback import ExecutionCallback

    class Paced(ExecutionCallback):
        def on_execution_step(self, executor: Any) -> None:
            time.sleep(PACE_SECONDS)

    context.custom_execution_callback_classes = [Paced]


@contextmanager
def on_loopback() -> Iterator[None]:
    """Start a local cluster that nobody reaches from outside: its processes listen on 127.0.0.1.

    That is what Ray does where it supports clusters of one machine only (macOS, Windows).
    """
    from ray._private import ray_constants

    supported = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = supported
