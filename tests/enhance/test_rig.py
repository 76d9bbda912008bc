"""Moments: which images belong together, how they lie in shards, and the level that they share."""

import threading

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import make_corpus
from devices import on_each_device
from sgllie.corpus.rig import Rig, moment_of
from sgllie.enhance.moments import Moment, Moments
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import StorageError, UsageError
from sgllie.methods import METHODS, MethodSettings, make_method
from sgllie.network.torch_engine import TorchEngine
from sgllie.runs.grouping import Grouping
from sgllie.runs.plan import cut
from sgllie.storage import Entry

NUSCENES = "n015-2018-07-24-11-22-45+0800__"
MOMENTS = [
    ("kitti", ["training/image_2/000012.png", "training/image_3/000012.png"]),
    ("kitti", ["testing/image_2/000012_10.png", "testing/image_3/000012_10.png"]),
    ("kitti", ["training/image_2/000012_11.png"]),
    ("kitti", ["training/colored_0/000012_10.png", "training/colored_1/000012_10.png"]),
    ("kitti", ["sequences/07/image_0/000000.png", "sequences/07/image_3/000000.png"]),
    ("kitti", [f"2011_09_26/2011_09_26_drive_0001_sync/image_0{n}/data/0000000005.png" for n in range(4)]),
    ("kitti", [f"data_2d_raw/2013_05_28_drive_0000_sync/image_0{n}/data_rect/0000000007.png" for n in range(2)]),
    ("kitti", [f"2011_09_26/2011_09_26_drive_0002_sync/image_0{n}/data/0000000005.png" for n in range(4)]),
    (
        "nuscenes",
        [
            f"samples/CAM_FRONT/{NUSCENES}CAM_FRONT__1532402927612460.jpg",
            f"samples/CAM_FRONT_LEFT/{NUSCENES}CAM_FRONT_LEFT__1532402927604844.jpg",
            f"sweeps/CAM_BACK_RIGHT/{NUSCENES}CAM_BACK_RIGHT__1532402927127893.jpg",
        ],
    ),
    ("nuscenes", [f"samples/CAM_FRONT/{NUSCENES}CAM_FRONT__1532402928112460.jpg"]),
    ("nuscenes", ["samples/CAM_BACK/n008-2018-08-01-15-16-36-0400__CAM_BACK__1532402927537558.jpg"]),
    ("waymo", [f"training/image_{n}/0000123.jpg" for n in range(5)]),
    ("waymo", [f"segment-100_40_60/{name}/155.png" for name in ("FRONT", "FRONT_LEFT", "SIDE_LEFT", "SIDE_RIGHT")]),
    ("waymo", [f"segment-100_40_60/155_{name}.jpg" for name in ("FRONT", "FRONT_RIGHT", "SIDE_LEFT")]),
    (r"(\d+)_cam\d", ["a/07_cam0.jpg", "b/07_cam1.jpg"]),
]


@pytest.mark.parametrize("preset", sorted({preset for preset, _ in MOMENTS}))
def test_the_images_of_a_moment_have_its_name_and_others_do_not(preset):
    named = [{Rig(preset).moment(path) for path in paths} for name, paths in MOMENTS if name == preset]
    assert all(len(names) == 1 and None not in names for names in named)
    assert len(set.union(*named)) == len(named)


@pytest.mark.parametrize("path", ["training/label_2/000012.png", "samples/LIDAR_TOP/a.jpg", "a.jpg"])
def test_what_is_no_rig_has_no_moment(path):
    assert [Rig(name).moment(path) for name in ("kitti", "nuscenes", "waymo")] == [None] * 3


def test_without_a_rig_no_image_has_a_moment():
    assert moment_of(None)(Entry("a.jpg", 1, None)) is None


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("(", r"--rig is \(; it must be a regular expression, or one of kitti, nuscenes, waymo: .*unterminated"),
        ("frame", "--rig is frame; it must have a group, in parentheses, that names the moment"),
    ],
)
def test_what_is_no_pattern_is_one_sentence(pattern, sentence):
    with pytest.raises(UsageError, match=sentence):
        EnhanceSettings("in", "out", rig=pattern)


@pytest.mark.parametrize("method", sorted(METHODS))
def test_methods_without_a_level_are_refused(method):
    if METHODS[method].has_level:
        EnhanceSettings("in", "out", rig="kitti", method=method)
        return
    with pytest.raises(UsageError, match=f"--rig is kitti; it must be left out with --method {method}"):
        EnhanceSettings("in", "out", rig="kitti", method=method)


def test_weights_without_a_global_term_are_refused(tmp_path, shared):
    make_corpus(tmp_path / "in", 1)
    weights = str(shared / "reference/sgz_Epoch99.pth")
    settings = EnhanceSettings(str(tmp_path / "in"), str(tmp_path / "out"), rig="(.)", weights=weights)
    with pytest.raises(UsageError, match=r"--rig is .*; it must be left out with weights of the architecture sgz"):
        prepare(settings)


def planned(paths, pattern, shard_items=1000):
    """The paths of each shard."""
    entries = Grouping(Rig(pattern)).together(Entry(path, 1, None) for path in paths)
    shards = cut(entries, shard_items, lambda entry: None, moment_of(pattern))
    return [[entry.path for entry in shard] for shard in shards]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=60), st.integers(1, 7))
def test_no_moment_is_cut_and_nothing_is_lost(moments, shard_items):
    paths = [f"{number:02d}/m{moment}.jpg" if moment else f"{number:02d}.jpg" for number, moment in enumerate(moments)]
    if not any(moments):
        with pytest.raises(UsageError, match=r"matches none of the paths, such as 00\.jpg"):
            planned(paths, r"m(\d)")
        return
    shards = planned(paths, r"m(\d)", shard_items)
    assert sorted(path for shard in shards for path in shard) == paths
    homes = {path.partition("/m")[2]: number for number, shard in enumerate(shards) for path in shard if "m" in path}
    for number, shard in enumerate(shards):
        assert all(homes[path.partition("/m")[2]] == number for path in shard if "m" in path)
        groups = [path.partition("/m")[2] or path for path in shard]
        assert len(shard) - groups.count(groups[-1]) < shard_items, "full, but for the rest of its last moment"


def test_a_moment_of_too_many_images_is_one_sentence():
    with pytest.raises(UsageError, match=r"finds 1,001 images of one moment, 'm', of 1,000 at most; its groups must"):
        planned([f"{number:04d}/m.jpg" for number in range(1001)], "(m)")


@pytest.mark.parametrize("other", ["b.tar/7.cam1.jpg", "7.cam1.jpg"])
def test_a_moment_in_several_tars_is_one_sentence(other):
    sentence = r"--rig .*: the moment '7' lies in (a\.tar|loose files) and in (b|a)\.tar, which are enhanced apart; put"
    with pytest.raises(UsageError, match=sentence):
        planned(["a.tar/7.cam0.jpg", other], r"(\d+)\.cam")


def test_a_tar_keeps_its_order():
    paths = ["a.tar/1.cam0.jpg", "a.tar/2.cam0.jpg", "a.tar/1.cam1.jpg", "b/3.cam0.jpg", "c.jpg", "d/3.cam1.jpg"]
    assert planned(paths, r"(\d+)\.cam") == [[*paths[:3], "b/3.cam0.jpg", "d/3.cam1.jpg", "c.jpg"]]


def test_threads_share_the_work_and_wait_for_each_other():
    items = [Entry(f"{number}.jpg", 1, None) for number in range(6)]
    moments, measured = Moments(Rig("(.*)"), []), []
    moment, barrier = Moment(items), threading.Barrier(3)

    def measure(item):
        if item in items[:3]:
            barrier.wait(10)
        measured.append(item.path)
        return None if item.path == "3.jpg" else [float(item.path[0]), 1.0]

    found = []
    threads = [threading.Thread(target=lambda: found.append(moment.level(measure))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(measured) == [item.path for item in items]
    np.testing.assert_allclose(found, [[(0 + 1 + 2 + 4 + 5) / 5, 1]] * 3, rtol=1e-6)
    assert moments.level(items[0], measure) is None, "not of this shard"


def test_what_ends_the_job_ends_it_for_all_who_wait():
    def measure(item):
        raise StorageError("gone")

    moment = Moment([Entry("a.jpg", 1, None), Entry("b.jpg", 1, None)])
    for _ in range(2):
        with pytest.raises(StorageError, match="gone"):
            moment.level(measure)


def test_the_level_of_rows_that_are_there_is_taken():
    items = [Entry("7/a.jpg", 1, None), Entry("7/b.jpg", 1, None)]
    rows = [{"moment": "7", "level": None}, {"moment": "7", "level": [0.5, 0.25]}]
    moments = Moments(Rig(r"(\d)/"), items, rows)
    assert moments.level(items[0], lambda item: pytest.fail("measured again")) == [0.5, 0.25]


def photograph(seed=0, size=(480, 720)):
    """Light and dark regions with some texture, darkened."""
    generator = np.random.default_rng(seed)
    coarse = cv2.resize(
        generator.uniform(0, 1, (3, 5, 3)).astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC
    )
    slope = np.linspace(0.1, 1, size[1], dtype=np.float32)[None, :, None]
    fine = generator.normal(0, 0.03, (*size, 3)).astype(np.float32)
    return np.rint(255 * np.clip((0.2 + 0.6 * coarse + fine) * slope, 0, 1) * 0.35).astype(np.uint8)


def overlaps(method):
    """The mean difference of what two cameras see of one thing: each by itself, and with one level."""
    whole = photograph()
    left, right = (np.ascontiguousarray(part) for part in (whole[:, :432], whole[:, 288:]))
    level = np.mean([method.level(left), method.level(right)], axis=0).astype(np.float32).tolist()
    found = []
    for shared in (None, level):
        one, other = (method.enhance(image, shared).pixels.astype(float) for image in (left, right))
        found.append(abs((one[:, 288:] - other[:, :144]).mean()))
    return found


@pytest.mark.parametrize("method", [name for name, method in METHODS.items() if method.has_level])
def test_cameras_with_one_level_agree(method):
    alone, shared = overlaps(make_method(MethodSettings(method=method, device="cpu")))
    assert alone > 3
    assert shared < 1


@given(st.integers(0, 30), st.integers(30, 90), st.integers(30, 90))
def test_a_camera_alone_is_enhanced_as_ever(seed, height, width):
    image = photograph(seed, (height, width))
    for name in ("sgz", "gamma"):
        method = METHODS_MADE[name]
        level = np.float32(method.level(image)).tolist()
        np.testing.assert_allclose(
            method.enhance(image, level).pixels.astype(int), method.enhance(image).pixels.astype(int), atol=1
        )


METHODS_MADE = {name: make_method(MethodSettings(method=name, device="cpu")) for name in ("sgz", "gamma")}


@on_each_device
def test_the_engine_of_the_gpu_finds_and_takes_the_same_level(enhancer, device):
    engine, image = TorchEngine(enhancer.weights, device), photograph()
    level = enhancer.level(image)
    np.testing.assert_allclose(engine.level(image, 12), level, rtol=1e-4)
    level = [10 * value for value in level]
    other, same = (one.factors([image], 12, level) for one in (engine, enhancer.engine))
    np.testing.assert_allclose(other.cpu().numpy(), same, atol=1e-4)
    assert not np.allclose(same, enhancer.engine.factors([image], 12), atol=1e-3)


def test_the_mean_luma_of_a_moment_decides_what_is_bright():
    processor = ImageProcessor(EnhanceSettings("in", "out", device="cpu", only_darker_than=0.3))
    data = cv2.imencode(".png", photograph())[1].tobytes()
    own = processor.level("a.png", data)
    assert own is not None
    assert processor("a.png", data).row["status"] == "ok"
    shared = processor("a.png", data, [0.4, *own[1:]])
    assert (shared.row["status"], shared.row["reason"]) == ("copied", "bright enough: mean luma 0.40")
    assert processor.level("labels/a.png", data) is None
    assert processor.level("a.png", data[:100]) is None
