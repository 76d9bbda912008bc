"""GPUs as a job sees them; they are pretended."""

import json
import os

import pytest

from commands import make_corpus
from places import HOOKS
from sgllie.enhance.isolated import isolated_processor
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhancer import CpuEngine
from sgllie.errors import DeviceMemoryError
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.report.page import write_report
from sgllie.report.settings import ReportSettings
from sgllie.runs import gpu
from sgllie.runs.job import InProcess, run_job
from sgllie.runs.memory import budgets


@pytest.mark.jobs
def test_an_isolated_image_is_enhanced_where_the_gpu_has_no_room_for_its_process(tmp_path, monkeypatch):
    for name, value in {"PRETEND_CUDA": "yes", "BROKEN_GPU": "full"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", HOOKS, prepend=os.pathsep)
    data = (make_corpus(tmp_path, 1) / "000/00000.jpg").read_bytes()
    settings = EnhanceSettings("in", "out", device="cuda", half=True)
    with isolated_processor(settings, budgets(None)[1].total) as processor:
        row = processor("a.jpg", data).row
    assert (row["status"], row["device"]) == ("ok", "cpu")


class SmallGpu(CpuEngine):
    """Has no memory for images that are higher than 50 pixels."""

    def factors(self, images, scale, level=None):
        if images[0].shape[0] > 50:
            raise DeviceMemoryError("the memory of the GPU is full")
        return super().factors(images, scale, level)


def test_what_the_cpu_took_over_is_counted(tmp_path, monkeypatch, capsys):
    engines = {"cuda": SmallGpu, "cpu": CpuEngine}
    monkeypatch.setattr("sgllie.enhancer.engine_for", lambda device, weights, *, half: engines[device](weights))
    source, output = make_corpus(tmp_path / "in", 3), tmp_path / "out"
    make_corpus(source / "large", 1, (60, 50))
    assert run_job(prepare, EnhanceSettings(str(source), str(output), device="cuda"), InProcess()) == 0
    assert json.loads((output / "_SUCCESS").read_text())["devices"] == {"cuda": 3, "cpu": 1}
    assert "Enhanced on GPUs: 3; on CPUs: 1." in capsys.readouterr().out.splitlines()
    write_report(ReportSettings(str(output)))
    assert "cuda 3, cpu 1" in (output / "report.html").read_text()


@pytest.mark.parametrize(
    ("settings", "is_said"),
    [
        (EnhanceSettings("in", "out"), True),
        (EnhanceSettings("in", "out", method="lime"), False),
        (EvaluateSettings(images="in", output="out"), False),
    ],
    ids=["sgz", "lime", "evaluate"],
)
def test_a_gpu_that_is_not_used_is_told_where_there_is_a_choice(settings, is_said):
    assert gpu.unused(settings).startswith("Computing on the CPUs: ") == is_said
