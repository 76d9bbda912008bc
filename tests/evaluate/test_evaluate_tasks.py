"""`sgllie evaluate --task`: label maps and boxes before and after, against the metrics called directly."""

import csv
import io
import json

import cv2
import numpy as np
import pytest

from commands import rows_of
from sgllie.evaluate.table import classes_text, methods_text
from sgllie.metrics import METRICS
from sgllie.metrics.coco import read_coco
from sgllie.metrics.detection import average_precision, match
from sgllie.metrics.segmentation import confusion, dark_cityscape_score, segmentation_scores

FEW = ("--num-actors", 1)


def write_maps(folder, maps):
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in maps.items():
        assert cv2.imwrite(str(folder / name), pixels)
    return folder


@pytest.fixture
def maps(tmp_path):
    """Labels of three pictures, good predictions and bad ones before; their arrays."""
    rng = np.random.default_rng(0)
    labels = {f"{name}_train_id.png": rng.integers(0, 4, (20, 30), np.uint8) for name in "abc"}
    labels["a_train_id.png"][:5] = 255
    arrays = {"labels": labels}
    for side, share in (("after", 0.2), ("before", 0.6)):
        wrong = {name: rng.random((20, 30)) < share for name in labels}
        arrays[side] = {
            name.replace("_train_id", ""): np.where(wrong[name], rng.integers(0, 4, (20, 30), np.uint8), label)
            for name, label in labels.items()
        }
    arrays["after"]["unlabelled.png"] = arrays["after"]["a.png"]
    arrays["before"] |= {"x.png": arrays["after"]["a.png"], "y.png": arrays["after"]["a.png"]}
    for side, found in arrays.items():
        write_maps(tmp_path / side, found)
    return tmp_path, arrays


def test_segmentation_before_and_after(here, maps):
    folder, arrays = maps
    options = ("--task", "segmentation", "--labels", folder / "labels", "--name-endings", "_train_id", *FEW)
    sides = ("--predictions", folder / "after", "--predictions-before", folder / "before")
    result = here("evaluate", *sides, *options)
    assert result.returncode == 0, result.stderr
    assert "1 file (prediction) without a label: not counted" in result.stdout
    assert "2 files (prediction before) without a label: not counted" in result.stdout
    summary = json.loads((folder / "after-evaluation/summary.json").read_text())
    found = {one["metric"]: one for one in summary["metrics"]}
    rows = {row["path"]: row for row in rows_of(folder / "after-evaluation")}
    for side, suffix in (("after", ""), ("before", "_before")):
        counts = {
            name: confusion(arrays[side][name.replace("_train_id", "")], label, 19)
            for name, label in arrays["labels"].items()
        }
        total = segmentation_scores(sum(counts.values()))
        for name in ("miou", "mpa", "pixel_accuracy", "fwiou"):
            assert found[name][side] == pytest.approx(getattr(total, name)), name
        for name, count in counts.items():
            assert rows[name][f"confusion{suffix}"] == count.ravel().tolist()
            assert rows[name][f"miou{suffix}"] == segmentation_scores(count).miou
        assert summary["classes"]["road"][f"iou{suffix}"] == pytest.approx(total.class_iou[0])
        assert summary["classes"]["sky"][f"iou{suffix}"] is None
    assert found["miou"]["low"] > 0
    assert "sidewalk" in result.stdout
    assert "bicycle" not in result.stdout


def test_segmentation_with_classes_of_ones_own(here, maps):
    folder, arrays = maps
    classes = [{"name": "flat", "ids": [0, 1]}, {"name": "other", "ids": [2]}, {"name": "sky", "ids": [3]}]
    (folder / "classes.json").write_text(json.dumps(classes))
    (folder / "after/b.png").unlink()
    options = ("--labels", folder / "labels", "--name-endings", "_train_id", "--classes", folder / "classes.json", *FEW)
    result = here(
        "evaluate", "--task", "segmentation", "--predictions", folder / "after", *options, "--ignore-label", 2
    )
    assert result.returncode == 3, result.stderr
    rows = {row["path"]: row for row in rows_of(folder / "after-evaluation")}
    assert "there is no prediction of this name" in rows["b_train_id.png"]["error"]
    table = np.array([0, 0, 1, 2, *[255] * 252])
    label = table[arrays["labels"]["a_train_id.png"]]
    label[label == 2] = 255
    assert rows["a_train_id.png"]["confusion"] == confusion(table[arrays["after"]["a.png"]], label, 3).ravel().tolist()
    (folder / "classes.json").write_text(json.dumps([*classes, {"name": "new", "ids": [9]}]))
    again = here("evaluate", "--task", "segmentation", "--predictions", folder / "after", *options, "--ignore-label", 2)
    assert "the content of the classes" in again.stderr
    (folder / "classes.json").write_text("{}x")
    wrong = here("evaluate", "--task", "segmentation", "--predictions", folder / "after", *options)
    assert "is no JSON list of" in wrong.stderr


def test_nothing_to_measure(here, maps):
    """Empty folders and the wrong ones are refused; maps of which none can be read are rows."""
    folder, arrays = maps
    (folder / "empty").mkdir()
    base = ("evaluate", "--task", "segmentation", "--labels", folder / "labels")
    empty = here(*base, "--predictions", folder / "after", "--predictions-before", folder / "empty")
    assert (empty.returncode, empty.stderr) == (2, f"sgllie evaluate: {folder / 'empty'} holds no images\n")
    strangers = here(*base, "--predictions", folder / "after")  # whose names have another ending
    assert (strangers.returncode, strangers.stderr.count("\n")) == (2, 1)
    assert f"no file in {folder / 'after'} has the name of one in {folder / 'labels'}" in strangers.stderr
    assert "(for example a_train_id.png)" in strangers.stderr
    for name in arrays["after"]:
        (folder / "after" / name).write_bytes(b"no image")
    result = here(*base, "--predictions", folder / "after", "--name-endings", "_train_id", *FEW)
    assert result.returncode == 3, result.stderr
    assert "3 failed (3 not_a_label_map)" in result.stdout
    summary = json.loads((folder / "after-evaluation/summary.json").read_text())
    assert {(one["metric"], one["images"], one["after"]) for one in summary["metrics"]} == {
        (name, 0, None) for name in ("miou", "mpa", "pixel_accuracy", "fwiou")
    }
    assert summary["classes"]["road"] == {"iou": None, "accuracy": None}


def test_dark_cityscape(here, tmp_path):
    rng = np.random.default_rng(1)
    arrays = {
        side: {f"{name}.png": rng.integers(0, 255, (12, 16, 3), np.uint8) for name in "ab"}
        for side in ("label", "guess")
    }
    for side, found in arrays.items():
        write_maps(tmp_path / side, found)
    options = ("--task", "darkcityscape", "--predictions", tmp_path / "guess", "--labels", tmp_path / "label", *FEW)
    assert here("evaluate", *options).returncode == 0
    rows = {row["path"]: row for row in rows_of(tmp_path / "guess-evaluation")}
    for name, row in rows.items():
        rgb = [arrays[side][name][..., ::-1] for side in ("guess", "label")]
        assert (row["dark_miou"], row["dark_mpa"]) == dark_cityscape_score(*rgb)


COCO = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "s/b.jpg"}, {"id": 3, "file_name": "c.jpg"}],
    "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "pedestrian"}],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 40, 20]},
        {"id": 2, "image_id": 1, "category_id": 2, "bbox": [60, 30, 10, 30]},
        {"id": 3, "image_id": 2, "category_id": 1, "bbox": [0, 0, 50, 50]},
    ],
}
AFTER = [
    {"image_id": 1, "category_id": 1, "bbox": [11, 10, 40, 20], "score": 0.9},
    {"image_id": 1, "category_id": 2, "bbox": [60, 31, 10, 30], "score": 0.8},
    {"image_id": 2, "category_id": 1, "bbox": [20, 20, 50, 50], "score": 0.7},
    {"image_id": 2, "category_id": 1, "bbox": [1, 0, 50, 50], "score": 0.6},
]
SIZE = (100, 80)


def as_yolo(folder, boxes):
    """The COCO boxes as YOLO text files."""
    names = {image["id"]: image["file_name"] for image in COCO["images"]}
    for name in names.values():
        path = (folder / name).with_suffix(".txt")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    for box in boxes:
        left, top, width, height = box["bbox"]
        fields = [(left + width / 2) / SIZE[0], (top + height / 2) / SIZE[1], width / SIZE[0], height / SIZE[1]]
        line = " ".join(map(str, [box["category_id"] - 1, *fields, *([box["score"]] if "score" in box else [])]))
        with (folder / names[box["image_id"]]).with_suffix(".txt").open("a") as file:
            file.write(line + "\n")


def as_bdd100k(boxes):
    """The COCO boxes as BDD100K JSON, the class `pedestrian` under another name."""
    return [
        {
            "name": image["file_name"],
            "labels": [
                {
                    "category": ["car", "person"][box["category_id"] - 1],
                    "score": box["score"],
                    "box2d": {
                        "x1": box["bbox"][0],
                        "y1": box["bbox"][1],
                        "x2": box["bbox"][0] + box["bbox"][2] - 1,
                        "y2": box["bbox"][1] + box["bbox"][3] - 1,
                    },
                }
                for box in boxes
                if box["image_id"] == image["id"]
            ],
        }
        for image in COCO["images"]
    ]


def test_detection_in_three_formats(here, tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(COCO))
    (tmp_path / "after.json").write_text(json.dumps(AFTER))
    (tmp_path / "before.json").write_text(json.dumps(AFTER[:1]))
    (tmp_path / "bdd.json").write_text(json.dumps(as_bdd100k(AFTER)))
    as_yolo(tmp_path / "yolo-labels", COCO["annotations"])
    as_yolo(tmp_path / "yolo", AFTER)
    (tmp_path / "names.txt").write_text("car\npedestrian\n")
    for image in COCO["images"]:
        path = tmp_path / "images" / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), np.zeros((*SIZE[::-1], 3), np.uint8))
    labels = read_coco(json.dumps(COCO))
    direct = {
        side: average_precision(match(labels, read_coco(json.dumps(boxes), json.dumps(COCO))))
        for side, boxes in (("after", AFTER), ("before", AFTER[:1]))
    }
    base = ("evaluate", "--task", "detection")
    coco = (*base, "--labels", tmp_path / "labels.json", "--predictions-before", tmp_path / "before.json")
    yolo = ("--classes", tmp_path / "names.txt", "--image-sizes", tmp_path / "images")
    for arguments in (
        (*coco, "--predictions", tmp_path / "after.json"),
        (*coco, "--predictions", tmp_path / "bdd.json", "--rename", "person=pedestrian"),
        (*base, "--labels", tmp_path / "yolo-labels", "--predictions", tmp_path / "yolo", *yolo),
    ):
        result = here(*arguments, "--out", tmp_path / "result", "--overwrite")
        assert result.returncode == 0, result.stderr
        summary = json.loads((tmp_path / "result/summary.json").read_text())
        found = {one["metric"]: one for one in summary["metrics"]}
        assert found["map50"]["after"] == pytest.approx(direct["after"].map50)
        assert found["map50_95"]["after"] == pytest.approx(direct["after"].map50_95, abs=0.02)
        assert summary["classes"]["pedestrian"]["ap50"] == pytest.approx(direct["after"].class_ap50["pedestrian"])
        if "--predictions-before" in arguments:
            assert found["map50"]["before"] == pytest.approx(direct["before"].map50)
            assert found["map50"]["low"] <= found["map50"]["difference"] <= found["map50"]["high"]
        rows = {row["path"]: row for row in rows_of(tmp_path / "result")}
        assert [rows[name]["objects"] for name in ("a", "s/b", "c")] == [2, 1, 0]
        assert [rows[name]["detections"] for name in ("a", "s/b", "c")] == [2, 2, 0]
        assert [rows[name]["right_at_50"] for name in ("a", "s/b", "c")] == [2, 1, 0]
    assert "map50" in result.stdout
    assert not list(csv.reader(io.StringIO(result.stderr)))


def test_detection_mistakes_are_one_sentence_each(here, tmp_path):
    (tmp_path / "labels.json").write_text(json.dumps(COCO))
    (tmp_path / "other.json").write_text('[{"name": "z.jpg", "labels": []}]')
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "results.json").write_text(json.dumps(AFTER))
    (tmp_path / "folder").mkdir()
    as_yolo(tmp_path / "yolo", AFTER)
    base = ("--task", "detection", "--labels", tmp_path / "labels.json", "--predictions")
    other = ("--task", "detection", "--labels", tmp_path / "other.json", "--predictions")
    results = ("--task", "detection", "--labels", tmp_path / "results.json", "--predictions")
    cases = [
        ((*base, tmp_path / "absent.json"), "cannot be read"),
        ((*base, tmp_path / "broken.json"), "broken.json"),
        ((*base, tmp_path / "other.json"), "no image in common"),
        ((*base, tmp_path / "folder"), "--image-sizes must name the images"),
        ((*base, tmp_path / "labels.json", "--rename", "a"), "must be pairs such as"),
        ((*base, tmp_path / "yolo", "--image-sizes", tmp_path), "--classes must name a text file"),
        ((*other, tmp_path / "results.json"), "which only a COCO label file explains"),
        ((*results, tmp_path / "results.json"), "which only a COCO label file explains"),
    ]
    for arguments, sentence in cases:
        result = here("evaluate", *arguments)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), (arguments, result)
        assert sentence in result.stderr, (arguments, result.stderr)


def test_classes_before_and_after_stand_side_by_side():
    values = {"iou_before": 0.25, "accuracy_before": None, "iou": 0.625, "accuracy": 0.75}
    heading, _, line = classes_text({"road": values, "sky": dict.fromkeys(values)}).splitlines()
    assert heading.split() == [
        "class", "iou", "before", "iou", "after", "difference", "accuracy", "before", "accuracy", "after", "difference",
    ]  # fmt: skip
    assert line.split() == ["road", "0.2500", "0.6250", "+0.3750", "-", "0.7500", "-"]
    alone = classes_text({"road": {"iou": 0.5, "accuracy": None}}).splitlines()
    assert (alone[0].split(), alone[2].split()) == (["class", "iou", "accuracy"], ["road", "0.5000", "-"])


def test_no_column_of_a_wide_table_is_cut():
    row = dict.fromkeys(METRICS, 0.123456) | {"milliseconds": 1.5, "relative_time": 1.0, "failed": 0}
    text = methods_text([row | {"method": "zero-dce:zero_dce_Epoch99"}], list(METRICS))
    assert "zero-dce:zero_dce_Epoch99" in text
    assert "…" not in text
    assert text.count("0.1235") == len(METRICS)
