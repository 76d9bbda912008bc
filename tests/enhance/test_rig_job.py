"""`sgllie enhance --rig`: the cameras of a moment share their level, whatever happens to one of them or to the job."""

import dataclasses
import shutil
from collections import defaultdict
from contextlib import nullcontext

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from test_rig import photograph

from commands import assert_complete, rows_of, sgllie
from devices import on_each_device, taken_for_gpu
from disturbances import MARKER, wait_for
from packs import make_tar, members_of
from places import HOOKS
from sgllie import Enhancer
from sgllie.cli import main
from sgllie.enhance.pipeline import ImagePipeline
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import StorageError
from sgllie.runs import journal
from sgllie.runs.job import InProcess, run_job

PATTERN = r"cam\d/(\d+)"
CAMERAS, MOMENTS = 3, 5


def make_rig(folder, moments=MOMENTS):
    """Pictures that overlap, as three cameras would take them at some moments."""
    for moment in range(moments):
        whole = photograph(moment % 12, (120, 360))
        for camera in range(CAMERAS):
            path = folder / f"cam{camera}/{moment:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), whole[:, 84 * camera : 84 * camera + 192])
    return folder


@pytest.fixture(scope="session")
def source(tmp_path_factory):
    return make_rig(tmp_path_factory.mktemp("rig") / "in")


@pytest.fixture(scope="session")
def finished(source, tmp_path_factory):
    """An undisturbed run over it."""
    output = tmp_path_factory.mktemp("rig-out") / "out"
    assert run(source, output) == 0
    return output


def run(source, output, **options):
    """Run the job in this process; return its exit code."""
    settings = {"rig": PATTERN, "device": "cpu", "shard_images": 4} | options
    return run_job(prepare, EnhanceSettings(str(source), str(output), **settings), InProcess())


def images_of(output):
    return {str(path.relative_to(output)): path.read_bytes() for path in (output / "images").rglob("*.png")}


def levels_of(output):
    """The levels of each moment."""
    levels = defaultdict(set)
    for row in rows_of(output):
        levels[row["moment"]].add(row["level"] and tuple(row["level"]))
    return levels


def test_the_images_of_a_moment_share_their_level(source, finished):
    rows = assert_complete(source, finished)
    assert len({row["shard"] for row in rows}) > 1
    for number in range(MOMENTS):
        moment = [row for row in rows if row["moment"] == f"{number:03d}"]
        assert len(moment) == CAMERAS
        assert len({row["shard"] for row in moment}) == 1
        pixels = [cv2.imread(str(source / row["path"]))[..., ::-1].copy() for row in moment]
        enhancer = Enhancer.load(device="cpu")
        level = np.mean([enhancer.level(image) for image in pixels], axis=0)
        for row, image in zip(moment, pixels, strict=True):
            np.testing.assert_allclose(row["level"][1:], level, rtol=1e-5)
            expected = enhancer.enhance(image, row["level"][1:]).pixels
            np.testing.assert_array_equal(cv2.imread(str(finished / row["output"]))[..., ::-1], expected)


def test_overlaps_agree_better_than_without(source, finished, tmp_path):
    def difference(output):
        found = []
        for moment in range(MOMENTS):
            left, right = (cv2.imread(str(output / f"images/cam{n}/{moment:03d}.png")).astype(float) for n in (0, 1))
            found.append(abs((left[:, 84:] - right[:, :108]).mean()))
        return np.mean(found)

    assert run(source, tmp_path / "out", rig=None) == 0
    assert {row["level"] for row in rows_of(tmp_path / "out")} == {None}
    assert difference(finished) < difference(tmp_path / "out") / 4


def test_a_moment_that_was_begun_goes_on_with_its_level(source, finished, tmp_path, monkeypatch):
    """The worker dies at the last camera of each moment, when the others are done and cannot be read any more."""
    output, work, died = tmp_path / "out", ImageProcessor.__call__, set()

    def known():
        parts = output.glob(".partial/*/rows-*.parquet")
        return {path for part in parts for path in pq.read_table(part)["path"].to_pylist()}

    def die(self, path, data, level=None):
        if path.startswith("cam2") and path not in died:
            died.add(path)
            wait_for(lambda: {path.replace("cam2", name) for name in ("cam0", "cam1")} <= known(), 20)
            for done in known():
                (copied / done).unlink(missing_ok=True)
            raise StorageError("the machine is gone")
        return work(self, path, data, level)

    monkeypatch.setattr(journal, "FLUSH_SECONDS", -1)
    monkeypatch.setattr(ImageProcessor, "__call__", die)
    monkeypatch.setattr(ImagePipeline, "processor", lambda self, isolated: nullcontext(self.image_processor))
    copied = shutil.copytree(source, tmp_path / "in")
    while run(copied, output) != 0:
        assert len(died) <= MOMENTS
    assert len(died) == MOMENTS
    assert images_of(output) == images_of(finished)
    assert levels_of(output) == levels_of(finished)


def test_a_camera_that_fails_is_a_row_and_takes_the_level_of_the_others_later(tmp_path):
    source, output = make_rig(tmp_path / "in", 2), tmp_path / "out"
    broken = source / "cam1/001.png"
    good = broken.read_bytes()
    broken.write_bytes(good[:300])
    assert run(source, output) == 3
    rows = assert_complete(source, output, failed=1)
    before = images_of(output)
    others = Enhancer.load(device="cpu")
    levels = [others.level(cv2.imread(str(source / f"cam{n}/001.png"))[..., ::-1].copy()) for n in (0, 2)]
    level = next(row["level"] for row in rows if row["path"] == "cam0/001.png")
    np.testing.assert_allclose(level[1:], np.mean(levels, axis=0), rtol=1e-5)
    broken.write_bytes(good)
    assert run(source, output, retry_failed=True) == 0
    assert_complete(source, output)
    assert levels_of(output)["001"] == {tuple(level)}
    after = images_of(output)
    assert {name: after[name] for name in before} == before


def test_a_tar_holds_what_loose_files_become(source, finished, tmp_path):
    names = sorted(str(path.relative_to(source)) for path in source.rglob("*.png"))
    make_tar(tmp_path / "in/a.tar", [(name, (source / name).read_bytes()) for name in names])
    assert run(tmp_path / "in", tmp_path / "out") == 0
    found = {f"images/{name}": data for name, data in members_of(tmp_path / "out/images/a.tar")}
    assert found == images_of(finished)


def test_patterns_that_do_not_fit_are_one_sentence(source, tmp_path, capsys):
    for pattern, sentence in (
        ("frame(.)", "matches none of the paths, such as cam0/000.png"),
        ("(", "must be a regular"),
    ):
        assert main(["enhance", str(source), str(tmp_path / "out"), "--rig", pattern]) == 2
        assert sentence in capsys.readouterr().err
        assert not (tmp_path / "out").exists()


def test_images_without_a_moment_are_counted(source, tmp_path, capsys):
    assert run(source, tmp_path / "out", rig=r"cam[01]/(\d+)") == 0
    assert "5 of 15 images match no --rig, and are enhanced one by one" in capsys.readouterr().out
    assert levels_of(tmp_path / "out")[None] == {None}


def test_what_comes_late_to_a_moment_is_told(tmp_path, capsys):
    source, output = make_rig(tmp_path / "in", 3), tmp_path / "out"
    late = source / "cam2/001.png"
    data = late.read_bytes()
    late.unlink()
    assert run(source, output) == 0
    late.write_bytes(data)
    settings = EnhanceSettings(str(source), str(output), rig=PATTERN, device="cpu", shard_images=4, update=True)
    assert run_job(prepare, dataclasses.replace(settings), InProcess()) == 0
    assert "1 of the new ones show a moment that was listed before" in capsys.readouterr().out
    assert len(levels_of(output)["001"]) == 2


@pytest.mark.jobs
@on_each_device
def test_a_job_on_a_gpu_gives_what_one_on_the_cpu_gives(source, tmp_path, device):
    on_gpu, on_cpu = tmp_path / "gpu", tmp_path / "cpu"
    options = ("--device", "cuda", "--rig", PATTERN, "--denoise")
    result = sgllie("enhance", source, on_gpu, *options, **taken_for_gpu(device))
    assert result.returncode == 0, result.stderr
    assert "Enhanced on GPUs: 15; on CPUs: 0." in result.stdout
    assert run(source, on_cpu, denoise=True) == 0
    levels = {row["path"]: row["level"] for row in rows_of(on_cpu)}
    for row in assert_complete(source, on_gpu):
        np.testing.assert_allclose(row["level"], levels[row["path"]], rtol=1e-3)
        found, expected = (cv2.imread(str(output / row["output"])).astype(int) for output in (on_gpu, on_cpu))
        assert abs(found - expected).max() <= 1


@pytest.mark.slow
def test_a_camera_that_kills_its_process_costs_the_others_nothing(tmp_path):
    source, output = make_rig(tmp_path / "in", 3), tmp_path / "out"
    killer = source / "cam1/001.png"
    killer.write_bytes(killer.read_bytes() + MARKER)
    result = sgllie("enhance", source, output, "--rig", PATTERN, PYTHONPATH=HOOKS)
    assert result.returncode == 3, result.stderr
    rows = {row["path"]: row for row in assert_complete(source, output, failed=1)}
    assert rows["cam1/001.png"]["error_type"] == "crash"
    assert all(len(levels - {None}) == 1 for levels in levels_of(output).values())
