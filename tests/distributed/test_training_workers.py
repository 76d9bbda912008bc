"""How many processes a training has where others use the cluster and machines come and go; the cluster is pretended."""

from collections import Counter
from types import SimpleNamespace

import pytest
import ray
from ray.exceptions import ActorDiedError, RayActorError
from ray.train import ControllerError, PreemptionError, WorkerGroupError
from ray.train.v2._internal.exceptions import WorkerGroupStartupTimeoutError, WorkerHealthCheckFailedError
from ray.train.v2.api.preemption import PreemptionInfo

from sgllie.distributed import train
from sgllie.distributed.ingest import TrainingData
from sgllie.distributed.ray_internals import was_preempted
from sgllie.distributed.training_workers import room_left
from sgllie.train.settings import TrainSettings

pytestmark = pytest.mark.jobs

PREEMPTION = PreemptionError(PreemptionInfo(None, {"b": [0]}))
MOST_ATTEMPTS = 5


def settings(**changes) -> TrainSettings:
    """Of a training with 8 processes, and no failure allowed."""
    return TrainSettings("in", "run", **({"batch_size": 8, "num_workers": 8, "max_failures": 0} | changes))


def dead(*, preempted: bool) -> WorkerGroupError:
    """What Ray Train tells of a training process that has died, and of another that has therefore failed."""
    died = WorkerHealthCheckFailedError("no answer", RayActorError(preempted=preempted))
    return WorkerGroupError("two failures", {0: RuntimeError("connection reset"), 1: died})


class Cluster:
    """Nodes with CPUs, of which others use some."""

    def __init__(self, monkeypatch) -> None:
        self.cpus: dict[str, int] = {}
        self.used: Counter[str] = Counter()
        self.draining: dict[str, int] = {}
        monkeypatch.setattr(ray, "nodes", self.nodes)
        monkeypatch.setattr(ray._private.state, "available_resources_per_node", self.free)
        monkeypatch.setattr(ray._private.state.state, "get_draining_nodes", lambda: self.draining)

    def nodes(self):
        """What Ray tells of each node."""
        return [{"NodeID": node, "Alive": True, "Resources": {"CPU": cpus}} for node, cpus in self.cpus.items()]

    def free(self):
        """What of each node nobody uses; what is 0 is not told."""
        return {node: {"CPU": n - self.used[node]} if n > self.used[node] else {} for node, n in self.cpus.items()}

    def room(self) -> int:
        """For how many processes of one CPU there is room."""
        return sum(free.get("CPU", 0) for node, free in self.free().items() if node not in self.draining)


@pytest.fixture
def cluster(monkeypatch):
    """A cluster without nodes yet."""
    return Cluster(monkeypatch)


@pytest.fixture
def fit(cluster, monkeypatch):
    """Trains with some settings; what ends each attempt that has room is called, and what it gives raised or returned.

    Returns the processes of each attempt, what was remarked, and the failure.
    """

    def run(wanted, *ends):
        attempts, remarks, left = [], [], list(ends)

        def train_with(workers):
            attempts.append(workers)
            assert len(attempts) <= MOST_ATTEMPTS, "it goes on for ever"
            if workers > cluster.room():
                raise ControllerError(WorkerGroupStartupTimeoutError(workers))
            end = left.pop(0)()
            if isinstance(end, Exception):
                raise end
            return SimpleNamespace(return_value=end)

        monkeypatch.setattr(train, "ray", SimpleNamespace(get=lambda value: value, put=lambda value: value))
        monkeypatch.setattr(
            train, "make_trainer", lambda _, workers, *__: SimpleNamespace(fit=lambda: train_with(workers))
        )
        folder = SimpleNamespace(epochs_done=lambda: 0 if left else wanted.epochs, next_attempt=lambda: None)
        board = SimpleNamespace(ending=SimpleNamespace(remote=lambda: None))
        source = TrainingData(None, None, None, None, None, wanted, 1, folder, board)
        thread = train.Fit(source, "", remarks.append)
        thread.run()
        return attempts, remarks, thread.failure

    return run


def test_where_others_use_a_part_a_training_makes_do_with_the_rest_and_takes_what_they_leave(cluster, fit):
    cluster.cpus, cluster.used = {"a": 4, "b": 4}, Counter(b=1)
    attempts, remarks, failure = fit(settings(min_workers=4), lambda: cluster.used.clear() or 8, lambda: None)
    assert (attempts, failure) == ([8, 4, 8], None)
    assert remarks == [
        "Waiting for room for 8 training processes of 1 CPU each: the cluster has room for 8, and others leave room "
        "for 7.",
        "Training with 4 of 8 processes.",
        "Training with 8 of 8 processes.",
    ]


def test_fewer_are_tried_though_there_seems_to_be_room(cluster, fit, monkeypatch):
    cluster.cpus = {"a": 8}
    monkeypatch.setattr(cluster, "room", lambda: 3)
    assert fit(settings(min_workers=1), lambda: None)[::2] == ([8, 4, 2], None)


def test_without_fewer_to_go_on_with_all_are_waited_for(cluster, fit):
    cluster.cpus, cluster.used = {"a": 8}, Counter(a=1)
    attempts, remarks, _ = fit(settings(), lambda: None)
    assert attempts == [8] * (MOST_ATTEMPTS + 1)
    assert len(remarks) == MOST_ATTEMPTS
    assert all(remark.startswith("Waiting for room for 8 training processes of 1 CPU each: ") for remark in remarks)


def test_a_node_that_is_drained_has_no_room(cluster, fit):
    cluster.cpus = {"a": 4, "b": 4}
    ends = [lambda: cluster.draining.update(b=0) or PREEMPTION, lambda: None]
    assert fit(settings(min_workers=2), *ends)[::2] == ([8, 4], None)
    assert room_left(settings(), ["a", "b"]) == 5, "its own place on a node that stays can be taken again"


def test_an_occupied_node_that_joins_is_no_reason_to_begin_anew(cluster):
    cluster.cpus = {"a": 4, "b": 4}
    cluster.used.update(a=4, b=4)
    assert room_left(settings(), ["a"] * 4) == 4
    cluster.used.subtract(b=2)
    assert room_left(settings(), ["a"] * 4) == 6


@pytest.mark.parametrize(
    ("error", "is_preemption"),
    [
        (PREEMPTION, True),
        (dead(preempted=True), True),
        (WorkerGroupError("one failure", {0: ActorDiedError()}), False),
        (dead(preempted=False), False),
        (ControllerError(WorkerGroupStartupTimeoutError(8)), False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_machines_that_were_taken_back_are_no_failure(cluster, fit, error, is_preemption):
    assert was_preempted(error) is is_preemption
    if isinstance(error, WorkerGroupError):
        cluster.cpus = {"a": 8}
        attempts, _, failure = fit(settings(), lambda: error, lambda: None)
        assert (len(attempts), failure is None) == ((2, True) if is_preemption else (1, False))
