"""A worker that is asked to end: what is in hand is all that is done twice, and others go on with its shard."""

import os
import signal
import threading
import time
from collections import Counter
from unittest.mock import Mock

import psutil
import pytest

from commands import assert_complete, journal_of, make_corpus, rows_of, sgllie, start
from disturbances import MARKER, SLOW, TOGETHER, slowed, wait_for, workers_of
from packs import make_parquet, make_tar, samples
from places import HOOKS
from sgllie.enhance import packing
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import LeavingError
from sgllie.runs import machine
from sgllie.runs.journal import Journal
from sgllie.runs.run_file import Identity
from sgllie.runs.schemas import STATS_SCHEMA
from sgllie.runs.shard_runner import LEAVE_SECONDS
from sgllie.runs.worker import ShardWorker
from sgllie.storage import LocalStorage, open_storage, pace

pytestmark = pytest.mark.jobs

THREADS, WAITING = 2, 1
"""Of a worker over local folders."""


@pytest.fixture
def writes(monkeypatch):
    """Counts how often each image is written."""
    counts: Counter[str] = Counter()
    write = LocalStorage.write

    def counted(storage, path, data):
        write(storage, path, data)
        if path.startswith("images/"):
            counts[path] += 1

    monkeypatch.setattr(LocalStorage, "write", counted)
    return counts


def begun(settings):
    """A run, and the pipeline for images of a worker of it."""
    run = prepare(settings)
    return run, run.make_pipeline(lambda shard, done, failed, group="": None).images


def test_only_what_is_in_hand_is_done_twice(tmp_path, writes):
    source, output = make_corpus(tmp_path / "in", 60), tmp_path / "out"
    settings = EnhanceSettings(str(source), str(output), threads=THREADS)
    _, first = begun(settings)
    begin, asked = first.process, threading.Event()

    def process(item, processor):
        if len(writes) > 10 and not asked.is_set():
            asked.set()
            first.leave()
        return begin(item, processor)

    first.process = process
    with pytest.raises(LeavingError):
        first.run(0)
    first.pool.shutdown()  # as the end of the process would, but with what is in hand
    assert 10 < len(writes) < 20
    run, second = begun(settings)
    for shard in run.shards:
        second.run(shard)
    assert len(writes) == 60
    assert sum(writes.values()) <= 60 + THREADS + WAITING
    rows = rows_of(output, "commits")
    assert {row["attempt"] for row in rows} == {1, 2}


def test_what_does_not_end_soon_is_dropped(tmp_path, writes):
    source, output = make_corpus(tmp_path / "in", 30), tmp_path / "out"
    settings = EnhanceSettings(str(source), str(output), threads=THREADS)
    _, first = begun(settings)
    begin, asked, over = first.process, [], threading.Event()

    def process(item, processor):
        if item.path == "000/00007.jpg":
            asked.append(time.monotonic())
            first.leave()
            over.wait(60)
        return begin(item, processor)

    first.process = process
    with pytest.raises(LeavingError):
        first.run(0)
    taken = time.monotonic() - asked[0]
    assert LEAVE_SECONDS < taken < LEAVE_SECONDS + 5, "half a second, on a machine that is not busy"
    over.set()
    first.pool.shutdown()
    assert (journal_of(output, 0) / "left-1").exists()
    run, second = begun(settings)
    for shard in run.shards:
        second.run(shard)
    assert len(writes) == 30
    assert sum(writes.values()) <= 30 + THREADS + WAITING


def test_who_was_asked_to_end_blames_no_image(tmp_path):
    output = open_storage(str(tmp_path))
    for attempt in range(1, 8):
        journal = Journal(output, 7, STATS_SCHEMA, Identity())
        assert (journal.attempt, journal.deaths, journal.deaths_without_progress) == (attempt, 0, 0)
        with pytest.raises(LeavingError), journal.attempted():
            raise LeavingError
    Journal(output, 7, STATS_SCHEMA, Identity())
    journal = Journal(output, 7, STATS_SCHEMA, Identity())
    assert (journal.attempt, journal.deaths, journal.deaths_without_progress) == (9, 1, 1)


def children_of(job) -> list[psutil.Process]:
    return [child for child in psutil.Process(job.pid).children() if "spawn_main" in " ".join(child.cmdline())]


def test_a_child_that_is_asked_to_end_gives_its_shard_back(tmp_path):
    source, output = slowed(make_corpus(tmp_path / "in", 200)), tmp_path / "out"
    job = start("enhance", source, output, "--shard-images", 50, PYTHONPATH=HOOKS)
    wait_for(lambda: len(list(output.glob("images/*/*.jpg"))) > 10)
    child = children_of(job)[0]
    child.send_signal(signal.SIGTERM)
    asked = time.monotonic()
    wait_for(lambda: list(output.glob(".partial/shard-*/left-1")))
    left = time.monotonic() - asked
    before = {path: path.stat().st_ino for path in output.glob("images/*/*.jpg")}
    assert job.wait(180) == 0
    rows = assert_complete(source, output)
    twice = [path for path, number in before.items() if path.stat().st_ino != number]
    assert len(twice) <= THREADS + WAITING
    again = {row["shard"] for row in rows if row["attempt"] == 2}
    assert len(again) == 1
    assert left < 10, "far less on a machine that is not busy"


def test_sigterm_to_all_processes_is_no_crash_of_an_image(tmp_path):
    """As a pod or a unit of systemd is ended; one image had killed a worker, and all are isolated."""
    source, output = slowed(make_corpus(tmp_path / "in", 40)), tmp_path / "out"
    (killer := source / "000/00005.jpg").write_bytes(killer.read_bytes() + MARKER)
    job = start("enhance", source, output, PYTHONPATH=HOOKS)
    wait_for(lambda: list(output.glob(".partial/shard-*/rows-2-*.parquet")))
    for process in (psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)):
        os.kill(process.pid, signal.SIGTERM)
    assert job.wait(60) == 1
    assert list(output.glob(".partial/shard-*/left-2"))
    job = start("enhance", source, output, PYTHONPATH=HOOKS)
    assert job.wait(180) == 3
    failed = [row["path"] for row in assert_complete(source, output, failed=1) if row["status"] == "failed"]
    assert failed == ["000/00005.jpg"]


def test_child_processes_give_to_a_cluster_what_they_have_in_hand(tmp_path):
    """They get little done before a worker of the cluster has begun, which therefore pays."""
    source, output = make_corpus(tmp_path / "in", 1100), tmp_path / "out"
    for number, path in enumerate(source.rglob("*.jpg")):
        path.write_bytes(path.read_bytes() + (SLOW if number % 2 else b"") + (b"" if number % 5 else TOGETHER))
    (meeting := tmp_path / "meeting").mkdir()
    children = machine.whole_processors()
    job = start("enhance", source, output, PYTHONPATH=HOOKS, MEETING=str(meeting), MEETING_OF=str(children + 1))
    wait_for(lambda: len(list(meeting.iterdir())) == children)
    assert not workers_of(job)
    assert job.wait(300) == 0
    attempts = Counter(row["attempt"] for row in assert_complete(source, output))
    assert attempts.keys() == {1, 2}
    assert attempts[2] < 100 * children, "what is left of a shard of each"


def test_no_cluster_is_started_for_what_is_done_soon(tmp_path):
    source, output = make_corpus(tmp_path / "in", 1100), tmp_path / "out"
    done = sgllie("enhance", source, output)
    assert done.returncode == 0
    assert "Starting Ray" not in done.stdout + done.stderr
    assert_complete(source, output)


@pytest.mark.slow
def test_a_ray_worker_that_is_asked_to_end_leaves_its_shard_to_another(tmp_path):
    source, output = slowed(make_corpus(tmp_path / "in", 200)), tmp_path / "out"
    job = start("enhance", source, output, "--shard-images", 25, "--num-actors", 2, PYTHONPATH=HOOKS)
    wait_for(lambda: len(list(output.glob("images/*/*.jpg"))) > 10)
    workers_of(job)[0].send_signal(signal.SIGTERM)
    wait_for(lambda: list(output.glob(".partial/shard-*/left-1")))
    before = {path: path.stat().st_ino for path in output.glob("images/*/*.jpg")}
    assert job.wait(300) == 0
    rows = assert_complete(source, output)
    twice = [path for path, number in before.items() if path.stat().st_ino != number]
    assert len(twice) <= 2 * (THREADS + WAITING), "what two workers had in hand"
    assert len({row["shard"] for row in rows if row["attempt"] == 2}) == 1


@pytest.mark.parametrize("name", ["a.tar", "b.parquet"])
def test_only_what_is_in_hand_of_a_pack_is_done_twice(tmp_path, monkeypatch, name):
    photographs = sorted(make_corpus(tmp_path / "photographs", 40).rglob("*.jpg"))
    make_tar(tmp_path / "in/a.tar", samples(photographs))
    make_parquet(tmp_path / "in/b.parquet", [path.read_bytes() for path in photographs], rows=5)
    settings = EnhanceSettings(str(tmp_path / "in" / name), str(tmp_path / "out"), threads=THREADS)
    monkeypatch.setattr(packing, "UNDER_WAY_BYTES", 1)  # one block at a time
    _, first = begun(settings)
    seen, process = [], first.image_processor

    def leaving(path, data, level=None):
        seen.append(path)
        if len(seen) == 13:
            first.leave()
        return process(path, data)

    first.image_processor = leaving
    with pytest.raises(LeavingError):
        first.run(0)
    first.pool.shutdown()
    assert {path.name for path in tmp_path.glob("out/.partial/shard-*/left-*")} == {"left-1"}
    _, second = begun(settings)
    process, second.image_processor = (
        second.image_processor,
        lambda path, data, level=None: seen.append(path) or process(path, data),
    )
    totals = second.run(0)
    assert (totals["ok"], len(set(seen))) == (40, 40)
    assert len(seen) <= 40 + (THREADS + WAITING if name == "a.tar" else 5), "of Parquet a whole row group is in hand"
    rows = rows_of(tmp_path / "out", "commits")
    assert {row["attempt"] for row in rows} == {1, 2}


def test_what_is_left_to_save_waits_for_no_slow_bucket(monkeypatch):
    monkeypatch.setattr(pace, "PACES", {})
    slow = pace.pace_of("http://slow")
    slow.slow_down(slow.wait())  # one request in two seconds
    ShardWorker.leave(Mock())
    began = time.monotonic()
    for _ in range(20):
        slow.wait()
    assert time.monotonic() - began < 2
