"""Workers on GPUs that fail, or cannot be opened; the GPUs are pretended."""

import platform
import signal
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from sgllie.distributed import pool
from sgllie.distributed.pool import MOST_DEVICE_FAILURES, Progress, RayWorker, Shards, device_of_workers
from sgllie.enhance.run import EnhanceRun
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import DeviceError, DeviceMemoryError, NoDeviceError, SlowCurveWarning, UsageError
from sgllie.network import weights
from sgllie.network.torch_engine import TorchEngine
from sgllie.runs import machine

GPU = "node 0"
WHY = "the GPU does not work: CUDA error"


@pytest.fixture
def progress():
    """What counts the failures, in this process."""
    return Progress.__ray_metadata__.modified_class()


def test_one_event_that_ends_all_workers_of_a_gpu_counts_once(progress):
    known = progress.failures_of(GPU)
    for _ in range(4):
        progress.device_failed(GPU, known, WHY)
    assert not progress.broken(GPU)
    progress.device_failed(GPU, progress.failures_of(GPU), WHY)
    assert progress.broken(GPU)
    assert not progress.broken("node 1")


def test_a_shard_that_is_done_between_two_failures_clears_a_gpu(progress):
    for _ in range(2 * MOST_DEVICE_FAILURES):
        progress.device_failed(GPU, progress.failures_of(GPU), WHY)
        progress.device_works(GPU)
    assert not progress.broken(GPU)
    for _ in range(MOST_DEVICE_FAILURES):
        progress.device_failed(GPU, progress.failures_of(GPU), WHY)
    assert progress.broken(GPU)


class Remote:
    """An actor in this process."""

    def __init__(self, actor):
        self.actor = actor

    def __getattr__(self, name):
        return SimpleNamespace(remote=getattr(self.actor, name))


class Opening(EnhanceRun):
    """Whose workers cannot open the GPU, or are warned as they do."""

    error: Exception | None

    def make_pipeline(self, report):
        if self.device == "cuda" and isinstance(self.error, Warning):
            warnings.warn(self.error, stacklevel=2)
        elif self.device == "cuda" and self.error:
            raise self.error


@pytest.fixture
def begin(monkeypatch, progress):
    """Make a worker that is given a GPU, which fails with an error."""
    context = SimpleNamespace(
        get_node_id=lambda: "node",
        get_accelerator_ids=lambda: {"GPU": ["0"]},
        get_assigned_resources=lambda: {"CPU": 4, "GPU": 0.25},
    )
    monkeypatch.setattr(pool, "ray", SimpleNamespace(get_runtime_context=lambda: context, get=lambda value: value))
    monkeypatch.setattr(machine, "share", machine.Share())
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(RayWorker, "live", lambda _: None)

    def make(error, demands_gpu=False):
        monkeypatch.setattr(Opening, "error", error, raising=False)
        run = Opening(EnhanceSettings("in", "out", device="cuda", half=True), None, None, False, {}, [], None, {})
        return RayWorker(run, Remote(progress), demands_gpu)

    return make


@pytest.mark.parametrize(
    "error",
    [DeviceError("an illegal access"), DeviceMemoryError("full"), NoDeviceError("this machine has no CUDA device")],
    ids=repr,
)
def test_a_gpu_that_cannot_be_opened_leaves_its_worker_the_cpu_which_is_told(begin, progress, error):
    assert not begin(error).on_gpu
    has_gpu, (told,) = progress.gpus()
    assert not has_gpu
    beginning = f"Computing on the CPU instead: the GPU of {platform.node()} cannot be opened ({error}); there `python "
    assert told.startswith(beginning)


def test_that_a_worker_takes_the_slow_curve_is_told_and_any_other_warning_stays_one(begin, progress):
    with warnings.catch_warnings(record=True) as shown:
        assert begin(SlowCurveWarning("the curve runs in plain torch, for Triton does not work")).on_gpu
    assert not shown
    told = f"On {platform.node()} the curve runs in plain torch, for Triton does not work."
    assert progress.gpus() == (True, [told])
    with pytest.warns(UserWarning, match="another"):
        begin(UserWarning("another"))
    assert progress.gpus() == (True, [told])


def test_only_what_the_gpu_has_done_itself_clears_it(begin, progress, monkeypatch):
    """A shard that is retried on the CPU, one that was done before, and other files were taken for its work."""
    worker = begin(None)
    monkeypatch.setattr(worker, "run", lambda shard: ({"ok": 1}, ""))
    for used_gpu in (True, False):
        progress.device_failed(GPU, progress.failures_of(GPU), WHY)
        worker.pipeline = SimpleNamespace(used_gpu=used_gpu)
        worker({"shards": np.array([np.array([1, 2])])})
    assert not progress.broken(GPU)
    progress.device_failed(GPU, progress.failures_of(GPU), WHY)
    assert progress.broken(GPU) == WHY


def test_a_gpu_that_gets_no_more_work_is_told(begin, progress):
    for _ in range(MOST_DEVICE_FAILURES):
        progress.device_failed(GPU, progress.failures_of(GPU), WHY)
    assert not begin(None).on_gpu
    told = f"Computing on the CPU instead: on {platform.node()} {WHY}, 2 times in a row."
    assert progress.gpus() == (False, [told])


@pytest.mark.parametrize("others_have_one", [False, True])
def test_a_job_that_demands_a_gpu_stops_where_no_worker_can_open_one(begin, progress, monkeypatch, others_have_one):
    """A worker that is slower to open its own is waited for."""

    def sleep(_):
        if others_have_one:
            assert begin(None).on_gpu

    monkeypatch.setattr(pool.time, "sleep", sleep)
    monkeypatch.setattr(pool, "OPENING_SECONDS", 0.05)
    worker = begin(DeviceMemoryError("full"), demands_gpu=True)
    monkeypatch.setattr(worker, "run", lambda shard: ({"ok": 1}, ""))
    found = worker({"shards": np.array([np.array([1, 2])])})
    told = f"the GPU of {platform.node()} cannot be opened (full); "
    if others_have_one:
        assert (found["shard"], found["error"]) == ([1, 2], ["", ""])
        assert told in progress.gpus()[1][0]
    else:
        assert found["shard"] == [1], "no image was looked at"
        assert found["error"][0].startswith(told)
        assert progress.gpus() == (False, [])


def test_what_workers_say_of_their_gpus_is_told_once(progress, monkeypatch, capsys):
    shards = object.__new__(Shards)
    shards.progress, shards.told = Remote(progress), 0
    monkeypatch.setattr(pool, "ray", SimpleNamespace(get=lambda values: values))
    assert shards.look({}) == ({}, [])
    for node in ("a", "b"):
        progress.note("not opened", f"The GPU of {node} cannot be opened.")
        shards.look({})
        progress.note("slow", f"On {node} the curve is slow.")
    shards.look({})
    assert capsys.readouterr().out == "The GPU of a cannot be opened.\nOn a the curve is slow.\n"


def test_a_mistake_of_the_user_ends_the_job(begin):
    with pytest.raises(UsageError, match="not installed"):
        begin(UsageError("a package is not installed"))


@pytest.mark.parametrize("demands_gpu", [False, True])
def test_a_torch_without_cuda_leaves_its_worker_the_cpu_unless_a_gpu_is_demanded(
    begin, progress, monkeypatch, demands_gpu
):
    """With `--device auto` it ended the job on any machine with a GPU."""
    monkeypatch.setattr(torch.backends.cuda, "is_built", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(pool, "OPENING_SECONDS", 0)
    with pytest.raises(UsageError) as found:
        TorchEngine(weights.load(weights.DEFAULT), "cuda")
    worker = begin(found.value, demands_gpu)
    told = f"the GPU of {platform.node()} cannot be opened ({found.value}); "
    assert "that torch can use, since it was built without CUDA; take --device cpu" in told
    assert worker.refusal.startswith(told) if demands_gpu else not worker.refusal
    assert bool(progress.gpus()[1]) != demands_gpu


@pytest.mark.parametrize(
    ("options", "nodes", "is_told", "device", "said"),
    [
        ({}, [{"CPU": 4}], False, "cpu", ""),
        ({}, [{"CPU": 4, "GPU": 1}], False, "cpu", "Computing on the CPUs: the network is light"),
        ({}, [{"CPU": 4, "GPU": 1}], True, "cpu", ""),
        ({"method": "lime"}, [{"CPU": 4, "GPU": 1}], False, "cpu", ""),
        ({"scale_factor": 2}, [{"CPU": 4}], False, "cpu", ""),
        ({"scale_factor": 2}, [{"CPU": 4, "GPU": 1}], True, "cuda", "Computing on the GPUs, with up to 4 workers of 1"),
        ({"device": "cuda"}, [{"CPU": 4}], False, "cuda", "Computing on the GPUs that join."),
    ],
)
def test_one_line_says_which_device_a_job_takes(monkeypatch, capsys, options, nodes, is_told, device, said):
    monkeypatch.setattr(pool, "gpus_now", lambda: sum(node.get("GPU", 0) for node in nodes))
    monkeypatch.setattr(pool, "nodes_now", lambda: nodes)
    run = EnhanceRun(EnhanceSettings("in", "out", **options), None, None, False, {}, [], None, {})
    assert device_of_workers(run, is_told) == device
    out = capsys.readouterr().out
    assert out.startswith(said)
    assert out.count("\n") == bool(said)
