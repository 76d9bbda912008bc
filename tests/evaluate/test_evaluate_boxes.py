"""`sgllie evaluate --task detection`: which lines and files are boxes, and in which frame they are measured."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from sgllie.errors import UsageError
from sgllie.evaluate.detection import prepare, read_detections
from sgllie.evaluate.image_sizes import upright_size
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.metrics.bdd100k import read_bdd100k
from sgllie.metrics.coco import read_coco
from sgllie.metrics.detection import average_precision
from sgllie.metrics.yolo import read_yolo

SIZES = {"a.jpg": (200, 100)}
BOX = "0 0.2 0.25 0.2 0.3"
OUTLINE = "0 0.1 0.1 0.3 0.1 0.3 0.4 0.1 0.4"
LEFT_TOP_RIGHT_BOTTOM = [20, 10, 60, 40]


@pytest.mark.parametrize(
    ("line", "score"),
    [
        (BOX, 1),
        (f"{BOX} 0.5", 0.5),
        (OUTLINE, 1),
        (f"{OUTLINE} 0.5", 0.5),
        ("0 0.1 0.1 0.3 0.4 0.2 0.2", 1),
        ("0 0.1 0.1 0.3 0.4 0.2 0.2 0.5", 0.5),
        ("0 0.2 0.1 0.3 0.25 0.2 0.4 0.1 0.25", 1),
        ("0 0.1 0.1 0.3 0.1 0.3 0.4 0.2 0.35 0.1 0.4", 1),
    ],
    ids=["box", "score", "outline", "outline-score", "triangle", "triangle-score", "rotated", "five-points"],
)
def test_yolo_lines_are_boxes_or_the_boxes_around_outlines(line, score):
    boxes = read_yolo({"a.txt": line}, SIZES, ["car"])["a"]
    assert boxes.corners == pytest.approx(np.array([LEFT_TOP_RIGHT_BOTTOM]))
    assert (boxes.classes, boxes.scores.tolist()) == (["car"], [score])


def test_coordinates_may_be_rounded_beyond_the_image():
    assert read_yolo({"a.txt": "0 0.5 0.5 1.0001 1"}, SIZES, ["car"])["a"].corners[0, 0] == pytest.approx(-0.01)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("0 0.5 0.5 0.1", "must be followed by 4 numbers"),
        ("0", "must be followed by 4 numbers"),
        ("car 0.5 0.5 0.1 0.1", "'car' is no number"),
        ("0 0.5 0.5 0,1 0.1", "'0,1' is no number"),
        ("0 0.5 0.5 nan 0.1", "nan does not lie between 0 and 1"),
        ("0 0.5 0.5 0.1 inf", "inf does not lie between 0 and 1"),
        ("0 120 80 40 30", "120 does not lie between 0 and 1"),
        ("0 0.5 0.5 0.1 0.1 87", "87 does not lie between 0 and 1"),
        ("0 0.5 0.5 0.1 0.1 0.9 17", "17 does not lie between 0 and 1"),
        ("0 0.1 0.1 0.3 0.1 0.3 40 0.1 0.4", "40 does not lie between 0 and 1"),
        ("0 0.5 0.5 -0.005 0.1", "width or height is negative"),
        ("-1 0.5 0.5 0.1 0.1", "its class -1 is none of the 1"),
        ("1 0.5 0.5 0.1 0.1", "its class 1 is none of the 1"),
        ("0.5 0.5 0.5 0.1 0.1", "its class 0.5 is none of the 1"),
        ("nan 0.5 0.5 0.1 0.1", "its class nan is none of the 1"),
    ],
)
def test_any_other_yolo_line_is_refused_by_file_and_line(line, why):
    with pytest.raises(ValueError, match=r"^a\.txt, line 3: not a YOLO box: .*" + why):
        read_yolo({"a.txt": f"{BOX}\n\n{line}\n"}, SIZES, ["car"])


@pytest.mark.parametrize("points", ["0.15 0.2 1 " * 17, "0 0 0 " * 17, "0.15 0.2 2 0 0 0 0.25 0.3 1"])
def test_a_pose_is_no_outline(points):
    with pytest.raises(ValueError, match=r"^a\.txt, line 1: not a YOLO box: key points .* keep its first five numbers"):
        read_yolo({"a.txt": f"{BOX} {points}"}, SIZES, ["car"])


def test_two_images_of_one_name_and_two_sizes_are_refused():
    with pytest.raises(ValueError, match=r"two images may be that of a\.txt"):
        read_yolo({"a.txt": BOX}, SIZES | {"a.png": (100, 200)}, ["car"])
    assert list(read_yolo({"a.txt": BOX}, SIZES | {"a.png": (200, 100)}, ["car"])) == ["a"]


def test_two_files_of_one_image_are_refused():
    with pytest.raises(ValueError, match=r"two files hold the boxes of the image a \(one is a\.TXT\)"):
        read_yolo({"a.txt": BOX, "a.TXT": BOX}, SIZES, ["car"])


def encoded(format, orientation, size=(30, 20)):
    """The bytes of an image with an EXIF Orientation."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if format == "TIFF" else {"exif": exif}
    file = io.BytesIO()
    Image.new("RGB", size).save(file, format, **options)
    return file.getvalue()


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize(("orientation", "size"), [(1, (30, 20)), (3, (30, 20)), (6, (20, 30)), (8, (20, 30))])
def test_sizes_are_those_of_the_upright_picture(format, orientation, size):
    assert upright_size(encoded(format, orientation)) == size


def as_coco(boxes):
    """Labels of images 200 x 100 (a) and 100 x 200 (b), a box each."""
    return {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "person"}],
        "annotations": [
            {"id": 10 + number, "image_id": number, "category_id": number, "bbox": box}
            for number, box in enumerate(boxes, start=1)
        ],
    }


@pytest.fixture
def yolo(tmp_path):
    """Two photographs, the second of them turned by its EXIF, and what was detected in the upright pictures."""
    for folder in ("img", "labels", "predictions"):
        (tmp_path / folder).mkdir()
    (tmp_path / "img/a.jpg").write_bytes(encoded("JPEG", 1, (200, 100)))
    (tmp_path / "img/b.jpg").write_bytes(encoded("JPEG", 6, (200, 100)))
    (tmp_path / "classes.txt").write_text("car\nperson\n")
    (tmp_path / "labels.json").write_text(json.dumps(as_coco([[20, 10, 40, 30], [10, 40, 30, 80]])))
    for folder, score in (("labels", ""), ("predictions", " 0.9")):
        (tmp_path / folder / "a.txt").write_text(f"0 0.2 0.25 0.2 0.3{score}\n")
        (tmp_path / folder / "b.txt").write_text(f"1 0.25 0.4 0.3 0.4{score}\n")
    return tmp_path


def settings_of(folder, labels="labels", **others):
    sources = {"labels": str(folder / labels), "predictions": str(folder / "predictions")}
    names = {"classes": str(folder / "classes.txt"), "image_sizes": str(folder / "img")}
    return EvaluateSettings(**{"task": "detection", "output": str(folder / "result"), **sources, **names, **others})


def test_labels_and_predictions_meet_in_the_upright_picture(yolo):
    found = read_detections(settings_of(yolo, "labels.json"))
    assert average_precision(found.after).map50_95 == 1
    assert found.notes == []


STRAYS = {
    "classes.txt": b"car\nperson\n",
    "sub/classes.txt": b"car\n",
    "README.roboflow.txt": "night - v3\n\nThis dataset was exported, © 2024, with 1200 images.\n".encode(),
    "train.txt": b"data/img/a.jpg\ndata/img/b.jpg\n",
    "numbers.txt": b"0\n1\n2\n",
    "obj.names": b"car\nperson\n",
    "data.yaml": b"nc: 2\n",
    "._a.txt": b"\0\x05\x16\x07\0\x02\xff\xfe",
}


@pytest.mark.parametrize("name", STRAYS)
def test_stray_files_among_yolo_files_are_passed_over_and_counted(yolo, name):
    for folder in ("labels", "predictions"):
        path = yolo / folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(STRAYS[name])
    found = read_detections(settings_of(yolo))
    assert average_precision(found.after).map50_95 == 1
    assert found.after.images == ["a", "b"]
    assert found.notes == [f"{yolo / folder}: 1 other file ignored: {name}" for folder in ("labels", "predictions")]


def test_predictions_without_labels_are_told(yolo):
    (yolo / "labels/b.txt").unlink()
    assert read_detections(settings_of(yolo)).notes == ["1 image with predictions, but without labels: not counted"]


def test_photographs_beside_their_labels_are_no_strays(yolo):
    (yolo / "labels/a.jpg").write_bytes((yolo / "img/a.jpg").read_bytes())
    assert prepare(settings_of(yolo, dry_run=True)).notes == []


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("c.txt", b"0 0.5 0.5 0.1 0.1\n", "the size of the image of c.txt is needed"),
        ("c.txt", b"", "the size of the image of c.txt is needed"),
        ("a.txt", b"0 0.5 0.5 0.1 \xff\n", "a.txt is not text in UTF-8"),
        ("a.txt", b"night\n", "a.txt, line 1: not a YOLO box: 'night' is no number"),
    ],
)
def test_labels_are_never_passed_over(yolo, name, text, sentence):
    (yolo / "labels" / name).write_bytes(text)
    with pytest.raises(UsageError, match=sentence) as caught:
        read_detections(settings_of(yolo))
    assert str(caught.value).startswith(str(yolo / "labels"))


def test_what_is_around_yolo_files_is_checked_too(yolo):
    (yolo / "gaps.txt").write_text("car\n\nperson\n")
    with pytest.raises(UsageError, match="has no name in line 2"):
        read_detections(settings_of(yolo, classes=str(yolo / "gaps.txt")))
    with pytest.raises(UsageError, match="--classes must name a text file"):
        read_detections(settings_of(yolo, classes=str(yolo / "data.yaml")))
    (yolo / "img/b.jpg").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 200 100\n")
    with pytest.raises(UsageError, match=r"the size of .*/img/b\.jpg cannot be read: it is not a JPEG, PNG"):
        read_detections(settings_of(yolo))


def test_a_byte_order_mark_is_no_part_of_a_number(yolo):
    (yolo / "labels/a.txt").write_bytes(b"\xef\xbb\xbf0 0.2 0.25 0.2 0.3\r\n")
    (yolo / "classes.txt").write_bytes(b"\xef\xbb\xbfcar\r\nperson\r\n")
    assert average_precision(read_detections(settings_of(yolo)).after).class_ap50 == {"car": 1, "person": 1}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"bbox": []}, r"'bbox' must be four numbers .* not \[\]"),
        ({"bbox": None}, "'bbox' must be four numbers .* not None"),
        ({"bbox": [1, 2, 3]}, "'bbox' must be four numbers"),
        ({"bbox": [1, 2, float("nan"), 4]}, "'bbox' must be four numbers"),
        ({"bbox": [1, 2, "3", 4]}, "'bbox' must be four numbers"),
        ({"bbox": [1, 2, 10**400, 4]}, "'bbox' must be four numbers"),
        ({"bbox": [1, 2, -3, 4]}, "'bbox' has a negative width or height"),
        ({"image_id": 9}, "'image_id' is 9, and the label file has no such image"),
        ({"image_id": None}, "'image_id' is None"),
        ({"image_id": [1]}, r"'image_id' is \[1\]"),
        ({"category_id": 9}, "'category_id' is 9, and the label file has no such category"),
        ({"score": "high"}, "score must be a number, not 'high'"),
        ({"score": float("nan")}, "score must be a number, not nan"),
    ],
)
def test_a_coco_annotation_that_is_no_box_is_named_with_its_file(tmp_path, change, sentence):
    labels = as_coco([[1, 2, 3, 4], [1, 2, 3, 4]])
    labels["annotations"][1] |= change
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    with pytest.raises(UsageError, match=sentence) as caught:
        read_detections(settings_of(tmp_path, "labels.json"))
    assert str(caught.value).startswith(f"{tmp_path / 'labels.json'}: annotation 12: its ")
    results = [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 1} | change]
    with pytest.raises(ValueError, match=f"^result number 1: its .*{sentence.removeprefix('its ')}"):
        read_coco(json.dumps(results), json.dumps(as_coco([])))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"annotations": None}, "lacks or does not know 'annotations'"),
        ({"annotations": ["a"]}, "annotation number 1: it must be a JSON object"),
        ({"categories": {}}, "lacks or does not know 'categories'"),
        ({"categories": [{"id": 1}]}, "number 1 of its 'categories' lacks an 'id' or a 'name'"),
        ({"images": [{"file_name": "a.jpg"}]}, "number 1 of its 'images' lacks an 'id' or a 'file_name'"),
        ({"images": [{"id": 1, "file_name": "a.jpg"}] * 2}, "two of its 'images' have the id 1"),
        ({"images": [{"id": k, "file_name": f"a.{k}"} for k in (1, 2)]}, "two of its 'images' have the same"),
    ],
)
def test_a_coco_file_that_lacks_something_is_refused(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        read_coco(json.dumps(as_coco([[1, 2, 3, 4]]) | change))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"box2d": {}}, "'box2d' must hold the numbers"),
        ({"box2d": {"x1": 1, "y1": 1, "x2": float("nan"), "y2": 2}}, "'box2d' must hold the numbers"),
        ({"box2d": {"x1": 5, "y1": 1, "x2": 1, "y2": 2}}, "negative width or height"),
        ({"category": None}, "lacks a 'category'"),
        ({"score": "1"}, "score must be a number"),
    ],
)
def test_a_bdd100k_label_that_is_no_box_is_named(change, sentence):
    good = {"id": "x7", "category": "car", "box2d": {"x1": 1, "y1": 1, "x2": 2, "y2": 2}}
    assert len(read_bdd100k(json.dumps([{"name": "a.jpg", "labels": [good]}]))["a"].classes) == 1
    with pytest.raises(ValueError, match=rf"^frame a\.jpg, label x7: .*{sentence}"):
        read_bdd100k(json.dumps([{"name": "a.jpg", "labels": [good | change]}]))


def test_two_frames_of_one_name_are_refused():
    with pytest.raises(ValueError, match=r"two frames have the name a\.jpg"):
        read_bdd100k(json.dumps([{"name": "a.jpg"}] * 2))


def test_nested_too_deep_is_one_sentence(tmp_path):
    (tmp_path / "labels.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match=r"labels\.json: this is no JSON of boxes"):
        read_detections(settings_of(tmp_path, "labels.json"))


def test_detections_have_no_failed_rows_to_retry(here, yolo):
    arguments = ("evaluate", "--task", "detection", "--labels", yolo / "labels", "--predictions", yolo / "predictions")
    arguments += ("--classes", yolo / "classes.txt", "--image-sizes", yolo / "img", "--out", yolo / "result")
    none = here(*arguments, "--retry-failed")
    assert (none.returncode, none.stderr) == (
        2,
        f"sgllie evaluate: --retry-failed: there is no run in {yolo / 'result'}\n",
    )
    assert here(*arguments).returncode == 0
    again = here(*arguments, "--retry-failed")
    assert (again.returncode, again.stderr) == (0, "")
    assert "All of it was there already" in again.stdout
    (yolo / "classes.txt").write_text("car\npedestrian\n")
    assert "the content of the boxes" in here(*arguments).stderr
