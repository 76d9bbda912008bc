"""How many training processes there are, and what each asks of its node."""

from collections import Counter
from collections.abc import Iterable

from sgllie.distributed.placement import nodes_that_stay, room_for
from sgllie.distributed.ray_internals import free_resources
from sgllie.train.settings import TrainSettings


def each_worker(settings: TrainSettings) -> dict[str, float]:
    """Return what a training process asks of its node."""
    return {"CPU": float(settings.cpus_per_worker), "GPU": float(settings.use_gpu)}


def room_in_all(settings: TrainSettings) -> int:
    """Return for how many training processes the nodes that stay have room, were there nothing else on them."""
    return room_for(nodes_that_stay(), each_worker(settings))


def room_left(settings: TrainSettings, held: Iterable[str] = ()) -> int:
    """Return for how many training processes others leave room on the nodes that stay.

    Args:
        settings: of the job.
        held: the node of each training process that there is, whose place it would have again.
    """
    each, ours = each_worker(settings), Counter(held)
    left = free_resources().items()
    return room_for(
        [{name: free.get(name, 0) + ours[node] * amount for name, amount in each.items()} for node, free in left], each
    )


def shared_among(settings: TrainSettings, most: int) -> int:
    """Return how many training processes there should be: as many as may be, among which a batch can be shared.

    Args:
        settings: of the job.
        most: for which there is room.
    """
    numbers = range(settings.least_workers, settings.num_workers + 1)
    return max((n for n in numbers if settings.batch_size % n == 0 and n <= most), default=settings.least_workers)
