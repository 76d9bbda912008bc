"""GPUs as a job sees them; they are pretended."""

import json
import os

import pytest

from clips import pan, write_clip
from commands import make_corpus, rows_of
from packs import make_tar
from places import HOOKS
from sgllie.compare.run import prepare as prepare_compare
from sgllie.compare.settings import CompareSettings
from sgllie.enhance.isolated import isolated_processor
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhancer import CpuEngine
from sgllie.errors import DeviceError, DeviceMemoryError
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.report.page import write_report
from sgllie.report.settings import ReportSettings
from sgllie.runs import gpu
from sgllie.runs.job import InProcess, run_job
from sgllie.runs.memory import budgets
from sgllie.video.run import prepare as prepare_video
from video_jobs import settings_for


@pytest.mark.jobs
@pytest.mark.parametrize("broken", ["full", "at every image"])
def test_an_isolated_image_is_enhanced_on_the_cpu_whatever_the_gpu_does(tmp_path, monkeypatch, broken):
    for name, value in {"PRETEND_CUDA": "yes", "BROKEN_GPU": broken}.items():
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


class FailingGpu(CpuEngine):
    """Fails at every image that is higher than 50 pixels, and works until then."""

    def factors(self, images, scale, level=None):
        if images[0].shape[0] > 50:
            raise DeviceError("the GPU does not work: CUDA error: an illegal memory access was encountered")
        return super().factors(images, scale, level)


@pytest.fixture
def failing_gpu(monkeypatch):
    """Put it in the place of a GPU, in this process."""
    engines = {"cuda": FailingGpu, "cpu": CpuEngine}
    monkeypatch.setattr("sgllie.enhancer.engine_for", lambda device, weights, *, half: engines[device](weights))


def attempts(run):
    """Run the shards as workers do that begin anew where their GPU fails; what each attempt says of the GPU."""
    found = []
    for shard in run.order:
        while not found or found[-1] == "failed":
            pipeline = run.make_pipeline(lambda *state: None)
            try:
                pipeline.run(shard)
            except DeviceError:
                found.append("failed")
            else:
                found.append("worked" if pipeline.used_gpu else "not used")
    return found


@pytest.mark.jobs
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_an_image_at_which_the_gpu_fails_every_time_is_enhanced_on_the_cpu(tmp_path, failing_gpu, kind):
    """It was made a failed row (crash), and with it all images that followed it in its shard."""
    source, output = tmp_path / "in", tmp_path / "out"
    small, large = make_corpus(tmp_path / "small", 8), make_corpus(tmp_path / "large", 1, (60, 50))
    images = [large / "000/00000.jpg", *sorted(small.rglob("*.jpg"))]
    members = [(f"{number}.jpg", image.read_bytes()) for number, image in enumerate(images)]
    source.mkdir()
    if kind == "tar":
        make_tar(source / "pack.tar", members)
    else:
        for name, data in members:
            (source / name).write_bytes(data)
    settings = EnhanceSettings(str(source), str(output), device="cuda", others="skip")
    assert attempts(prepare(settings)) == ["failed", "not used"]
    assert run_job(prepare, settings, InProcess()) == 0
    assert {row["status"] for row in rows_of(output)} == {"ok"}


@pytest.mark.jobs
def test_a_video_at_which_the_gpu_fails_every_time_is_enhanced_on_the_cpu(tmp_path, failing_gpu):
    source = write_clip(tmp_path / "in.mp4", pan(5))  # 96 pixels high
    run = prepare_video(settings_for(source, tmp_path / "out.mp4", device="cuda"))
    assert attempts(run) == ["failed", "not used"]
    assert (tmp_path / "out.mp4").exists()


@pytest.mark.jobs
def test_a_trial_at_which_the_gpu_fails_every_time_is_made_on_the_cpu(tmp_path, failing_gpu):
    make_corpus(tmp_path / "in", 1, (60, 50))
    settings = CompareSettings(
        input=str(tmp_path / "in"), output=str(tmp_path / "out"), methods="sgz", metrics="brightness", device="cuda"
    )
    assert attempts(prepare_compare(settings)) == ["failed", "not used"]


@pytest.mark.jobs
def test_a_gpu_that_does_images_is_known_to_work(tmp_path, failing_gpu):
    source = make_corpus(tmp_path / "in", 2)
    (source / "a.txt").write_text("carried")
    run = prepare(EnhanceSettings(str(source), str(tmp_path / "out"), device="cuda"))
    pipeline = run.make_pipeline(lambda *state: None)
    found = []
    for shard in (*sorted(run.shards), 0):
        pipeline.run(shard)
        found.append(pipeline.used_gpu)
    assert found == [True, False, False], "neither by carrying other files, nor by a shard that is done"


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
