"""Memory of a worker: what an image needs is known before it is decoded, and what is in hand stays within a budget."""

import contextlib
import dataclasses
import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image

from commands import journal_of, make_corpus, rows_of
from disturbances import TOGETHER, wait_for
from image_files import GREY, RGB, pillow, png, tiff
from places import HOOKS
from sgllie.enhance.isolated import ProcessorInSteps
from sgllie.enhance.memory import PROCESS_BYTES
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import ItemError
from sgllie.runs import allocator, machine
from sgllie.runs.job import InProcess, run_job
from sgllie.runs.memory import LEAST_BYTES, MARGIN, TORCH_BYTES, WORKER_BYTES, MemoryBudget, budgets, worker_bytes
from sgllie.runs.shard_runner import WAITING_THREADS

pytestmark = pytest.mark.jobs


class Waiting:
    """Threads that hold a part of a budget until they are told to go."""

    def __init__(self, budget):
        self.budget, self.inside, self.gates, self.threads = budget, [], {}, []

    def start(self, name, needed):
        gate = self.gates[name] = threading.Event()

        def hold():
            with self.budget.held(needed):
                self.inside.append(name)
                gate.wait(10)
                self.inside.remove(name)

        self.threads.append(threading.Thread(target=hold))
        self.threads[-1].start()
        wait_for(lambda: name in self.inside or self.budget._waiting)

    def end(self, name):
        self.gates[name].set()
        wait_for(lambda: name not in self.inside)


@pytest.fixture
def waiting():
    waiting = Waiting(MemoryBudget(10))
    yield waiting
    for name in waiting.gates:
        waiting.end(name)
    for thread in waiting.threads:
        thread.join()
    assert waiting.budget._free == 10


def test_small_ones_run_side_by_side_and_large_ones_one_after_another(waiting):
    for name, needed in (("a", 3), ("b", 3), ("c", 4), ("large", 9)):
        waiting.start(name, needed)
    assert waiting.inside == ["a", "b", "c"]
    waiting.end("a")
    waiting.end("b")
    assert waiting.inside == ["c"]
    waiting.end("c")
    wait_for(lambda: waiting.inside == ["large"])


def test_nobody_overtakes_what_needs_much(waiting):
    for name, needed in (("a", 3), ("large", 9), ("b", 1)):
        waiting.start(name, needed)
    assert waiting.inside == ["a"]
    assert len(waiting.budget._waiting) == 2
    waiting.end("a")
    wait_for(lambda: sorted(waiting.inside) == ["b", "large"])


def test_what_needs_more_than_there_is_waits_for_nobody(waiting):
    waiting.start("a", 10)
    with (
        pytest.raises(ItemError, match=r"needs 7.2 GB .* may use 0.1 GB .*--worker-memory") as raised,
        waiting.budget.held(7_110_000_000),
    ):
        pass
    assert raised.value.error_type == "memory"


def test_what_fails_gives_its_part_back():
    budget = MemoryBudget(10)
    for _ in range(3):
        with pytest.raises(KeyError), budget.held(8):
            raise KeyError


def test_many_threads_never_hold_more_than_there_is_and_all_end():
    budget, held, most, lock = MemoryBudget(100), 0, 0, threading.Lock()

    def work(needed):
        nonlocal held, most
        with budget.held(needed):
            with lock:
                held += needed
                most = max(most, held)
            time.sleep(0.0001)
            with lock:
                held -= needed

    sizes = random.Random(0)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(work, [sizes.choice((0, 1, 30, 60, 100)) for _ in range(1000)], timeout=60))
    assert 60 <= most <= 100


def group(folder, setting, value):
    (folder / setting).parent.mkdir(parents=True, exist_ok=True)
    (folder / setting).write_text(f"{value}\n")


@pytest.mark.parametrize(
    ("membership", "settings", "memory", "processors"),
    [
        ("0::/pod/one", {"pod/memory.max": 3 << 20, "pod/one/memory.max": "max"}, 3 << 20, None),
        ("0::/pod/one", {"pod/memory.max": 3 << 20, "pod/one/memory.max": 2 << 20}, 2 << 20, None),
        ("0::/../elsewhere", {"memory.max": 5 << 20, "cpu.max": "50000 100000"}, 5 << 20, 0.5),
        ("0::/", {"memory.max": "max", "cpu.max": "max 100000"}, None, None),
        ("4:memory:/docker/1", {"memory/memory.limit_in_bytes": 7 << 20}, 7 << 20, None),
        ("4:memory:/a", {"memory/a/memory.limit_in_bytes": 9223372036854771712}, None, None),
        ("2:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": 25000, "cpu/a/cpu.cfs_period_us": 100000}, None, 0.25),
        ("2:cpu,cpuacct:/a", {"cpu/a/cpu.cfs_quota_us": -1, "cpu/a/cpu.cfs_period_us": 100000}, None, None),
        (None, {}, None, None),
    ],
)
def test_a_container_has_what_its_control_groups_leave(tmp_path, membership, settings, memory, processors):
    if membership:
        group(tmp_path, "proc/self/cgroup", f"1:name=systemd:/x\n{membership}")
    for setting, value in settings.items():
        group(tmp_path / "sys/fs/cgroup", setting, value)
    nowhere = tmp_path / "nowhere"
    assert machine.memory_bytes(tmp_path) == (memory or machine.memory_bytes(nowhere))
    assert machine.processors(tmp_path) == (processors or machine.processors(nowhere))


def test_a_worker_has_its_share_of_the_machine(monkeypatch):
    monkeypatch.setattr(machine, "memory_bytes", lambda: 16 << 30)
    monkeypatch.setattr(machine, "processors", lambda: 8.0)
    assert 1.8e9 < worker_bytes(None) < 2 << 30
    monkeypatch.setattr(machine, "processors", lambda: 128.0)
    assert worker_bytes(None) == WORKER_BYTES + LEAST_BYTES
    assert sum(budget.total for budget in budgets(5)) == 5_000_000_000 - WORKER_BYTES


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_torch_has_its_share_of_a_worker(monkeypatch, device):
    """With a GPU, even where that cannot be opened; and where it reads the weights."""
    bare = sum(budget.total for budget in budgets(5))
    pth = EnhanceSettings("in", "out", method="zero-dce", weights="s3://bucket/zero_dce.pth", device="cpu")
    assert [pth.loads_torch, EnhanceSettings("in", "out", device=device).loads_torch] == [True, device == "cuda"]
    assert sum(budget.total for budget in budgets(5, True)) == bare - TORCH_BYTES
    monkeypatch.setattr(machine, "share", machine.Share(4, 0.25))
    assert sum(budget.total for budget in budgets(5)) == bare - TORCH_BYTES
    assert sum(budget.total for budget in budgets(0.1)) == LEAST_BYTES


TORCH = """
import re, sys
from pathlib import Path
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.settings import EnhanceSettings

processor = ImageProcessor(EnhanceSettings("in", "out", device="cpu"))
if sys.argv[2] == "torch":
    from sgllie.network.torch_engine import TorchEngine

    processor.method.engine = TorchEngine(processor.method.weights, "cpu")
assert processor("a.jpg", Path(sys.argv[1]).read_bytes()).row["status"] == "ok"
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024)
"""


def test_torch_takes_no_more_than_is_thought(tmp_path):
    image = make_corpus(tmp_path, 1) / "000/00000.jpg"
    without, with_torch = (
        int(subprocess.check_output([sys.executable, "-c", TORCH, image, engine])) for engine in ("onnx", "torch")
    )
    assert with_torch - without < TORCH_BYTES
    assert without < WORKER_BYTES - PROCESS_BYTES


MEASURE = """
import ctypes, json, re, sys
from pathlib import Path
from sgllie import images
from sgllie.enhance.memory import bytes_needed
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.settings import EnhanceSettings

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

for kind, method, format, scale in json.loads(sys.argv[2]):
    settings = EnhanceSettings("in", "out", method=method, format=format, scale_factor=scale, worker_memory=9)
    processor = ImageProcessor(settings)
    assert processor("small", Path(sys.argv[1], f"{kind} 100").read_bytes()).row["status"] == "ok"
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, data = status("VmRSS"), Path(sys.argv[1], f"{kind} 1400").read_bytes()
    assert processor("large", data).row["status"] == "ok"
    print(status("VmHWM") - before, bytes_needed(images.open_image(data), settings) + len(data))
"""


def noisy(pixels, side):
    large = cv2.resize(pixels, (side, side)) // 2
    return large + np.random.default_rng(0).integers(0, 24, large.shape[:2], np.uint8).reshape(
        side, side, *[1] * (large.ndim - 2)
    )


KINDS = {
    "jpeg": lambda side: pillow(noisy(RGB, side), "JPEG", quality=95),
    "grey jpeg": lambda side: pillow(noisy(GREY, side), "JPEG", quality=95),
    "progressive jpeg": lambda side: pillow(noisy(RGB, side), "JPEG", quality=98, progressive=True, subsampling=0),
    "cmyk jpeg": lambda side: pillow(noisy(RGB, side), "JPEG", mode="CMYK"),
    "png": lambda side: pillow(noisy(RGB, side), "PNG", compress_level=1),
    "grey png": lambda side: pillow(noisy(GREY, side), "PNG", compress_level=1),
    "deep png": lambda side: png(noisy(RGB, side).astype(np.uint16) * 257, 2, 16),
    "webp": lambda side: pillow(noisy(RGB, side), "WEBP", method=0),
    "lossless webp": lambda side: pillow(noisy(RGB, side), "WEBP", lossless=True, quality=0, method=0),
    "bmp": lambda side: pillow(noisy(RGB, side), "BMP"),
    "tiff": lambda side: pillow(noisy(RGB, side), "TIFF"),
    "deep tiff": lambda side: tiff(noisy(RGB, side).astype(np.uint16) * 257, photometric="rgb"),
}
CASES = [(kind, "sgz", "same", 12) for kind in KINDS] + [
    ("jpeg", "sgz", "png", 12),
    ("jpeg", "sgz", "webp", 12),
    ("deep png", "sgz", "jpeg", 12),
    ("jpeg", "sgz", "same", 2),
    *(("jpeg", method, "same", 12) for method in ("lime", "pie", "msrcr", "clahe", "gamma")),
    ("deep png", "msrcr", "same", 12),
]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """For each case the bytes that it took, and those that it was thought to take."""
    folder = tmp_path_factory.mktemp("images")
    for kind, make in KINDS.items():
        for side in (100, 1400):
            (folder / f"{kind} {side}").write_bytes(make(side))
    words = subprocess.check_output([sys.executable, "-c", MEASURE, folder, json.dumps(CASES)], text=True).split()
    numbers = map(int, words)
    return dict(zip(CASES, zip(numbers, numbers, strict=True), strict=True))


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case)))
def test_an_image_needs_no_more_than_is_thought(measured, case):
    taken, thought = measured[case]
    assert thought / 3 < taken < thought


def black(side):
    """A grey PNG of side x side pixels: a few kilobytes."""
    return pillow(Image.new("1", (side, side)), "PNG")


def begin(prepare, settings):
    """Begin a run, whose first shard looks as if its first attempt had killed the worker."""
    prepare(settings)
    journal = journal_of(Path(settings.output), 0)
    journal.mkdir(parents=True)
    (journal / "attempt-1").touch()


@pytest.mark.parametrize("isolated", [False, True])
def test_a_large_image_is_a_row_and_small_ones_are_enhanced(tmp_path, isolated):
    make_corpus(tmp_path / "in", 12)
    (tmp_path / "in/000/large.png").write_bytes(black(6000))
    (tmp_path / "in/000/middling.png").write_bytes(black(3000))
    settings = EnhanceSettings(
        str(tmp_path / "in"), str(tmp_path / "out"), device="cpu", worker_memory=1, include=("*",)
    )
    if isolated:
        begin(prepare, settings)
    assert run_job(prepare, settings, InProcess()) == 3
    rows = {row["path"]: row for row in rows_of(tmp_path / "out")}
    large = rows.pop("000/large.png")
    assert large["error_type"] == "memory"
    assert "needs 0.5 GB of memory, and its worker may use 0.4 GB" in large["error"]
    assert large["attempt"] == 1 + isolated
    assert {row["status"] for row in rows.values()} == {"ok"}
    again = dataclasses.replace(settings, retry_failed=True, worker_memory=2)
    assert run_job(prepare, again, InProcess()) == 0


def test_a_file_that_is_larger_than_the_worker_is_not_even_read(tmp_path):
    (tmp_path / "in").mkdir()
    with (tmp_path / "in/film.jpg").open("wb") as file:
        file.truncate(1 << 32)
    settings = EnhanceSettings(str(tmp_path / "in"), str(tmp_path / "out"), device="cpu", worker_memory=1)
    assert run_job(prepare, settings, InProcess()) == 3
    (row,) = rows_of(tmp_path / "out")
    assert row["error_type"] == "memory"
    assert row["read_ms"] is None


JOB = """
import sys
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess, run_job

settings = EnhanceSettings(sys.argv[1], sys.argv[2], device="cpu", worker_memory=1, threads=4, include=("*",))
sys.exit(run_job(prepare, settings, InProcess()))
"""


@pytest.mark.parametrize("isolated", [False, True])
def test_a_worker_and_its_processes_stay_within_their_memory(tmp_path, isolated):
    for number in range(4):
        (tmp_path / "in").mkdir(exist_ok=True)
        (tmp_path / f"in/{number}.png").write_bytes(black(4600))
    if isolated:
        begin(prepare, EnhanceSettings(str(tmp_path / "in"), str(tmp_path / "out"), device="cpu", include=("*",)))
    command = [sys.executable, "-c", JOB, tmp_path / "in", tmp_path / "out"]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    peak = 0
    while job.poll() is None:
        peak = max(peak, resident(psutil.Process(job.pid)))
        time.sleep(0.05)
    assert job.returncode == 0
    assert 350e6 < peak < (900e6 if isolated else 600e6)
    assert {row["attempt"] for row in rows_of(tmp_path / "out")} == {1 + isolated}


def resident(job):
    """Bytes of a process and all below it."""
    total = 0
    for process in (job, *job.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            total += process.memory_info().rss
    return total


def test_freed_buffers_go_back_before_a_large_image(monkeypatch):
    trimmed = []
    library = SimpleNamespace(malloc_trim=trimmed.append)
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: library)
    held = allocator.resident_bytes()
    allocator.make_room(10_000_000, 0)
    allocator.make_room(20_000_000, held + 500_000_000)
    assert not trimmed
    allocator.make_room(20_000_000, held // 2)
    assert trimmed == [0]


def test_isolated_images_are_worked_on_side_by_side_and_a_large_one_alone(tmp_path, monkeypatch):
    """Two of them wait for each other; a third one needs more than two processes leave of the memory."""
    make_corpus(tmp_path / "in", 2)
    for path in (tmp_path / "in").rglob("*.jpg"):
        path.write_bytes(path.read_bytes() + TOGETHER)
    (tmp_path / "in/000/large.png").write_bytes(black(7200))
    (tmp_path / "meeting").mkdir()
    monkeypatch.setenv("PYTHONPATH", HOOKS, prepend=os.pathsep)
    monkeypatch.setenv("MEETING", str(tmp_path / "meeting"))
    monkeypatch.setitem(WAITING_THREADS, "local", 0)  # the large one begins when one of the others is done
    settings = EnhanceSettings(
        str(tmp_path / "in"), str(tmp_path / "out"), device="cpu", worker_memory=1.6, deadline=120
    )
    begin(prepare, settings)
    assert budgets(1.6)[1].total - PROCESS_BYTES < 7200**2 * 9.1 * MARGIN < budgets(1.6)[1].total
    assert run_job(prepare, settings, InProcess()) == 0
    assert [row["attempt"] for row in rows_of(tmp_path / "out")] == [2, 2, 2]


def test_an_isolated_image_has_the_memory_of_its_worker(monkeypatch):
    """Its process has one processor of the machine, and the worker that has begun it may have several."""
    monkeypatch.setattr(machine, "memory_bytes", lambda: 1 << 30)
    data, needed, settings = black(5000), int(5000**2 * 9.1 * MARGIN), EnhanceSettings("in", "out", include=("*",))
    assert budgets(None)[1].total < needed
    assert ProcessorInSteps(needed + 1, settings)(data, "a.png").row["status"] == "ok"
    assert ProcessorInSteps(needed - 1, settings)(data, "a.png").row["error_type"] == "memory"
