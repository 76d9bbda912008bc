"""How the workers of a job are spread over nodes with GPUs and without."""

import dataclasses

import pytest

from sgllie.distributed import pool
from sgllie.distributed.placement import Placement, in_words, on_cpus, on_gpus, room_for
from sgllie.distributed.pool import Shards, placement_of
from sgllie.distributed.training_workers import shared_among
from sgllie.enhance.run import EnhanceRun
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs import cost, machine
from sgllie.runs.memory import worker_bytes
from sgllie.train.settings import TrainSettings
from sgllie.video.run import VideoRun
from sgllie.video.settings import VideoSettings

NO_RUN = (None, None, False, {}, [], None, {})
PLAIN = {"CPU": 8, "memory": 1e9}


def node(cpus, gpus):
    """Resources of a node as Ray tells them."""
    return {"CPU": cpus, "GPU": gpus, "memory": 1e9}


@pytest.mark.parametrize(
    ("nodes", "per_gpu", "threads", "expected"),
    [
        ([node(16, 1)], 4, None, Placement(4, 0.25, 4, 4)),
        ([node(16, 1)], 1, None, Placement(16, 1, 16, 1)),
        ([node(16, 1)], 4, 8, Placement(8, 0.25, 8, 2)),  # no more than there are CPUs for
        ([node(16, 1)], 4, 2, Placement(2, 0.25, 2, 4)),
        ([node(16, 1)], 4, 32, Placement(16, 0.25, 32, 1)),  # each GPU has one at least
        ([node(8, 1)], 3, None, Placement(2.6666, 0.3333, 3, 3)),
        ([node(32, 1)], 10, None, Placement(3.2, 0.1, 4, 10)),
        ([node(2, 1)], 4, None, Placement(1, 0.25, 1, 2)),
        ([node(1, 2)], 4, None, Placement(0.5, 0.25, 1, 2)),
        ([node(0, 1)], 4, None, Placement(0, 0.25, 1, 4)),
        ([node(64, 8), node(8, 4), PLAIN], 2, None, Placement(1, 0.5, 1, 24)),
        ([PLAIN], 4, None, Placement(1, 0.25, 1, 0)),
        ([], 4, 2, Placement(1, 0.25, 2, 0)),
    ],
)
def test_workers_share_gpus_and_the_cpus_beside_them(nodes, per_gpu, threads, expected):
    assert on_gpus(nodes, per_gpu, threads) == expected


@pytest.mark.parametrize(
    ("each", "workers"),
    [({"CPU": 4}, 2), ({"CPU": 8}, 0), ({"CPU": 1}, 14), ({"CPU": 1, "GPU": 1}, 2), ({"CPU": 0, "GPU": 1}, 3)],
)
def test_there_is_room_on_single_nodes_only(each, workers):
    """Two halves on two nodes are no place."""
    assert room_for([{"CPU": 7}, {"CPU": 5, "GPU": 2}, {"CPU": 2}, {"GPU": 1}], each) == workers


@pytest.mark.parametrize(
    ("most", "least", "workers"), [(9, 1, 6), (6, 1, 6), (5, 1, 3), (1, 1, 1), (0, 1, 1), (2, 3, 3), (5, None, 6)]
)
def test_training_processes_are_as_many_as_fit_and_share_the_batch(most, least, workers):
    settings = TrainSettings("in", "run", batch_size=6, num_workers=6, min_workers=least)
    assert shared_among(settings, most) == workers


@pytest.mark.parametrize(
    ("make", "cpus"),
    [
        (lambda: EnhanceRun(EnhanceSettings("in", "out"), *NO_RUN), 4),
        (lambda: EnhanceRun(EnhanceSettings("in", "out", threads=3), *NO_RUN), 3),
        (lambda: VideoRun(VideoSettings("in", "out"), *NO_RUN, target=None, segments=[]), 4),
        (lambda: VideoRun(VideoSettings("in", "out", threads=8), *NO_RUN, target=None, segments=[]), 4),
    ],
    ids=["enhance", "enhance --threads 3", "video", "video --threads 8"],
)
def test_threads_of_codecs_are_no_measure_of_the_cpus_that_a_gpu_needs(monkeypatch, make, cpus):
    monkeypatch.setattr(pool, "nodes_now", lambda: [node(16, 1)])
    assert placement_of(make(), "cuda").cpus == cpus


@pytest.mark.parametrize("joins", [True, False])
def test_workers_are_cut_to_the_first_node_with_a_gpu(monkeypatch, capsys, joins):
    """A job that began before it had joined kept workers of one CPU for good."""
    nodes = [PLAIN] if joins else [PLAIN, node(16, 1)]
    monkeypatch.setattr(pool, "gpus_now", lambda: sum(one.get("GPU", 0) for one in nodes))
    monkeypatch.setattr(pool, "nodes_now", lambda: nodes)
    monkeypatch.setattr(pool, "wait_for_gpu", lambda: nodes.append(node(16, 1)))
    monkeypatch.setattr(pool, "beside_driver", lambda _: None)
    found = []
    monkeypatch.setattr(pool, "shard_dataset", lambda run, *_: found.append(placement_of(run, "cuda")))
    monkeypatch.setattr(Shards, "_consume", lambda shards, _: shards.results.update({0: {}}))
    run = EnhanceRun(EnhanceSettings("in", "out", device="cuda"), None, None, False, {}, [], None, {0: 9})
    Shards(run, {}).run()
    assert found == [Placement(4, 0.25, 4, 4)]
    said = capsys.readouterr().out.splitlines()
    assert said[-1].startswith("Computing on the GPUs, with up to 4 workers of 4 CPUs.")
    assert said[:-1] == ["Computing on the GPUs that join."] * joins


def test_without_gpus_each_cpu_has_a_worker():
    assert on_cpus([node(64, 8), PLAIN]) == Placement(1, 0, None, 72)


def test_cpus_that_are_not_used_are_told_with_the_reason():
    placement = on_gpus([node(16, 1), PLAIN], 4, None)
    said = in_words(placement, [node(16, 1), PLAIN])
    assert said.startswith(
        "Computing on the GPUs, with up to 4 workers of 4 CPUs. 8 CPUs of nodes without a GPU are not used"
    )
    assert in_words(on_gpus([PLAIN], 4, None), [PLAIN]) == "Computing on the GPUs that join."
    assert in_words(placement, [node(16, 1)]) == "Computing on the GPUs, with up to 4 workers of 4 CPUs."


def test_a_worker_with_several_processors_has_their_memory_and_threads(monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 64 << 30)
    monkeypatch.setattr(machine, "processors", lambda: 16.0)
    settings = EnhanceSettings("in", "out", device="cuda")
    run = EnhanceRun(settings, None, None, False, {}, [], None, {})
    of_one = worker_bytes(None)
    monkeypatch.setattr(machine, "share", machine.Share(4, 0.25))
    assert worker_bytes(None) == pytest.approx(4 * of_one, rel=1e-6)
    assert run.for_workers("cuda", 4).settings.at_once == 4
    assert run.for_workers("cpu").settings.at_once == 2
    said = dataclasses.replace(run, settings=EnhanceSettings("in", "out", threads=3))
    assert said.for_workers("cuda", 4).settings.at_once == 3


def test_what_a_worker_has_is_what_it_costs(monkeypatch):
    monkeypatch.setattr(cost.time, "monotonic", iter([0.0, 100.0] * 2).__next__)
    assert cost.Meter().read() == {"core_seconds": 100, "gpu_seconds": 0}
    monkeypatch.setattr(machine, "share", machine.Share(4, 0.25))
    assert cost.Meter().read() == {"core_seconds": 400, "gpu_seconds": 25}
