"""What takes long, and who is not heard of any more, is named."""

import os
import re
import signal
import subprocess
import threading

import psutil
import pytest

from commands import assert_complete, make_corpus, start
from disturbances import slowed, wait_for, workers_of, written
from places import HOOKS
from sgllie.cli import main
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import StuckError
from sgllie.images import codec
from sgllie.runs import job, local, progress, shard_runner, watch, worker
from sgllie.runs.progress import Reports
from sgllie.runs.worker import ShardWorker


def test_a_line_for_each_shard_that_is_stuck(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    reports = Reports()
    reports.set(1, 5, 0, "", "", "process 12 on one", False)
    reports.set(2, 7, 1, "", "", "", False)  # it is over
    now[0] = 50.0
    reports.set(3, 0, 0, "", "a/b.jpg: 45 s", "process 13 on two", False)
    assert reports.read() == ({"": (12, 1)}, ["a/b.jpg: 45 s (process 13 on two, shard 3)"])
    now[0] = 75.0
    assert reports.read()[1] == [
        "nothing heard for 1 min 15 s from process 12 on one, which has shard 1",
        "a/b.jpg: 45 s (process 13 on two, shard 3)",
    ]


def test_an_image_that_takes_long_is_named_by_its_worker(tmp_path, monkeypatch):
    source = make_corpus(tmp_path / "in", 3)
    run = prepare(EnhanceSettings(str(source), str(tmp_path / "out")))
    monkeypatch.setattr(shard_runner, "SLOW_SECONDS", 0.3)
    monkeypatch.setattr(worker, "BEAT_SECONDS", 0.1)
    told, named = [], threading.Event()
    open_image = codec.open_image

    def tell(*state):
        told.append(state)
        if "000/00001.jpg: " in state[4]:
            named.set()

    def open_when_named(data, **options):  # a header, too, can take for ever
        if data == (source / "000/00001.jpg").read_bytes():
            named.wait(60)
        return open_image(data, **options)

    monkeypatch.setattr("sgllie.images.open_image", open_when_named)
    only = ShardWorker(run, tell)
    for shard in run.shards:
        assert only.run(shard)[1] == ""
    assert named.is_set()
    assert {state[5] for state in told} == {"", f"process {os.getpid()} on {os.uname().nodename}"}
    assert told[-1][5] == "", "whose shard is done is not waited for"


def test_a_header_that_never_ends_is_stuck(tmp_path, monkeypatch):
    source = make_corpus(tmp_path / "in", 2)
    run = prepare(EnhanceSettings(str(source), str(tmp_path / "out"), deadline=1))
    monkeypatch.setattr(shard_runner, "GRACE_SECONDS", 0.0)
    over = threading.Event()
    monkeypatch.setattr("sgllie.images.open_image", lambda data, **options: over.wait(60))
    pipeline = run.make_pipeline(lambda shard, done, failed, group="": None)
    with pytest.raises(StuckError, match=r"^000/0000[01].jpg: 1 s.*, which is longer than --deadline 1$"):
        pipeline.run(0)
    over.set()


@pytest.mark.jobs
def test_a_child_that_is_stopped_is_named_and_its_shard_is_done_by_others(tmp_path, monkeypatch, capsys):
    source, output = slowed(make_corpus(tmp_path / "in", 60)), tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", HOOKS, prepend=os.pathsep)
    monkeypatch.setattr(progress, "SILENT_SECONDS", 3.0)
    monkeypatch.setattr(watch, "REMIND_SECONDS", 0.0)
    monkeypatch.setattr(job, "names_cluster", lambda settings: False)  # even if a test before this one has joined one
    stopped: list[int] = []

    def look(self):
        if not stopped and written(output) > 3:
            stopped.append(next(iter(self.at_work)).process.pid)
            os.kill(stopped[0], signal.SIGSTOP)
        return look_on(self)

    look_on = local.LocalPool.look
    monkeypatch.setattr(local.LocalPool, "look", look)
    assert main(["enhance", str(source), str(output)]) == 0
    words = capsys.readouterr().out
    assert re.search(rf"Waiting: .*nothing heard for \d+ s from process {stopped[0]} on", words)
    assert f"Process {stopped[0]} was stopped from outside: it is ended, and its shard is given to others." in words
    assert max(row["attempt"] for row in assert_complete(source, output)) == 2


def test_who_is_silent_but_not_stopped_is_left_alone():
    with subprocess.Popen(["sleep", "60"]) as busy, subprocess.Popen(["sleep", "60"]) as stopped:
        stopped.send_signal(signal.SIGSTOP)
        wait_for(lambda: psutil.Process(stopped.pid).status() == psutil.STATUS_STOPPED)
        local.end_stopped([busy.pid, stopped.pid])
        assert stopped.wait(10) == -signal.SIGKILL
        assert busy.poll() is None
        busy.kill()


@pytest.mark.slow
def test_an_actor_that_is_stopped_is_ended_and_its_shard_is_done_by_others(tmp_path):
    source, output = slowed(make_corpus(tmp_path / "in", 300)), tmp_path / "out"
    job = start("enhance", source, output, "--num-actors", 2, "--shard-images", 50, PYTHONPATH=HOOKS)
    wait_for(lambda: written(output) > 20)
    stopped = workers_of(job)[0]
    stopped.suspend()
    assert job.wait(600) == 0
    with pytest.raises(psutil.NoSuchProcess):
        stopped.resume()
    assert max(row["attempt"] for row in assert_complete(source, output)) == 2
