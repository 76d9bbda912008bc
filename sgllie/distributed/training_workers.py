"""How many training processes there are, and what each asks of its node."""

from sgllie.distributed.placement import nodes_now, room_for
from sgllie.train.settings import TrainSettings


def each_worker(settings: TrainSettings) -> dict[str, float]:
    """Return what a training process asks of its node."""
    return {"CPU": float(settings.cpus_per_worker), "GPU": float(settings.use_gpu)}


def room_now(settings: TrainSettings) -> int:
    """Return for how many training processes the cluster has room, were there nothing else on it."""
    return room_for(nodes_now(), each_worker(settings))


def workers_now(settings: TrainSettings) -> int:
    """Return how many training processes there should be now: as many as may be, among which a batch can be shared."""
    there = room_now(settings)
    numbers = range(settings.least_workers, settings.num_workers + 1)
    return max((n for n in numbers if settings.batch_size % n == 0 and n <= there), default=settings.least_workers)
