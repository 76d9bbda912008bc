"""Average precision against pycocotools and by hand; the three label formats; bootstrap intervals."""

import contextlib
import io
import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from sgllie.evaluate.detection import score
from sgllie.metrics.bdd100k import read_bdd100k
from sgllie.metrics.bootstrap import bootstrap_interval, weighted_mean
from sgllie.metrics.boxes import gather
from sgllie.metrics.coco import read_coco
from sgllie.metrics.detection import average_precision, match
from sgllie.metrics.yolo import read_yolo


def label(left, top, right, bottom, kind="car", crowd=False):
    return ([left, top, right, bottom], kind, 1.0, crowd)


def found(score, left, top, right, bottom, kind="car"):
    return ([left, top, right, bottom], kind, score, False)


def random_set(images=12, seed=0):
    """Labels and noisy detections of three classes, as COCO JSON."""
    rng = np.random.default_rng(seed)
    annotations, results = [], []
    for image in range(images):
        for _ in range(rng.integers(0, 6)):
            kind = int(rng.integers(1, 4))
            box = np.concatenate([rng.uniform(0, 200, 2), rng.uniform(10, 90, 2)])
            ids = {"id": len(annotations) + 1, "image_id": image, "category_id": kind}
            annotations.append(
                {**ids, "bbox": box.tolist(), "area": box[2] * box[3], "iscrowd": int(rng.random() < 0.1)}
            )
            for _ in range(rng.integers(0, 3)):
                guess = (box + rng.normal(0, 5, 4)).tolist()
                kind_guess = kind if rng.random() < 0.8 else 1
                results.append({"image_id": image, "category_id": kind_guess, "bbox": guess, "score": rng.random()})
        results.append({"image_id": image, "category_id": 2, "bbox": [1, 2, 30, 30], "score": rng.random()})
    labels = {
        "images": [
            {"id": image, "file_name": f"day/{image}.jpg", "width": 320, "height": 320} for image in range(images)
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "bus"}, {"id": 3, "name": "person"}],
        "annotations": annotations,
    }
    return labels, results


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_pycocotools(seed):
    labels, results = random_set(seed=seed)
    scores = average_precision(match(read_coco(json.dumps(labels)), read_coco(json.dumps(results), json.dumps(labels))))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = labels
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert scores.map50_95 == pytest.approx(evaluation.stats[0], abs=1e-12)
    assert scores.map50 == pytest.approx(evaluation.stats[1], abs=1e-12)


def test_average_precision_by_hand():
    labels = {"a": gather([label(0, 0, 10, 10), label(50, 50, 60, 60)]), "b": gather([label(0, 0, 10, 10)])}
    predictions = {
        "a": gather([found(0.9, 0, 0, 10, 10), found(0.8, 20, 20, 30, 30)]),
        "b": gather([found(0.7, 0, 0, 10, 6)]),
    }
    scores = average_precision(match(labels, predictions))
    # Right, wrong, right (overlap 0.6): precision 1 up to recall 1/3, 2/3 up to 2/3, and then none.
    at50 = (34 * 1 + 33 * 2 / 3) / 101
    assert scores.map50 == pytest.approx(at50)
    assert scores.class_ap50 == {"car": pytest.approx(at50)}
    assert scores.map50_95 == pytest.approx((3 * at50 + 7 * 34 / 101) / 10)


def test_perfect_none_and_strange_predictions():
    labels = {"a": gather([label(0, 0, 10, 10), label(0, 20, 40, 50, "bus")]), "b": gather([])}
    perfect = average_precision(match(labels, labels))
    assert (perfect.map50, perfect.map50_95) == (1, 1)
    assert average_precision(match(labels, {})).map50 == 0
    assert np.isnan(average_precision(match({"a": gather([])}, {})).map50)
    other = {"a": gather([found(0.9, 0, 0, 10, 10, "automobile"), found(0.9, 5, 5, 9, 9, "giraffe")]), "z": labels["a"]}
    assert average_precision(match(labels, other, {"automobile": "car"})).class_ap50 == {"bus": 0, "car": 1}


def test_no_common_image_is_refused():
    with pytest.raises(ValueError, match="no image in common"):
        match({"a": gather([label(0, 0, 9, 9)])}, {"b": gather([found(1, 0, 0, 9, 9)])})


def test_a_detection_inside_a_crowd_counts_neither_way():
    labels = {"a": gather([label(0, 0, 10, 10), label(50, 50, 90, 90, crowd=True)])}
    predictions = {"a": gather([found(0.9, 55, 55, 60, 60), found(0.8, 0, 0, 10, 10)])}
    assert average_precision(match(labels, predictions)).map50 == 1


def test_weights_count_an_image_several_times():
    labels, results = random_set(images=6, seed=3)
    truth, guesses = read_coco(json.dumps(labels)), read_coco(json.dumps(results), json.dumps(labels))
    weights = np.array([2, 0, 1, 3, 1, 1])
    weighted = average_precision(match(truth, guesses), weights)
    names = [name for name, weight in zip(sorted(truth), weights, strict=True) for _ in range(weight)]
    copies = [{f"{number}": boxes[name] for number, name in enumerate(names)} for boxes in (truth, guesses)]
    assert weighted.map50 == pytest.approx(average_precision(match(*copies)).map50)


def test_the_formats_agree():
    coco = {
        "images": [{"id": 7, "file_name": "night/one.jpg"}, {"id": 8, "file_name": "night/two.jpg"}],
        "categories": [{"id": 3, "name": "car"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40]}],
    }
    results = [{"image_id": 7, "category_id": 3, "bbox": [10, 20, 30, 40], "score": 0.25}]
    box = {"category": "car", "box2d": {"x1": 10, "y1": 20, "x2": 39, "y2": 59}}
    frames = [
        {"name": "night/one.jpg", "labels": [{**box, "score": 0.25}, {"category": "lane", "poly2d": []}]},
        {"name": "night/two.jpg", "labels": None},
    ]
    sizes = {"night/one.jpg": (200, 100), "night/two.jpg": (200, 100)}
    yolo = {"night/one.txt": "1 0.125 0.4 0.15 0.4 0.25\n", "night/two.txt": "\n"}
    readings = [
        read_coco(json.dumps(results), json.dumps(coco)),
        read_bdd100k(json.dumps(frames)),
        read_bdd100k(json.dumps({"frames": frames})),
        read_yolo(yolo, sizes, ["bus", "car"]),
    ]
    for reading in readings:
        assert list(reading) == ["night/one", "night/two"]
        assert reading["night/one"].corners == pytest.approx(np.array([[10, 20, 40, 60]]))
        assert reading["night/one"].classes == ["car"]
        assert reading["night/one"].scores.tolist() == [0.25]
        assert reading["night/two"].corners.shape == (0, 4)
    assert read_coco(json.dumps(coco))["night/one"].scores.tolist() == [1]


def test_files_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="not COCO JSON"):
        read_coco("{")
    with pytest.raises(ValueError, match="give the label file"):
        read_coco("[]")
    with pytest.raises(ValueError, match="lacks or does not know 'images'"):
        read_coco("{}")
    with pytest.raises(ValueError, match="lacks or does not know 'name'"):
        read_bdd100k('[{"labels": []}]')
    with pytest.raises(ValueError, match=r"a\.txt, line 2: not a YOLO box"):
        read_yolo({"a.txt": "0 .5 .5 .1 .1\n9 .5 .5 .1 .1"}, {"a.jpg": (10, 10)}, ["car"])
    with pytest.raises(ValueError, match=r"size of the image of b\.txt"):
        read_yolo({"b.txt": ""}, {"a.jpg": (10, 10)}, ["car"])


def test_the_interval_of_a_constant_difference_is_that_difference():
    before = np.random.default_rng(0).normal(size=30)
    interval = bootstrap_interval(before, before + 2, weighted_mean, images=30)
    assert interval == pytest.approx((2, 2, 2))


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    rng = np.random.default_rng(1)
    before, after = rng.normal(size=400), rng.normal(0.5, 1, size=400)
    interval = bootstrap_interval(before, after, weighted_mean, images=400, resamples=4000)
    error = np.std(after - before) / 20
    assert interval.difference == pytest.approx((after - before).mean())
    assert interval.low == pytest.approx(interval.difference - 1.96 * error, abs=0.15 * error)
    assert interval.high == pytest.approx(interval.difference + 1.96 * error, abs=0.15 * error)
    assert interval == bootstrap_interval(before, after, weighted_mean, images=400, resamples=4000)


def test_draws_do_not_depend_on_how_many_are_made_at_a_time(monkeypatch):
    rng = np.random.default_rng(2)
    before, after = rng.normal(size=40), rng.normal(size=40)
    together = bootstrap_interval(before, after, weighted_mean, images=40, resamples=90)
    monkeypatch.setattr("sgllie.metrics.bootstrap.BATCH", 280)
    few = bootstrap_interval(before, after, weighted_mean, images=40, resamples=90)
    assert tuple(few) == pytest.approx(tuple(together))


def test_an_interval_of_mean_average_precision():
    labels, results = random_set(images=30, seed=5)
    worse = [{**result, "bbox": [result["bbox"][0] + 15, *result["bbox"][1:]]} for result in results]
    truth, text = read_coco(json.dumps(labels)), json.dumps(labels)
    before, after = (match(truth, read_coco(json.dumps(found), text)) for found in (worse, results))
    interval = bootstrap_interval(before, after, score("map50"), 30, resamples=200)
    assert interval.low < interval.difference < interval.high
    assert interval.low > 0


def test_an_interval_needs_an_image():
    with pytest.raises(ValueError, match="at least one image"):
        bootstrap_interval([], [], weighted_mean, images=0)
