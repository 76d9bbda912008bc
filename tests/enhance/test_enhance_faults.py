"""The enhancement job is killed, starved and lied to; nothing is lost, nothing is doubled."""

import dataclasses
import os
import random
import signal
import subprocess
import time

import psutil
import pytest

from commands import assert_complete, command, kill_all, make_corpus, rows_of, sgllie, start
from disturbances import ENDLESS, MARKER, slowed, wait_for, workers_of, written
from places import HOOKS
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess, run_job

pytestmark = pytest.mark.jobs


@pytest.mark.slow
def test_the_driver_alone_is_killed_and_then_the_workers_of_the_next(tmp_path):
    source, output = make_corpus(tmp_path / "in", 3000), tmp_path / "out"
    slowed(source, "*5.jpg")  # so that the second job is at work still when its workers are killed
    line = ("enhance", source, output, "--num-actors", 2)  # with which no child process of the command begins
    first = start(*line, PYTHONPATH=HOOKS)
    wait_for(lambda: written(output) > 50)
    first.kill()
    job = start(*line, PYTHONPATH=HOOKS)  # the workers of the first command are still at it
    wait_for(lambda: workers_of(job))
    before = written(output)
    wait_for(lambda: written(output) > before + 50)
    for worker in workers_of(job):  # of which some have a shard in hand, and others may not have begun
        worker.send_signal(signal.SIGKILL)
    assert job.wait(300) == 0
    rows = assert_complete(source, output)
    assert max(row["attempt"] for row in rows) > 1
    first.wait()


def test_everything_is_killed_three_times(tmp_path):
    source, output = make_corpus(tmp_path / "in", 3000), tmp_path / "out"
    chance = random.Random(7)
    for _ in range(3):
        before = written(output)
        job = start("enhance", source, output, "--shard-images", 250)
        wait_for(lambda before=before: written(output) > before)
        time.sleep(chance.uniform(0.1, 0.8))
        kill_all(job)
        assert not (output / "_SUCCESS").exists()
    result = sgllie("enhance", source, output, "--shard-images", 250)
    assert result.returncode == 0, result.stderr
    rows = assert_complete(source, output)
    assert max(row["attempt"] for row in rows) > 1


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_that_is_asked_to_stop_says_so_and_goes_on_later(tmp_path, number):
    source, output = make_corpus(tmp_path / "in", 3000), tmp_path / "out"
    job = subprocess.Popen(
        command("enhance", source, output), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: written(output) > 50)
    job.send_signal(number)
    out, err = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "Stopped: interrupted. What is done is kept; the next command goes on from there." in out
    assert "Traceback" not in err
    assert "SIGTERM" not in err
    assert sgllie("enhance", source, output).returncode == 0
    assert_complete(source, output)


def test_ctrl_c_while_the_job_still_starts(tmp_path):
    source = make_corpus(tmp_path / "in", 10)
    line = command("enhance", source, tmp_path / "out", "--num-actors", 1)  # a number of workers asks for a cluster
    job = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: (tmp_path / "out").exists())
    job.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=60)
    assert (job.returncode, err) == (1, "sgllie enhance: interrupted; the same command goes on from what is done\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_job_is_stopped_before_it_has_begun(tmp_path, number):
    """It has listed its input, and waits for another command."""
    source, scratch = make_corpus(tmp_path / "in", 3), tmp_path / "scratch"
    (tmp_path / "out").mkdir()
    (tmp_path / "out/.begin-0").write_text("of another command")
    scratch.mkdir()
    line, environment = command("enhance", source, tmp_path / "out"), os.environ | {"TMPDIR": str(scratch)}
    job = subprocess.Popen(line, stderr=subprocess.PIPE, text=True, env=environment)
    wait_for(lambda: list(scratch.glob("*/part-*")))
    job.send_signal(number)
    _, err = job.communicate(timeout=60)
    assert (job.returncode, err) == (1, "sgllie enhance: interrupted; the same command goes on from what is done\n")
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_small_job_is_stopped_and_goes_on_later(tmp_path, number):
    """No cluster, no images done twice, and no process is left."""
    source, output = make_corpus(tmp_path / "in", 60), tmp_path / "out"
    environment = os.environ | {"PYTHONPATH": HOOKS, "HOLD": "commits/part-*.parquet"}
    job = subprocess.Popen(command("enhance", source, output), stdout=subprocess.PIPE, text=True, env=environment)
    wait_for(lambda: len(list(output.glob("commits/part-*.parquet"))) == 1)
    children = psutil.Process(job.pid).children(recursive=True)
    job.send_signal(number)
    out, _ = job.communicate(timeout=60)
    assert job.returncode == 1
    assert "Stopped: interrupted. What is done is kept; the next command goes on from there." in out
    assert "Ray" not in out
    assert not psutil.wait_procs(children, timeout=10)[1]
    assert sgllie("enhance", source, output).returncode == 0
    assert_complete(source, output)


def test_ctrl_c_is_nothing_to_a_child_however_young(tmp_path):
    """A terminal sends it to all processes of a command; this one has just begun to import."""
    source = make_corpus(tmp_path / "in", 20)
    job = subprocess.Popen(command("enhance", source, tmp_path / "out"), stderr=subprocess.PIPE, text=True)
    began = wait_for(lambda: [one for one in psutil.Process(job.pid).children() if "spawn_main" in str(one.cmdline())])
    child = began[0]
    wait_for(lambda: any("site-packages" in mapped.path for mapped in child.memory_maps()))
    child.send_signal(signal.SIGINT)
    _, err = job.communicate(timeout=60)
    assert (job.returncode, err) == (0, "")


def test_a_child_that_is_killed_gives_its_shard_back(tmp_path):
    source, output = slowed(make_corpus(tmp_path / "in", 60)), tmp_path / "out"
    job = start("enhance", source, output, PYTHONPATH=HOOKS)
    wait_for(lambda: len(list(output.glob("images/*/*.jpg"))) > 5)
    workers = [child for child in psutil.Process(job.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    assert job.wait(120) == 0
    assert {row["attempt"] for row in assert_complete(source, output)} == {1, 2}


def test_an_image_that_kills_its_process(tmp_path):
    source, output = make_corpus(tmp_path / "in", 501), tmp_path / "out"
    killer = source / "002" / "00250.jpg"
    killer.write_bytes(killer.read_bytes() + MARKER)
    result = sgllie("enhance", source, output, PYTHONPATH=HOOKS)
    assert result.returncode == 3, result.stderr
    assert "500 enhanced, 1 failed (1 crash)" in result.stdout
    rows = assert_complete(source, output, failed=1)
    assert [row["path"] for row in rows if row["error_type"] == "crash"] == ["002/00250.jpg"]

    # Without the hook it is an ordinary image: --retry-failed replaces just that row.
    result = sgllie("enhance", source, output, "--retry-failed")
    assert result.returncode == 0, result.stderr
    again = assert_complete(source, output)
    assert [row for row in again if row["path"] != "002/00250.jpg"] == [
        row for row in rows if row["path"] != "002/00250.jpg"
    ]


def test_an_image_that_never_ends(tmp_path):
    source, output = make_corpus(tmp_path / "in", 60), tmp_path / "out"
    endless = source / "000" / "00025.jpg"
    endless.write_bytes(endless.read_bytes() + ENDLESS)
    result = sgllie("enhance", source, output, "--deadline", 2, PYTHONPATH=HOOKS)
    assert result.returncode == 3, result.stderr
    assert "59 enhanced, 1 failed (1 timeout)" in result.stdout
    rows = assert_complete(source, output, failed=1)
    found = next(row for row in rows if row["status"] == "failed")
    assert (found["path"], found["error"]) == ("000/00025.jpg", "working on it took longer than 2 s")


def test_too_many_failures_stop_the_job(here, tmp_path):
    source, output = make_corpus(tmp_path / "in", 200), tmp_path / "out"
    for path in sorted(source.rglob("*.jpg"))[:50]:
        path.write_bytes(b"no image")
    result = here("enhance", source, output, "--max-failures", "5%")
    assert result.returncode == 1
    assert "--max-failures 5% allows" in result.stdout
    assert not (output / "_SUCCESS").exists()
    assert here("enhance", source, output).returncode == 3
    assert_complete(source, output, failed=50)
    assert {row["error_type"] for row in rows_of(output)} == {None, "not_an_image"}


def test_failures_are_counted_at_the_end_and_by_the_next_command_too(tmp_path, capsys):
    """After the last look at the workers, or where nothing is left for them, as when a cluster tries a job again."""
    source, output = make_corpus(tmp_path / "in", 3), tmp_path / "out"
    (source / "000/00001.jpg").write_bytes(b"no image")
    strict = EnhanceSettings(str(source), str(output), device="cpu", max_failures="0")
    for _ in range(2):
        assert run_job(prepare, strict, InProcess()) == 1
        words = capsys.readouterr().out
        assert "1 image failed, more than --max-failures 0 allows" in words
        assert "the same command" not in words, "which would stop at once"
    assert not (output / "_SUCCESS").exists()
    for limit in ("1", "0"):  # what has finished stays finished
        assert run_job(prepare, dataclasses.replace(strict, max_failures=limit), InProcess()) == 3
    assert_complete(source, output, failed=1)
