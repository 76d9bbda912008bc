"""What child processes have in hand when a cluster takes over, and when it does not."""

import os
import signal
from types import SimpleNamespace

import pytest

from commands import assert_complete, make_corpus
from disturbances import TOGETHER
from places import HOOKS
from sgllie.distributed import executor
from sgllie.distributed.cluster import Connection
from sgllie.distributed.executor import Work
from sgllie.runs import job, machine, progress
from sgllie.runs.local import LocalPool
from sgllie.runs.progress import Rate, Reports

pytestmark = pytest.mark.jobs

CHILDREN, SHARDS, IMAGES = 2, 6, 32


@pytest.fixture
def enhance(here, tmp_path, monkeypatch):
    """Enhances into `out`, in shards of IMAGES: children begin, and a cluster pays at once."""
    monkeypatch.setattr(machine, "whole_processors", lambda: CHILDREN)
    monkeypatch.setattr(job, "SMALL_ITEMS", 0)
    for module in (job, executor):  # the tests' own cluster has been joined
        monkeypatch.setattr(module, "names_cluster", lambda settings: False)
    monkeypatch.setattr(executor, "HEAD_START_SECONDS", 0.0)
    monkeypatch.setattr(executor, "PAYS_SECONDS", 0.0)
    return lambda source, *options: here("enhance", source, tmp_path / "out", "--shard-images", IMAGES, *options)


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Two images of each shard cannot be read; of most others the children never come to an end."""
    folder, meeting = make_corpus(tmp_path / "in", SHARDS * IMAGES), tmp_path / "meeting"
    for number, path in enumerate(sorted(folder.rglob("*.jpg"))):
        if number % IMAGES in (2, 20):
            path.write_bytes(b"no image")
        elif number % IMAGES > 4:
            path.write_bytes(path.read_bytes() + TOGETHER)
    meeting.mkdir()
    for name, value in {"PYTHONPATH": HOOKS, "MEETING": str(meeting), "MEETING_OF": "1000"}.items():
        monkeypatch.setenv(name, value)
    return folder


def test_failures_count_wherever_they_were_met_and_no_dead_child_is_waited_for(enhance, source, tmp_path, monkeypatch):
    def leave(self):
        killed, stopped = (child.process.pid for child in self.at_work)
        os.kill(killed, signal.SIGKILL)
        os.kill(stopped, signal.SIGSTOP)
        leave_in_peace(self)

    leave_in_peace = LocalPool.leave
    monkeypatch.setattr(LocalPool, "leave", leave)
    done = enhance(source)
    assert done.returncode == 3, done.stdout + done.stderr
    rows = assert_complete(source, tmp_path / "out", failed=2 * SHARDS)
    assert len({row["shard"] for row in rows if row["attempt"] == 2}) == CHILDREN
    assert {row["error_type"] for row in rows} == {None, "not_an_image"}


def test_too_many_failures_stop_a_job_that_a_cluster_has_taken_over(enhance, source, tmp_path):
    done = enhance(source, "--max-failures", 5)
    assert done.returncode == 1
    assert "failed, more than --max-failures 5 allows" in done.stdout
    assert not (tmp_path / "out/_SUCCESS").exists()


def test_children_go_on_where_a_cluster_has_work_for_fewer(enhance, tmp_path, monkeypatch):
    monkeypatch.setattr(job, "LISTING_SECONDS", 0.0)  # so that a cluster is there from the first moment
    monkeypatch.setattr(Work, "_begin_on_cluster", None)
    source = make_corpus(tmp_path / "in", 3 * IMAGES)
    done = enhance(source)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Starting Ray" in done.stdout
    assert_complete(source, tmp_path / "out")


def test_children_go_on_where_no_cluster_can_be_started(enhance, tmp_path, monkeypatch):
    monkeypatch.setattr(Connection, "begin", lambda self: setattr(self, "error", RuntimeError("no room")))
    source = make_corpus(tmp_path / "in", SHARDS * IMAGES)
    done = enhance(source)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("Child processes do it all: the Ray cluster (local) cannot be started: no room") == 1
    assert_complete(source, tmp_path / "out")


@pytest.mark.parametrize(
    ("waiting", "looks", "pays"),
    [
        (4, [(0, 0), (50, 0)], False),  # nothing is known
        (4, [(0, 0), (20, 5), (20.2, 5)], False),  # of a quarter of a second nothing is known
        (4, [(20, 5), (26, 5)], True),
        (4, [(20, 5), (30, 105)], True),  # ten a second, 895 are left
        (4, [(20, 5), (30, 405)], False),
        (1, [(20, 5), (30, 105)], False),  # for one worker, in the place of two
    ],
)
def test_when_a_cluster_pays(monkeypatch, waiting, looks, pays):
    work = object.__new__(Work)
    work.rate, work.run = Rate(), SimpleNamespace(remaining=1000)
    work.children = SimpleNamespace(reports=Reports(), waiting=range(waiting), at_work=range(2))
    for seconds, done in looks:
        monkeypatch.setattr(progress.time, "monotonic", lambda seconds=seconds: float(seconds))
        work.children.reports.set(0, done, 0, "", "", "", False)
        found = work._pays()
    assert found is pays
