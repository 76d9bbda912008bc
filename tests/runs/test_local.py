"""Child processes of the command that end when nobody has asked them to."""

import dataclasses
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from commands import assert_complete, make_corpus
from disturbances import wait_for
from sgllie.distributed.executor import NICENESS, RayExecutor, Work
from sgllie.enhance.run import EnhanceRun, prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import StorageError
from sgllie.runs import gpu, local, machine
from sgllie.runs.job import InProcess, finish
from sgllie.runs.local import MOST_SILENT_DEATHS, Child, LocalPool

pytestmark = pytest.mark.jobs


class Raising(EnhanceRun):
    """Whose workers cannot be made."""

    def make_pipeline(self, report):
        raise StorageError("the bucket is gone")


class Dying(EnhanceRun):
    """Whose workers are killed while they are made."""

    def make_pipeline(self, report):
        os.kill(os.getpid(), signal.SIGKILL)


class Noting(EnhanceRun):
    """Whose workers write down their priority."""

    def make_pipeline(self, report):
        Path(self.settings.output, f"nice-{os.nice(0)}").touch()
        return super().make_pipeline(report)


class Unable(EnhanceRun):
    """Whose workers can begin no thread, as where a container may have no more of them."""

    def make_pipeline(self, report):
        pipeline = super().make_pipeline(report)
        pipeline.images.pool.submit = refuse
        return pipeline


def refuse(*_):
    raise RuntimeError("can't start new thread")


def as_kind(kind, run):
    """The same run with other workers."""
    return kind(**{field.name: getattr(run, field.name) for field in dataclasses.fields(run)})


@pytest.fixture
def run(tmp_path):
    make_corpus(tmp_path / "in", 20)
    return prepare(EnhanceSettings(str(tmp_path / "in"), str(tmp_path / "out"), device="cpu", shard_images=10))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Raising, "a child process cannot begin: the bucket is gone"),
        (Unable, "RuntimeError: can't start new thread"),
        (Dying, f"{MOST_SILENT_DEATHS} child processes in a row have died without a word"),
    ],
)
def test_children_that_can_do_nothing_stop_the_job(run, kind, reason):
    assert LocalPool(as_kind(kind, run), {}).run_shards() == reason


@pytest.mark.parametrize("niceness", [0, NICENESS])
def test_children_give_way_to_nobody_unless_a_cluster_may_start_beside_them(run, tmp_path, niceness):
    assert LocalPool(as_kind(Noting, run), {}, niceness).run_shards() is None
    assert {path.name for path in tmp_path.glob("out/nice-*")} == {f"nice-{os.nice(0) + niceness}"}


def test_a_cluster_may_start_beside_the_children_of_a_large_job(run):
    assert Work(RayExecutor(run.settings), run, {}).children.niceness == NICENESS


def test_there_is_a_child_for_each_processor_of_a_container(run, monkeypatch):
    monkeypatch.setattr(machine, "processors", lambda: 1.5)
    monkeypatch.setattr(
        local, "begin_child", lambda *_: Child(multiprocessing.current_process(), multiprocessing.Pipe()[0])
    )
    pool = LocalPool(run, {})
    pool.begin()
    assert len(pool.at_work) == 1
    assert len(pool.waiting) == 1


def test_a_child_that_does_not_leave_is_ended(run, monkeypatch):
    """It was stopped just before, and so does not hear of it."""
    monkeypatch.setattr(local, "LEAVE_SECONDS", 0.3)
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    here, there = multiprocessing.Pipe()
    process.start()
    os.kill(process.pid, signal.SIGSTOP)
    there.close()
    pool = LocalPool(run, {})
    shard = pool.waiting.popleft()
    pool.at_work[Child(process, here)] = shard
    pool.leave()
    wait_for(lambda: not pool.is_running(), 10)
    assert pool.left == [shard]
    process.join(10)
    assert process.exitcode == -signal.SIGKILL


def test_children_beside_a_gpu_say_that_it_is_not_used(run, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(machine, "processors", lambda: 0.5)
    monkeypatch.setattr(
        local, "begin_child", lambda *_: Child(multiprocessing.current_process(), multiprocessing.Pipe()[0])
    )
    LocalPool(run, {}).begin()
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(gpu, "DRIVERS", (str(tmp_path / "absent"), str(tmp_path)))
    LocalPool(run, {}).begin()
    assert capsys.readouterr().out.startswith("Computing on the CPUs: the network is light")


def test_a_child_that_dies_between_two_shards_is_replaced(run, tmp_path):
    results = {}
    pool = LocalPool(run, results)
    shard = pool.waiting.popleft()
    here, there = multiprocessing.Pipe()
    pool.at_work[Child(multiprocessing.current_process(), here)] = shard
    there.send((run.make_pipeline(lambda *_: None).run(shard), ""))
    there.close()
    while pool.is_running():
        pass
    assert pool.error is None
    finish(run, results, InProcess())
    assert_complete(tmp_path / "in", tmp_path / "out")
