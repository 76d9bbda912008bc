"""What each worker of a pool asks of its node, and for how many the cluster has room."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ray

from sgllie.distributed.ray_internals import draining_nodes

GRAIN = 10_000
"""Ray counts resources in parts of so many."""

Resources = Mapping[str, float]
"""Of one node: `CPU`, `GPU` and others."""


class Placement(NamedTuple):
    """How the workers of a job are spread.

    Attributes:
        cpus: that each asks for.
        gpus: that each asks for, a part of one or none.
        threads: images that each has in hand, where the user has not said; None where it is nothing special.
        workers: for which there is room now.
    """

    cpus: float
    gpus: float
    threads: int | None
    workers: int


def nodes_now() -> list[Resources]:
    """Return the resources of each node of the cluster."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def nodes_that_stay() -> list[Resources]:
    """Return the resources of each node of the cluster that is not about to end."""
    draining = draining_nodes()
    return [node["Resources"] for node in ray.nodes() if node["Alive"] and node["NodeID"] not in draining]


def room_for(nodes: Sequence[Resources], each: Resources) -> int:
    """Return for how many workers the nodes have room together, each of which asks one node for so much."""
    asked = {resource: amount for resource, amount in each.items() if amount}
    shares = (min(node.get(name, 0) / amount for name, amount in asked.items()) for node in nodes)
    return sum(math.floor(share + 1 / GRAIN) for share in shares)


def on_cpus(nodes: Sequence[Resources]) -> Placement:
    """Place a worker on each CPU."""
    return Placement(1, 0, None, int(sum(node.get("CPU", 0) for node in nodes)))


def wait_for_gpu() -> None:
    """Wait until a node with a GPU is there; a cluster that grows on demand brings one."""

    @ray.remote(num_cpus=0, num_gpus=1 / GRAIN, max_retries=-1)
    def find() -> None:
        """Need the smallest part of a GPU."""

    ray.get(find.remote())


def on_gpus(nodes: Sequence[Resources], per_gpu: int, threads: int | None) -> Placement:
    """Place workers where the GPUs are.

    All of them ask for the same, since those of one pool do: what the node with the fewest CPUs for each GPU can give.

    Args:
        nodes: of the cluster.
        per_gpu: workers that share a GPU, where there is a CPU for each.
        threads: that each is to have; None for as many as it gets CPUs.
    """
    having = [node for node in nodes if node.get("GPU", 0)]
    # Without one nothing is decided yet, see `wait_for_gpu`.
    of_gpu = min((node.get("CPU", 0) / node["GPU"] for node in having), default=1)
    cpus = max(of_gpu / per_gpu, min(1, of_gpu)) if threads is None else min(threads, of_gpu)
    cpus, gpus = (math.floor(share * GRAIN) / GRAIN for share in (cpus, 1 / per_gpu))
    workers = room_for(having, {"CPU": cpus, "GPU": gpus})
    return Placement(cpus, gpus, threads or max(1, math.ceil(cpus)), workers)


def in_words(placement: Placement, nodes: Sequence[Resources]) -> str:
    """Say how the GPUs are used, and which CPUs are not, and why."""
    if not placement.workers:
        return "Computing on the GPUs that join."
    idle = sum(node.get("CPU", 0) for node in nodes if not node.get("GPU", 0))
    said = f"Computing on the GPUs, with up to {placement.workers} workers of {placement.cpus:.3g} CPUs."
    if not idle:
        return said
    return (
        f"{said} {idle:g} CPUs of nodes without a GPU are not used: at its end the job would wait for the shards that "
        "they compute; --device cpu takes all CPUs and no GPU."
    )
