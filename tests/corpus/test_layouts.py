"""Data sets whose own loaders read OUT/images as they read IN: photographs brighter, all else byte for byte."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from layouts import IDS, LABELS, LAYOUTS, PHOTOGRAPH
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess, run_job

PHOTOGRAPHS = ("val2017/", "images/", "leftImg8bit/", "rightImg8bit/", "image_2/", "image_3/", "samples/CAM_")


@pytest.fixture(scope="module", params=LAYOUTS)
def layout(request, tmp_path_factory):
    """The name of a layout, a data set of it, and what `sgllie enhance` makes of that."""
    folder = tmp_path_factory.mktemp(request.param)
    LAYOUTS[request.param](folder / "in")
    settings = EnhanceSettings(str(folder / "in"), str(folder / "out"), device="cpu")
    with redirect_stdout(io.StringIO()):
        assert run_job(prepare, settings, InProcess()) == 0
    return request.param, folder / "in", folder / "out/images"


def files_of(root):
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def brightened(image):
    """Tell whether an image is the photograph, brighter."""
    pixels = np.asarray(image)
    return pixels.shape == PHOTOGRAPH.shape and pixels.mean() > 1.3 * PHOTOGRAPH.mean()


def test_only_photographs_change(layout):
    name, source, output = layout
    before, after = files_of(source), files_of(output)
    assert before.keys() == after.keys()
    changed = {path for path in before if before[path] != after[path]}
    is_map = ("stuffthingmaps/", "panoptic_val2017/", "labels/")
    photographs = {path for path in before if any(part in path for part in PHOTOGRAPHS)}
    assert changed == {path for path in photographs if not any(part in path for part in is_map)}, name


@pytest.mark.jobs  # torchvision takes seconds to import
def test_its_own_loader_reads_it(layout):
    name, _, output = layout
    LOADERS[name](output)


def read_coco(root):
    from torchvision.datasets import CocoDetection

    with redirect_stdout(io.StringIO()):
        labels = COCO(str(root / "annotations/instances_val2017.json"))
        found = CocoDetection(str(root / "val2017"), str(root / "annotations/instances_val2017.json"))
    assert [one["file_name"] for one in labels.loadImgs(labels.getImgIds())] == ["000000000139.jpg", "000000000285.jpg"]
    assert all(brightened(image) for image, _ in found)
    assert [one["bbox"] for _, targets in found for one in targets] == [[8, 8, 40, 20]]


def read_yolo(root):
    """By the rule of ultralytics: the last `/images/` of a path is `/labels/`, and the suffix `.txt`."""
    images, labels = f"{os.sep}images{os.sep}", f"{os.sep}labels{os.sep}"
    for part in ("train", "val"):
        (image,) = (root / f"images/{part}").iterdir()
        label = Path(labels.join(str(image).rsplit(images, 1))).with_suffix(".txt")
        assert label.read_text() == "0 0.5 0.5 0.25 0.25\n"
        assert brightened(cv2.imread(str(image)))


def read_bdd100k(root):
    """By the rule of its toolkit: labels name their images, and masks have the names of theirs."""
    for frame in json.loads((root / "labels/det_20/det_train.json").read_text()):
        image = root / "images/100k/train" / frame["name"]
        mask = root / "labels/sem_seg/masks/train" / f"{image.stem}.png"
        assert brightened(cv2.imread(str(image)))
        assert np.array_equal(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED), IDS)


def read_cityscapes(root):
    from torchvision.datasets import Cityscapes

    kinds = ["semantic", "instance", "color", "polygon"]
    ((image, (semantic, instance, colour, polygons)),) = Cityscapes(str(root), "train", "fine", kinds)
    assert brightened(image)
    assert np.array_equal(semantic, LABELS)
    assert np.array_equal(instance, LABELS.astype(int) * 100)
    assert (colour.mode, polygons["imgWidth"]) == ("RGBA", 128)


def read_kitti(root):
    from torchvision.datasets import Kitti

    found = Kitti(str(root), train=True)
    assert len(found) == 2
    for image, targets in found:
        assert brightened(image)
        assert targets[0]["bbox"] == [8.0, 8.0, 48.0, 28.0]


def read_nuscenes(root):
    """By its tables, in which each record names its file."""
    for table in ("sample_data", "map"):
        for record in json.loads((root / f"v1.0-mini/{table}.json").read_text()):
            assert (root / record["filename"]).is_file()
            if record.get("fileformat") == "jpg":
                assert brightened(cv2.imread(str(root / record["filename"])))
    assert set(np.unique(cv2.imread(str(root / record["filename"]), cv2.IMREAD_UNCHANGED))) == {0, 255}


ULTRALYTICS = """
import json
from ultralytics.data import YOLODataset
from ultralytics.data.utils import check_det_dataset
found = check_det_dataset("data.yaml", autodownload=False)
read = YOLODataset(img_path=found["train"], data=found, augment=False)
print(json.dumps([read.im_files, [one["bboxes"].tolist() for one in read.labels]]))
"""


def read_yolo_itself(root):
    """The file of a data set names its folder relative to where the training runs.

    In a process of its own, since the package puts functions of its own into those of Pillow and OpenCV.
    """
    if find_spec("ultralytics") is None:
        pytest.skip("ultralytics is not installed")
    done = subprocess.run([sys.executable, "-c", ULTRALYTICS], cwd=root, capture_output=True, text=True, check=True)
    images, boxes = json.loads(done.stdout.splitlines()[-1])
    assert boxes == [[[0.5, 0.5, 0.25, 0.25]]]
    assert brightened(cv2.imread(images[0]))


def read_cityscapes_itself(root):
    measure = pytest.importorskip("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
    maps = sorted(map(str, root.glob("gtFine/train/*/*_labelIds.png")))
    measure.args.quiet, measure.args.JSONOutput = True, False
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np, "in1d", np.isin, raising=False)  # which numpy 2.4 has no longer
        assert measure.evaluateImgLists(maps, maps, measure.args)["averageScoreClasses"] == 1


def read_nuscenes_itself(root):
    devkit = pytest.importorskip("nuscenes.nuscenes").NuScenes("v1.0-mini", str(root), verbose=False)
    for sensor, token in devkit.sample[0]["data"].items():
        path = Path(devkit.get_sample_data_path(token))
        assert brightened(cv2.imread(str(path))) if sensor.startswith("CAM") else len(path.read_bytes()) == 200
    assert devkit.map[0]["mask"].mask().any()


LOADERS = {
    "coco": read_coco,
    "yolo": read_yolo,
    "bdd100k": read_bdd100k,
    "cityscapes": read_cityscapes,
    "kitti": read_kitti,
    "nuscenes": read_nuscenes,
}
# Packages that ask for others than ours, and work without: `pip install --no-deps`, as in .ci/run.
OWN_TOOLS = {"yolo": read_yolo_itself, "cityscapes": read_cityscapes_itself, "nuscenes": read_nuscenes_itself}


@pytest.mark.jobs
@pytest.mark.parametrize("layout", OWN_TOOLS, indirect=True)
def test_its_own_tool_reads_it(layout, monkeypatch, tmp_path):
    name, _, output = layout
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("YOLO_OFFLINE", "true")
    monkeypatch.chdir(output)
    OWN_TOOLS[name](output)
