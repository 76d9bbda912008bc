"""Joining a Ray cluster, or starting one on this machine."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sgllie.storage import UsageError

OBJECT_STORE_BYTES = 256 * 2**20
"""For enhancement on a local cluster: no pixels in the object store, only a few bytes for each shard."""


@contextmanager
def cluster(address: str | None, object_store_bytes: int | None = OBJECT_STORE_BYTES) -> Iterator[None]:
    """A connection to the cluster at `address`, to that of the submitted job, or to one started here for this job.

    A cluster that happens to run on this machine is joined only when asked for (`--address auto`); one that the calling
    program is connected to already is used, and left as it is. `object_store_bytes` is for one that is started here;
    None leaves it to Ray, which takes a third of the memory.
    """
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    try:
        with quiet_core():
            if address == "local":
                ray.init(
                    "local",
                    include_dashboard=False,
                    object_store_memory=object_store_bytes,
                    logging_level=logging.ERROR,
                    log_to_driver=False,
                )
            else:
                ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise UsageError(f"the Ray cluster at {address} cannot be reached: {error}") from error
    try:
        yield
    finally:
        ray.shutdown()


@contextmanager
def quiet_core() -> Iterator[None]:
    """Keep Ray's C++ core from writing to the terminal of every job.

    It reports a property of Ray Data's own actors as an error; told to report only fatal ones, it reports that.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
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


def total(resource: str) -> int:
    """How much of a resource (`CPU`, `GPU`) the cluster has now."""
    return int(ray.cluster_resources().get(resource, 0))
