"""How items become shards, in which order these are run, and how many a worker gets at a time."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.exceptions import RayError

from sgllie.distributed import pool
from sgllie.distributed.pool import in_bunches
from sgllie.runs import plan
from sgllie.runs.plan import cut, in_order
from sgllie.storage import Entry


def sizes(count, size, shard_items=1000):
    """The number of items in each shard of a listing."""
    return [len(shard) for shard in cut((Entry("a", size, None) for _ in range(count)), shard_items)]


def test_small_inputs_have_small_shards():
    assert sizes(100, 1000) == [32, 32, 32, 4]
    found = sizes(100_000, 1000)
    assert (min(found[:-1]), max(found)) == (32, 1000)
    assert max(sizes(4000, 2**21)) == 128, "of 256 MiB"
    assert max(sizes(1000, 1000, shard_items=10)) == 10


@pytest.mark.parametrize(("size", "most"), [(1, 1), (2**20, 1.3)])
def test_the_number_of_shards_grows_slowly(monkeypatch, size, most):
    """At a hundred times what fills PARTS shards, on a scale of 1 to 100."""
    monkeypatch.setattr(plan, "PARTS", 30)
    monkeypatch.setattr(plan, "SHARD_BYTES", 100 * 2**20)
    found = sizes(100_000, size, 100)
    assert len(found) < 110 + most * 30 * (1 + math.log(100 / 3))
    assert sum(found) == 1_000_000 // 10


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 5000), max_size=200), st.integers(1, 100))
def test_each_shard_is_run_once_large_ones_first(shards, workers):
    order = in_order(shards)
    assert sorted(order) == sorted(shards)
    assert order == in_order(dict(reversed(shards.items()))), "always alike"
    assert all(2 * shards[one] > shards[later] for one, later in itertools.pairwise(order))
    assert [shard for bunch in in_bunches(order, shards, workers) for shard in bunch] == order


def test_neighbours_are_not_run_one_after_another():
    order = in_order(dict.fromkeys(range(1000), 1000))
    assert sum(abs(one - later) < 10 for one, later in itertools.pairwise(order)) < 50


@pytest.mark.parametrize("workers", [1, 1000])
def test_many_shards_are_fewer_bunches(workers):
    """Whether the workers are there or join later; single ones at the end."""
    sizes = dict.fromkeys(range(20_000), 1000)
    bunches = list(in_bunches(list(sizes), sizes, workers))
    assert 4_000 < len(bunches) < 14_000
    assert all(len(bunch) == 1 for bunch in bunches[-4000:])
    few = dict.fromkeys(range(200), 1000)
    assert len(list(in_bunches(list(few), few, workers))) == 200


def test_a_shard_that_was_left_comes_before_the_next_of_a_bunch(monkeypatch):
    left, begun = [7], []
    worker = object.__new__(pool.RayWorker)
    worker.on_gpu = worker.is_leaving = False
    worker.progress = SimpleNamespace(take=SimpleNamespace(remote=lambda: left.pop() if left else None))
    monkeypatch.setattr(worker, "run", lambda shard: (begun.append(shard) or {}, ""))
    monkeypatch.setattr(pool.ray, "get", lambda answer: answer)
    found = worker({"shards": np.array([np.array([1, 2, 3])])})
    assert begun == found["shard"] == [1, 7, 2, 3]


def test_signs_of_life_do_not_end_where_a_cluster_does_not_answer_once(monkeypatch):
    """And a node that is about to end is left."""
    asked, left = [], []
    worker = object.__new__(pool.RayWorker)
    worker.is_leaving = False
    worker.leave = lambda: (left.append(len(asked)), monkeypatch.setattr(worker, "is_leaving", True))
    worker.send = lambda: asked.append(worker.is_leaving)
    answers = iter([False, RayError("the head is busy"), False, True])

    def is_draining():
        if isinstance(answer := next(answers), Exception):
            raise answer
        return answer

    def pause(_):
        if len(asked) == 6:
            raise SystemExit

    monkeypatch.setattr(pool, "node_is_draining", is_draining)
    monkeypatch.setattr("sgllie.runs.worker.time.sleep", pause)
    with pytest.raises(SystemExit):
        worker.live()
    assert left == [4]
    assert asked == [False] * 4 + [True] * 2
