"""Several commands that begin a run in one output at the same moment, and commands whose run is replaced."""

import dataclasses
import json
import multiprocessing
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from commands import assert_complete, make_corpus, rows_of
from disturbances import kill_after
from packs import make_tar, samples
from sgllie.enhance import packing
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import SgllieError, StorageError, UsageError
from sgllie.runs import journal, lock
from sgllie.runs.job import InProcess, finish, run_job
from sgllie.runs.worker import ShardWorker
from sgllie.storage import LocalStorage, open_storage

QUALITIES = (80, 80, 60)


def enhance(settings, barrier, answers, number):
    """Run one of several commands, all of them at once; tell its number and what it ends with."""
    barrier.wait()
    answers.put((number, answer_of(settings)))


def answer_of(settings):
    """The exit code of a command, or its sentence."""
    try:
        return run_job(prepare, settings, InProcess())
    except SgllieError as error:
        return str(error)


def at_once(settings):
    """What several commands end with that begin at the same moment, each in a process of its own."""
    context = multiprocessing.get_context("spawn")
    barrier, answers = context.Barrier(len(settings)), context.Queue()
    processes = [
        context.Process(target=enhance, args=(one, barrier, answers, number)) for number, one in enumerate(settings)
    ]
    for process in processes:
        process.start()
    found = dict(answers.get(timeout=120) for _ in processes)
    for process in processes:
        process.join()
    return [found[number] for number in range(len(settings))]


@pytest.fixture
def settings(tmp_path):
    """A job over a few images in several shards."""
    return EnhanceSettings(str(make_corpus(tmp_path / "in", 12)), str(tmp_path / "out"), device="cpu", shard_images=4)


@pytest.fixture(params=["local", pytest.param("s3", marks=pytest.mark.slow)])
def place(request, settings, tmp_path):
    """The settings of a job with its output in a folder or in a bucket, and what copies that into a folder."""
    if request.param == "local":
        return settings, lambda: tmp_path / "out"
    s3 = request.getfixturevalue("s3")

    def fetched():
        there, here = open_storage("s3://bucket/out", s3), LocalStorage(str(tmp_path / "out"))
        for entry in there.list():
            here.write(entry.path, there.read(entry.path))
        here.remove(".partial")
        return tmp_path / "out"

    return dataclasses.replace(settings, output="s3://bucket/out", s3=s3), fetched


@pytest.mark.jobs
@pytest.mark.parametrize("overwrite", [False, True])
def test_of_commands_that_begin_at_once_one_begins(place, tmp_path, overwrite):
    """The others go on with its run, or are refused; or, with --overwrite, one begins anew and the others stop."""
    settings, fetched = place
    if overwrite:
        assert run_job(prepare, dataclasses.replace(settings, quality=70, limit=5), InProcess()) == 0
    all_settings = [dataclasses.replace(settings, quality=quality, overwrite=overwrite) for quality in QUALITIES]
    answers = at_once(all_settings)
    output = fetched()
    run = json.loads((output / "run.json").read_text())
    winners = [quality == run["settings"]["quality"] for quality in QUALITIES]
    for answer, won in zip(answers, winners, strict=True):
        if won or isinstance(answer, int):
            assert answer in ((0, 1) if overwrite else (0,))
        else:
            assert "--quality" in answer
    if 0 not in [answer for answer, won in zip(answers, winners, strict=True) if won]:
        winner = dataclasses.replace(all_settings[winners.index(True)], overwrite=False)
        assert run_job(prepare, winner, InProcess()) == 0
        output = fetched()
    assert_complete(tmp_path / "in", output)


def test_a_command_stops_when_its_run_is_replaced(settings, tmp_path):
    run = prepare(settings)
    worker = ShardWorker(run, lambda *_: None)
    assert worker.run(0)[1] == ""
    assert run_job(prepare, dataclasses.replace(settings, overwrite=True, quality=60), InProcess()) == 0
    worker.checked = 0.0
    totals, error = worker.run(1)
    assert (totals, "another command has begun a new run" in error) == ({}, True)
    with pytest.raises(StorageError, match="another command has begun a new run"):
        run.check_replaced()
    assert_complete(tmp_path / "in", tmp_path / "out")


@pytest.mark.parametrize("packed", [False, True])
def test_a_run_takes_over_nothing_that_late_workers_of_an_earlier_one_save(settings, tmp_path, monkeypatch, packed):
    """They learn within seconds that it was replaced; until then all is written at once here."""
    monkeypatch.setattr(journal, "FLUSH_SECONDS", 0)
    monkeypatch.setattr(packing, "SEGMENT_BYTES", 1)
    if packed:
        tar = make_tar(tmp_path / "packs/a.tar", samples(sorted((tmp_path / "in").rglob("*.jpg"))))
        settings = dataclasses.replace(settings, input=str(tar.parent))
    anew = dataclasses.replace(settings, overwrite=True, quality=60)
    late = prepare(settings).make_pipeline(lambda *_: None).images
    runs, one_at_a_time, process = [], threading.Lock(), late.image_processor

    def overtaken(*arguments):
        with one_at_a_time:
            if not runs:
                runs.append(prepare(anew))
        return process(*arguments)

    late.image_processor = overtaken
    with pytest.raises(StorageError, match="another command has begun a new run"):
        late.run(0)
    pipeline = runs[0].make_pipeline(lambda *_: None)
    totals = finish(runs[0], {shard: pipeline.run(shard) for shard in runs[0].shards}, InProcess())
    assert totals["ok"] == 12
    assert {row["attempt"] for row in rows_of(tmp_path / "out")} == {1}
    assert run_job(prepare, dataclasses.replace(anew, output=str(tmp_path / "undisturbed")), InProcess()) == 0
    written, expected = (
        {path.name: path.read_bytes() for path in (tmp_path / name / "images").rglob("*") if path.is_file()}
        for name in ("out", "undisturbed")
    )
    assert written == expected


def test_a_commit_that_arrives_after_its_run_was_replaced_does_not_count(settings, tmp_path):
    """As one does that a slow bucket had wait: its run was still there when it was sent."""
    late = prepare(settings).make_pipeline(lambda *_: None).images
    late.run(0)
    commit = tmp_path / "out/commits/part-00000.parquet"
    stale = commit.read_bytes()
    anew = dataclasses.replace(settings, quality=60)
    run = prepare(dataclasses.replace(anew, overwrite=True))
    commit.parent.mkdir(exist_ok=True)
    commit.write_bytes(stale)  # before the shard of the new run is begun
    pipeline = run.make_pipeline(lambda *_: None)
    done = {shard: pipeline.run(shard) for shard in run.shards}
    assert commit.read_bytes() != stale
    commit.write_bytes(stale)  # and after it is done
    with pytest.raises(StorageError, match="is of a run that was replaced; the same command does its shard again"):
        finish(run, done, InProcess())
    assert run_job(prepare, anew, InProcess()) == 0
    assert commit.read_bytes() != stale
    assert_complete(tmp_path / "in", tmp_path / "out")


def test_a_command_whose_manifest_is_gone_stops_with_a_sentence(settings):
    """As in the moment in which another one begins anew."""
    run = prepare(settings)
    run.output.remove("manifest/part-00001.parquet")
    worker = ShardWorker(run, lambda *_: None)
    assert worker.run(0)[1] == ""
    assert worker.run(1)[1].endswith("/out/manifest/part-00001.parquet is not there any more")


@pytest.mark.jobs
def test_an_overwriting_command_that_is_killed_leaves_nothing_to_resume(settings, tmp_path, monkeypatch):
    """Whichever of its steps was its last."""
    assert run_job(prepare, settings, InProcess()) == 0
    anew = dataclasses.replace(settings, overwrite=True, quality=60)
    for steps in range(20):
        with monkeypatch.context() as patch:
            kill_after(patch, steps, "remove", "write", "commit")
            patch.setattr(lock, "beat", lambda *_: None)
            try:
                prepare(anew)
                break
            except KeyboardInterrupt:
                pass
        for path in (tmp_path / "out").glob(".begin-*"):
            path.unlink()
        for one in (settings, dataclasses.replace(anew, overwrite=False)):
            answer = answer_of(one)
            if answer == 0:
                assert_complete(tmp_path / "in", tmp_path / "out")
            else:
                assert "--quality" in answer or "is not complete (an --overwrite was killed?)" in answer
    else:
        pytest.fail("it was never finished")
    assert run_job(prepare, dataclasses.replace(anew, overwrite=False), InProcess()) == 0
    assert_complete(tmp_path / "in", tmp_path / "out")


def test_one_holds_the_lock_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0.02)
    output, inside, most = open_storage(str(tmp_path)), [], []

    def hold(number):
        with lock.alone(output):
            inside.append(number)
            most.append(len(inside))
            inside.remove(number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(hold, range(8)))
    assert most == [1] * 8
    assert list(tmp_path.iterdir()) == []


def test_a_dead_holder_is_followed_by_one_of_those_that_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "DEAD_SECONDS", 0.5)
    monkeypatch.setattr(lock, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.1)
    output = open_storage(str(tmp_path))
    output.create(".begin-0", b"of a command that was killed")
    held = threading.Semaphore(1)

    def hold(_):
        with lock.alone(output):
            assert held.acquire(blocking=False)
            threading.Event().wait(0.7)  # longer than a dead one is waited for
            held.release()

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(hold, range(3)))
    assert list(tmp_path.glob(".begin-*")) == []


def test_a_holder_that_was_taken_for_dead_is_told(tmp_path):
    output = open_storage(str(tmp_path))
    with lock.alone(output) as check:
        check()
        output.create(".begin-1", b"of another command")
        with pytest.raises(UsageError, match="another command has begun a run"):
            check()


@pytest.mark.parametrize("source", ["link/../x", "link/../x/*.jpg", "link/../x/", "out/stats/../stats/x/.", "link/.."])
def test_the_input_is_never_removed_through_a_link_and_back(tmp_path, monkeypatch, source):
    """What `..` behind a link means is not in the text of a path."""
    make_corpus(tmp_path / "in", 2)
    output = tmp_path / "out"
    assert run_job(prepare, EnhanceSettings(str(tmp_path / "in"), str(output), device="cpu"), InProcess()) == 0
    inner = output / "stats/x"
    shutil.copytree(tmp_path / "in/000", inner)
    (tmp_path / "link").symlink_to(inner)
    monkeypatch.chdir(tmp_path)
    for named in (source, f"{tmp_path}/{source}"):
        with pytest.raises(UsageError, match="--overwrite would remove the input"):
            prepare(EnhanceSettings(named, "out", device="cpu", overwrite=True))
    assert len(list(inner.iterdir())) == 2
