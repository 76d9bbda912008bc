"""Memory of the workers that measure, of those that enhance videos, and of the processes that load photographs."""

import subprocess
import sys
import threading

import cv2
import numpy as np
import pytest
from test_memory import begin, black, noisy

from clips import write_clip
from commands import rows_of
from disturbances import wait_for
from image_files import RGB
from sgllie.compare.run import prepare as prepare_comparison
from sgllie.compare.settings import CompareSettings
from sgllie.errors import ItemError
from sgllie.evaluate import problems
from sgllie.evaluate.run import prepare as prepare_evaluation
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.metrics import METRICS
from sgllie.runs import machine
from sgllie.runs.job import InProcess, run_job
from sgllie.runs.memory import MARGIN, budgets, lenient
from sgllie.storage import open_storage
from sgllie.train import photographs
from sgllie.video.reader import VideoReader
from video_jobs import settings_for, work


def test_one_alone_may_take_more_than_its_share_but_no_more_than_the_machine_has(monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16_000_000_000)
    monkeypatch.setattr(machine, "processors", lambda: 8.0)
    share = budgets(None)[1]
    budget = lenient(share, None)
    with budget.held(12_000_000_000):
        assert budget._free == 0, "nothing else beside it"
    with pytest.raises(ItemError, match="--worker-memory"):
        budget.check(13_600_000_000)
    strict = lenient(budgets(4)[1], 4)
    with pytest.raises(ItemError):
        strict.check(strict.total + 1)


def small_machine(monkeypatch):
    """A machine of 1.2 GB, of which 0.3 GB are for pixels."""
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1_200_000_000)
    monkeypatch.setattr(machine, "processors", lambda: 1.0)


def large_and_small(folder):
    folder.mkdir()
    (folder / "large.png").write_bytes(black(3000))
    (folder / "small.png").write_bytes(black(200))
    return folder


@pytest.mark.jobs
@pytest.mark.parametrize("isolated", [False, True])
def test_evaluate_refuses_what_the_machine_cannot_hold(tmp_path, monkeypatch, isolated):
    small_machine(monkeypatch)
    settings = EvaluateSettings(
        images=str(large_and_small(tmp_path / "in")), output=str(tmp_path / "out"), metrics="brightness,entropy"
    )
    if isolated:
        begin(prepare_evaluation, settings)
    assert run_job(prepare_evaluation, settings, InProcess()) == (0 if isolated else 3)
    large, small = sorted(rows_of(tmp_path / "out"), key=lambda row: row["path"])
    assert small["status"] == "ok"
    if not isolated:  # one at a time, whose headers nobody trusts
        assert large["error_type"] == "memory"


def test_compare_refuses_what_the_machine_cannot_hold(tmp_path, monkeypatch):
    small_machine(monkeypatch)
    settings = CompareSettings(
        input=str(large_and_small(tmp_path / "in")),
        output=str(tmp_path / "out"),
        methods="msrcr",
        metrics="brightness",
        shown=0,
    )
    assert run_job(prepare_comparison, settings, InProcess()) == 3
    found = {(row["path"], row["method"]): row["error_type"] for row in rows_of(tmp_path / "out")}
    assert found["large.png", "msrcr"] == "memory"
    assert found["small.png", "msrcr"] is None


def test_files_larger_than_the_machine_are_not_even_read(tmp_path, monkeypatch):
    small_machine(monkeypatch)
    folder = large_and_small(tmp_path / "in")
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(1 << 30)
    settings = EvaluateSettings(images=str(folder), output=str(tmp_path / "out"), metrics="brightness")
    monkeypatch.setattr(problems, "failure_of", None)  # called where a file cannot be read
    run_job(prepare_evaluation, settings, InProcess())
    errors = {row["path"]: row["error_type"] for row in rows_of(tmp_path / "out")}
    assert errors["sparse.png"] == "memory"


def test_a_video_is_refused_before_a_picture_is_decoded(tmp_path, monkeypatch):
    small_machine(monkeypatch)
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in/large.mp4", [cv2.resize(RGB, (1920, 1080))] * 2, sound=False)
    write_clip(tmp_path / "in/small.mp4", [cv2.resize(RGB, (160, 96))] * 2, sound=False)
    monkeypatch.setattr(VideoReader, "_first_frame", lambda self: pytest.fail("decoded"))
    with pytest.raises(ItemError, match=r"the video needs 0.8 GB of memory") as raised:
        VideoReader(str(tmp_path / "in/large.mp4"), 1, lenient(budgets(None)[1], None))
    assert raised.value.error_type == "memory"
    monkeypatch.undo()
    small_machine(monkeypatch)
    assert work(settings_for(tmp_path / "in", tmp_path / "out"))["errors"] == {"memory": 1}
    assert [row["status"] for row in rows_of(tmp_path / "out")] == ["failed", "ok"]


@pytest.mark.parametrize("options", [{"preset": "veryslow"}, {"threads": 16}], ids=["preset", "threads"])
def test_a_costly_encoder_counts_twice(tmp_path, monkeypatch, options):
    small_machine(monkeypatch)
    (tmp_path / "in").mkdir()
    write_clip(tmp_path / "in/clip.mp4", [cv2.resize(RGB, (960, 720))] * 2, sound=False)
    assert work(settings_for(tmp_path / "in", tmp_path / "usual"))["errors"] == {}
    assert work(settings_for(tmp_path / "in", tmp_path / "costly", **options))["errors"] == {"memory": 1}


def test_large_files_of_a_training_are_not_even_read(tmp_path, monkeypatch):
    small_machine(monkeypatch)
    photographs.files.cache_clear()
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(1 << 30)
    storage = open_storage(str(tmp_path))
    monkeypatch.setattr(storage, "read", lambda path: pytest.fail("read"))
    ((row,), (pixels,)) = photographs.inspect(storage, list(storage.list()), 8)
    assert pixels is None
    assert "the image needs 1.1 GB of memory" in row.error
    photographs.files.cache_clear()


def test_photographs_of_a_training_share_the_memory_of_a_process(monkeypatch):
    small_machine(monkeypatch)
    photographs.memory.cache_clear()
    data = black(1200)
    with photographs.memory().held(photographs.memory().total):
        thread = threading.Thread(target=photographs.load, args=(data, 8), daemon=True)
        thread.start()
        wait_for(lambda: photographs.memory()._waiting)
    thread.join()
    with pytest.raises(ItemError, match="take smaller photographs"):
        photographs.load(black(4000), 8)
    photographs.memory.cache_clear()


MEASURE_METRICS = """
import ctypes, re, sys
from pathlib import Path
import numpy as np
from sgllie.metrics import METRICS

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

image = np.load(sys.argv[1])
for metric in METRICS.values():
    if metric.load:
        continue
    arguments = (image, np.roll(image, 1, 0)) if metric.needs_reference else (image,)
    metric.function(*(one[:300] for one in arguments))
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    metric.function(*arguments)
    print(metric.name, (status("VmHWM") - before) / image[..., 0].size)
"""


@pytest.mark.jobs
def test_a_metric_needs_no_more_than_is_thought(tmp_path):
    np.save(tmp_path / "image.npy", noisy(RGB, 1400))
    found = subprocess.check_output([sys.executable, "-c", MEASURE_METRICS, tmp_path / "image.npy"], text=True)
    for line in found.splitlines():
        name, taken = line.split()
        assert float(taken) < MARGIN * METRICS[name].pixel_bytes, name
