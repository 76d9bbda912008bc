"""The training job as people run it: on Ray, killed, resumed, refused, on bad data. Small photographs, few epochs."""

import json
import os
import re
import shutil
import signal
import threading
import time

import psutil
import pytest

from breaking_proxy import ON_GET, ON_PUT, BreakingProxy
from commands import kill_all, sgllie, start
from devices import CUDA
from disturbances import wait_for
from places import HOOKS
from sgllie.network import weights
from sgllie.storage import open_storage
from trainings import EPOCHS, OPTIONS, fingerprint, history, photographs, training_processes

# A busy machine starts Ray's processes slowly; and the training that went through is that of all the tests.
pytestmark = [pytest.mark.timeout(1500), pytest.mark.jobs]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return photographs(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def undisturbed(data, tmp_path_factory):
    """A run that went through at one go, with one worker and photographs kept in memory."""
    run = tmp_path_factory.mktemp("undisturbed")
    result = sgllie("train", data, run, *OPTIONS, "--cache", "memory")
    assert result.returncode == 0, result.stdout + result.stderr
    return run


def test_what_a_run_leaves_behind(undisturbed, data):
    top = {path.name for path in undisturbed.iterdir() if path.is_file() or any(path.iterdir())}
    assert top == {
        *("run.json", "_SUCCESS", "weights", "checkpoints", "samples", "events", "metrics.csv", "curves.png"),
    }
    described = json.loads((undisturbed / "run.json").read_text())
    assert described["data"]["photographs"] == 24
    assert described["output_settings"]["optimiser.ema_decay"] == 0.5
    assert {"torch", "ray", "python"} <= set(described["versions"])
    rows = history(undisturbed)
    assert [int(row["epoch"]) for row in rows] == list(range(1, EPOCHS + 1))
    assert float(rows[-1]["validation_loss"]) < float(rows[0]["validation_loss"])
    assert [path.name for path in (undisturbed / "checkpoints").iterdir()] == [f"epoch-{EPOCHS:05d}"]
    assert len(list((undisturbed / "samples").iterdir())) == len(list((undisturbed / "events").iterdir())) == EPOCHS
    assert weights.load(str(undisturbed)).fingerprint == fingerprint(undisturbed, "best")


@pytest.mark.parametrize(
    ("options", "away"), [(["--num-workers", "2"], 1e-4), pytest.param(["--use-gpu"], 0.1, marks=CUDA.marks)]
)
def test_two_workers_and_one_on_a_gpu_train_as_one_does(here, undisturbed, data, tmp_path, options, away):
    """With photographs decoded anew in each epoch, which must make no difference either."""
    result = here("train", data, tmp_path, *OPTIONS, "--cache", "none", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "decoded again in each epoch" in result.stdout
    for one, two in zip(history(undisturbed), history(tmp_path), strict=True):
        for name in one:
            if re.fullmatch(r"(training|validation)_(loss|total_variation|spatial|colour|exposure)", name):
                assert float(two[name]) == pytest.approx(float(one[name]), rel=away), name


@pytest.mark.slow
def test_killed_and_started_again_it_ends_as_if_undisturbed(undisturbed, data, tmp_path):
    """In any moment: the first time during an epoch, the second time while a checkpoint is being written."""
    job = start("train", data, tmp_path, *OPTIONS)
    wait_for(lambda: (tmp_path / "checkpoints/epoch-00001/state.json").exists(), beside=job)
    kill_all(job)
    job = start("train", data, tmp_path, *OPTIONS)
    wait_for(lambda: (tmp_path / "checkpoints/epoch-00003").exists(), beside=job)
    job.send_signal(signal.SIGKILL)
    job.wait()
    result = sgllie("train", data, tmp_path, *OPTIONS)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Going on after epoch" in result.stdout
    assert len(history(tmp_path)) == EPOCHS
    assert fingerprint(tmp_path) == fingerprint(undisturbed)
    assert fingerprint(tmp_path, "best") == fingerprint(undisturbed, "best")


@pytest.mark.slow
def test_a_worker_that_is_killed_is_replaced(undisturbed, data, tmp_path):
    job = start("train", data, tmp_path, *OPTIONS)

    wait_for((tmp_path / "checkpoints/epoch-00001/state.json").exists, beside=job)
    wait_for(lambda: training_processes(psutil.Process(job.pid)), beside=job)[0].kill()
    assert job.wait(600) == 0
    assert fingerprint(tmp_path) == fingerprint(undisturbed)


def test_a_finished_run_says_so_and_other_settings_are_refused(here, undisturbed, data):
    before = fingerprint(undisturbed)
    again = here("train", data, undisturbed, *OPTIONS, "--num-workers", "2", "--loaders", "1")
    assert (again.returncode, again.stdout.count("\n")) == (0, 1)
    assert f"is finished: {EPOCHS} epochs" in again.stdout
    other = here("train", data, undisturbed, *OPTIONS, "--loss.colour", "4", "--seed", "3")
    assert other.returncode == 2
    assert "--seed (0 then, 3 now)" in other.stderr
    assert "--loss.colour (5.0 then, 4.0 now)" in other.stderr
    assert other.stderr.count("\n") == 1
    assert fingerprint(undisturbed) == before


@pytest.mark.slow
def test_a_run_that_was_killed_before_its_last_word_only_says_it(here, undisturbed, data, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(undisturbed, run)
    (run / "_SUCCESS").unlink()
    result = here("train", data, run, *OPTIONS)
    assert (result.returncode, fingerprint(run)) == (0, fingerprint(undisturbed)), result.stderr
    assert (run / "_SUCCESS").exists()


@pytest.mark.slow
def test_bad_images_are_left_out_and_named_and_other_photographs_refused(tmp_path):
    data = photographs(tmp_path / "data", 6)
    good = (data / "0/000.jpg").read_bytes()
    (data / "cut.jpg").write_bytes(good[: len(good) // 2])
    (data / "text.png").write_text("no image")
    (data / "deadly.jpg").write_bytes(good + b"KILL THE DECODER")
    (data / "notes.txt").write_text("not even by its name")
    hooks = HOOKS
    options = [*OPTIONS, "--epochs", "1"]
    result = sgllie("train", data, tmp_path / "run", *options, PYTHONPATH=hooks)
    assert result.returncode == 0, result.stdout + result.stderr
    for name in ("cut.jpg", "text.png", "deadly.jpg: decoding it killed its process"):
        assert f"Left out: {name}" in result.stdout
    described = json.loads((tmp_path / "run/run.json").read_text())["data"]
    assert (described["photographs"], described["bad"]) == (6, 3)
    assert {bad["path"] for bad in described["bad_examples"]} == {"cut.jpg", "text.png", "deadly.jpg"}
    (tmp_path / "run/_SUCCESS").unlink()
    (data / "0/000.jpg").unlink()
    result = sgllie("train", data, tmp_path / "run", *options, PYTHONPATH=hooks)
    assert result.returncode == 2
    assert "begun with other photographs (6 then, 5 now" in result.stderr


@pytest.mark.long
def test_photographs_that_are_gone_stop_the_training_and_back_again_it_goes_on(data, tmp_path):
    """Loading takes a tenth of a second for each photograph, so that it goes on long after the first epoch."""
    there, away, run = tmp_path / "data", tmp_path / "away", tmp_path / "run"
    for path in data.rglob("*.jpg"):
        copy = there / path.relative_to(data)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes() + b"WAIT WITH ME")
    options = [*OPTIONS, "--epochs", "40", "--cache", "none", "--loaders", "1"]
    hooks = {"PYTHONPATH": f"{HOOKS}:{os.environ.get('PYTHONPATH', '')}"}

    def take_away() -> None:
        wait_for((run / "checkpoints/epoch-00001/state.json").exists)
        there.rename(away)

    thief = threading.Thread(target=take_away, daemon=True)
    thief.start()
    result = sgllie("train", there, run, *options, **hooks)
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.fullmatch(
        rf"Stopped: {there} is not there any more: No such file or directory\. The same command goes on from the last "
        r"finished epoch\.",
        result.stdout.splitlines()[-1],
    )
    assert "Left out" not in result.stdout
    assert "Traceback" not in result.stdout + result.stderr
    away.rename(there)
    result = sgllie("train", there, run, *options, **hooks)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Going on after epoch" in result.stdout


@pytest.mark.slow
def test_a_training_that_collapses_stops_with_a_sentence(here, data, tmp_path):
    result = here("train", data, tmp_path, *OPTIONS, "--optimiser.learning-rate", "1e30")
    assert result.returncode == 1
    assert "the training has collapsed" in result.stdout
    assert "Traceback" not in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--batch-size", "5", "--num-workers", "2"], "--batch-size is 5; it must be a multiple of --num-workers (2)"),
        (
            ["--num-workers", "4", "--min-workers", "3"],
            "--batch-size is 4; it must be a multiple of --min-workers (3)",
        ),
        (["--min-workers", "2"], "--min-workers is 2; it must not be above --num-workers (1)"),
        (["--network.architecture", "vgg"], "--network.architecture is vgg; it must be one of sgz"),
        (["--network.initial-weights", "nowhere.safetensors"], "weights 'nowhere.safetensors' cannot be read"),
        (
            ["--loss.semantic", "0.1", "--guide.weights", "nowhere.pth"],
            "the guide's weights nowhere.pth cannot be read",
        ),
    ],
)
def test_wrong_usage_is_one_sentence(here, tmp_path, options, sentence):
    result = here("train", tmp_path, tmp_path / "run", *OPTIONS, *options)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert "Traceback" not in result.stderr


def test_data_that_holds_nothing(here, tmp_path):
    (tmp_path / "empty").mkdir()
    result = here("train", tmp_path / "empty", tmp_path / "run", *OPTIONS)
    assert result.returncode == 2
    assert "holds no images" in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("s3", ["moto"], indirect=True)
def test_photographs_and_run_on_s3(here, undisturbed, data, s3):
    """Under odd names, in an order that is that of the plain ones."""
    storage = open_storage("s3://bucket/data", s3)
    for path in data.rglob("*.jpg"):
        storage.write(f"a b+c/ü%2F夜/{path.relative_to(data)}", path.read_bytes())
    options = [*OPTIONS, "--s3.endpoint-url", s3.endpoint_url, "--s3.region", s3.region]
    result = here("train", "s3://bucket/data", "s3://bucket/run", *options)
    assert result.returncode == 0, result.stdout + result.stderr
    assert weights.load("s3://bucket/run/weights/last.safetensors", s3).fingerprint == fingerprint(undisturbed)
    again = here("train", "s3://bucket/data", "s3://bucket/run", *options)
    assert "is finished" in again.stdout
    found = {entry.path.split("/")[0] for entry in open_storage("s3://bucket/run", s3).list()}
    assert found == {"run.json", "_SUCCESS", "weights", "checkpoints", "samples", "events", "metrics.csv", "curves.png"}


@pytest.mark.long
def test_training_through_a_network_that_breaks(here, undisturbed, data, ceph, empty_bucket):
    """And killed after an epoch; and with the gateway killed and started again while it goes on."""
    s3 = empty_bucket(ceph.endpoint)
    storage, run = open_storage("s3://bucket/data", s3), open_storage("s3://bucket/run", s3)
    for path in data.rglob("*.jpg"):
        storage.write(str(path.relative_to(data)), path.read_bytes())
    proxy = BreakingProxy(s3.endpoint_url)
    proxy.start()

    def away() -> None:
        seen = proxy.requests
        while proxy.requests < seen + 30:
            time.sleep(0.05)
        ceph.kill_gateway()
        time.sleep(3)
        ceph.start_gateway()

    restart = threading.Thread(target=away)
    try:
        proxy.faults.share = 0.2
        options = [*OPTIONS, "--cache", "none", "--s3.endpoint-url", proxy.endpoint, "--s3.region", s3.region]
        job = start("train", "s3://bucket/data", "s3://bucket/run", *options)
        wait_for(lambda: run.exists("checkpoints/epoch-00001/state.json"), beside=job)
        kill_all(job)
        restart.start()
        result = here("train", "s3://bucket/data", "s3://bucket/run", *options)
        restart.join()
    finally:
        proxy.stop()
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Going on after epoch" in result.stdout
    assert set(proxy.faults.kinds()) == {*ON_GET, *ON_PUT}, "every fault was to happen"
    assert weights.load("s3://bucket/run/weights/last.safetensors", s3).fingerprint == fingerprint(undisturbed)
    assert weights.load("s3://bucket/run", s3).fingerprint == fingerprint(undisturbed, "best")
