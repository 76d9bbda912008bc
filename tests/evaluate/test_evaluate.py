"""`sgllie evaluate` on images: exact values, what belongs together, failures as rows, resume and refusals."""

import json
import math
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from commands import rows_of
from places import SAMPLES
from sgllie.errors import CrashError, StorageError, UsageError
from sgllie.evaluate.matching import Names, match
from sgllie.evaluate.measures import Measurer
from sgllie.evaluate.pipeline import EvaluatePipeline
from sgllie.evaluate.run import prepare
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.evaluate.summary import means, worst
from sgllie.evaluate.table import comparisons_text, digits
from sgllie.images import decode
from sgllie.metrics import METRICS
from sgllie.metrics.bootstrap import bootstrap_interval, weighted_mean
from sgllie.runs.isolation import Isolated
from sgllie.runs.job import InProcess, finish
from sgllie.runs.journal import Journal
from sgllie.runs.names import part_name
from sgllie.runs.schemas import SCHEMA_VERSION
from sgllie.storage import Entry, open_storage

SIZE = (288, 200)
FEW = ("--num-actors", 1)
BUNDLED = {name: metric for name, metric in METRICS.items() if metric.load is None}


def photograph(name: str) -> np.ndarray:
    return cv2.resize(cv2.imread(str(SAMPLES / name)), SIZE, interpolation=cv2.INTER_AREA)


def write(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
    return path


def pixels_of(path: Path) -> np.ndarray:
    return decode(path.read_bytes()).pixels


@pytest.fixture
def trees(tmp_path):
    """Three pictures: dark JPEGs, brighter PNGs of the same stems, and well-lit references."""
    for name in ("coffee.jpg", "rocket.jpg", "portrait/astronaut.jpg"):
        dark = photograph(name)
        write(tmp_path / "in" / name, dark)
        write((tmp_path / "out" / name).with_suffix(".png"), cv2.convertScaleAbs(dark, alpha=3))
        write((tmp_path / "truth" / name).with_suffix(".png"), cv2.convertScaleAbs(dark, alpha=4))
    return tmp_path


def test_values_are_those_of_the_metrics(here, trees):
    arguments = ("evaluate", trees / "out", "--before", trees / "in", "--reference", trees / "truth")
    result = here(*arguments, *FEW)
    assert result.returncode == 0, result.stderr
    rows = {row["path"]: row for row in rows_of(trees / "out-evaluation")}
    assert sorted(rows) == ["coffee.png", "portrait/astronaut.png", "rocket.png"]
    for path, row in rows.items():
        assert (row["status"], row["error"]) == ("ok", None)
        after, truth = pixels_of(trees / "out" / path), pixels_of(trees / "truth" / path)
        before = pixels_of((trees / "in" / path).with_suffix(".jpg"))
        for name, metric in BUNDLED.items():
            other = {"none": (), "truth": (truth,), "input": (before,)}[metric.reference]
            assert row[name] == metric.function(after, *other), name
            assert row[f"{name}_before"] == metric.function(before, *other), name
    summary = json.loads((trees / "out-evaluation/summary.json").read_text())
    assert (summary["images"], summary["ok"], summary["failed"]) == (3, 3, 0)
    found = {one["metric"]: one for one in summary["metrics"]}
    ordered = [rows[path] for path in sorted(rows)]
    for name in BUNDLED:
        values = np.array([[row[f"{name}_before"], row[name]] for row in ordered])
        expected = bootstrap_interval(values[:, 0], values[:, 1], weighted_mean, 3)
        one = found[name]
        assert (one["difference"], one["low"], one["high"]) == pytest.approx(tuple(expected), nan_ok=True)
        assert (one["before"], one["after"]) == pytest.approx(tuple(values.mean(axis=0)))
    assert found["psnr"]["better"] == 1
    assert found["brightness"]["better"] is None
    assert "psnr" in result.stdout
    assert {path.name for path in (trees / "out-evaluation").iterdir()} == {
        "manifest", "commits", "stats", "run.json", "summary.json", "_SUCCESS",
    }  # fmt: skip


def test_a_run_of_enhance_knows_its_input(here, trees):
    (trees / "in/broken.jpg").write_bytes(b"no image")
    assert here("enhance", trees / "in", trees / "run", "--format", "png", *FEW).returncode == 3
    before = {str(path) for path in (trees / "run").rglob("*")}
    write(trees / "truth/alone.png", photograph("rocket.jpg"))
    (trees / "truth/broken.jpg").write_bytes((trees / "in/coffee.jpg").read_bytes())
    result = here("evaluate", trees / "run", "--metrics", "niqe,loe", "--reference", trees / "truth", *FEW)
    assert result.returncode == 3, result.stderr
    assert "is a run of sgllie enhance" in result.stdout
    assert "1 file (reference) without an image in the run: not counted" in result.stdout
    assert before == {str(path) for path in (trees / "run").rglob("*")}
    rows = {row["path"]: row for row in rows_of(trees / "run-evaluation")}
    assert rows["broken.jpg"]["status"] == "failed"
    assert "sgllie enhance failed on it" in rows["broken.jpg"]["error"]
    row = rows["coffee.jpg"]
    after, dark = pixels_of(trees / "run/images/coffee.png"), pixels_of(trees / "in/coffee.jpg")
    assert (row["niqe"], row["niqe_before"]) == (METRICS["niqe"].function(after), METRICS["niqe"].function(dark))
    assert (row["loe"], row["loe_before"]) == (METRICS["loe"].function(after, dark), 0)
    (trees / "run/_SUCCESS").unlink()
    assert "is not finished" in here("evaluate", trees / "run", "--out", trees / "other").stderr


def test_what_is_wrong_is_a_row(here, trees):
    (trees / "in/coffee.jpg").unlink()
    (trees / "out/rocket.png").write_bytes(b"no image")
    write(trees / "truth/portrait/astronaut.png", np.full((50, 60, 3), 99, np.uint8))
    write(trees / "truth/alone.png", np.full((50, 60, 3), 99, np.uint8))
    options = ("--before", trees / "in", "--reference", trees / "truth", "--metrics", "psnr,brisque,brightness")
    result = here("evaluate", trees / "out", *options, *FEW)
    assert result.returncode == 3, result.stderr
    rows = {row["path"]: row for row in rows_of(trees / "out-evaluation")}
    assert {path: row["error_type"] for path, row in rows.items()} == {
        "coffee.png": "missing",
        "rocket.png": "not_an_image",
        "portrait/astronaut.png": "not_measurable",
        "alone.png": "missing",
    }
    assert "there is no image before of this name" in rows["coffee.png"]["error"]
    assert "there is no enhanced image for this reference" in rows["alone.png"]["error"]
    assert "same shape" in rows["portrait/astronaut.png"]["error"]
    # What can be measured is.
    assert rows["coffee.png"]["psnr"] > 0
    assert rows["coffee.png"]["psnr_before"] is None
    assert rows["rocket.png"]["psnr"] is None
    assert rows["rocket.png"]["psnr_before"] > 0
    assert rows["portrait/astronaut.png"]["brightness"] > rows["portrait/astronaut.png"]["brightness_before"]
    assert "4 failed (2 missing, 1 not_an_image, 1 not_measurable)" in result.stdout
    summary = json.loads((trees / "out-evaluation/summary.json").read_text())
    assert {one["metric"]: one["images"] for one in summary["metrics"]} == {"psnr": 0, "brisque": 1, "brightness": 1}


def test_grey_and_deep_files_are_compared_as_8_bit_rgb(tmp_path):
    dark = photograph("coffee.jpg")
    deep = write(tmp_path / "deep.png", dark.astype(np.uint16) * 257).read_bytes()
    grey = write(tmp_path / "grey.png", dark[..., 0]).read_bytes()
    files = {"after": deep, "before": grey, "truth": grey}
    settings = EvaluateSettings(images="a", before="b", reference="c", metrics="psnr,loe", max_pixels=10**6)
    row = Measurer(settings, set(files))(files, [])
    rgb, grey_rgb = dark[..., ::-1], np.repeat(dark[..., :1], 3, axis=2)
    assert row["psnr"] == METRICS["psnr"].function(rgb, grey_rgb)
    assert row["loe"] == METRICS["loe"].function(rgb, grey_rgb)


def test_again_refused_overwritten(here, trees):
    arguments = ("evaluate", trees / "out", "--out", trees / "result", "--metrics", "brightness", *FEW)
    result = trees / "result"
    assert "nothing was written" in here(*arguments, "--dry-run").stdout
    assert not result.exists()
    assert here(*arguments).returncode == 0
    again = here(*arguments)
    assert again.returncode == 0
    assert "All of it was there already" in again.stdout
    assert "brightness" in again.stdout
    refused = here(*arguments, "--limit", 2)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "--limit (None then, 2 now)" in refused.stderr
    write(trees / "out/new.png", photograph("rocket.jpg"))
    assert "All of it was there already" in here(*arguments).stdout
    assert "the input (3 files then, 4 now" in here(*arguments, "--check-input").stderr
    assert here(*arguments, "--limit", 2, "--overwrite").returncode == 0
    assert len(rows_of(result)) == 2
    run = {"schema_version": SCHEMA_VERSION, "command": "enhance", "settings": {}, "versions": {}}
    (trees / "in/run.json").write_text(json.dumps(run))
    assert "belongs to a run of sgllie enhance" in here("evaluate", trees / "out", "--out", trees / "in").stderr


@pytest.mark.jobs
def test_a_killed_evaluation_goes_on(trees):
    arguments = {"images": str(trees / "out"), "reference": str(trees / "truth"), "metrics": "brightness,psnr"}
    settings = EvaluateSettings(output=str(trees / "result"), **arguments)
    run = prepare(settings)
    told: list[int] = []
    pipeline = EvaluatePipeline(settings, run.roots, lambda shard, done, failed, group="": told.append(done))
    journal = Journal(pipeline.output, 0, pipeline.schema, pipeline.identity)
    journal.add({"path": "coffee.png", "status": "ok", "brightness": 0.25})
    journal.flush()
    run = prepare(settings)
    assert (run.resumed, run.shards) == (True, {0: 3})
    results = {0: pipeline.run(0)}  # a second attempt, in a process of its own
    rows = {row["path"]: row for row in rows_of(trees / "result", "commits")}
    assert told == [1, 2, 3]
    assert sorted(rows) == ["coffee.png", "portrait/astronaut.png", "rocket.png"]
    assert rows["coffee.png"]["brightness"] == 0.25, "what was done is kept"
    image, truth = (pixels_of(trees / side / "rocket.png") for side in ("out", "truth"))
    assert rows["rocket.png"]["psnr"] == METRICS["psnr"].function(image, truth)
    assert prepare(settings).shards == {}
    totals = finish(run, results, InProcess())
    assert (totals["images"], totals["failed"]) == (3, 0)
    with pytest.raises(StorageError, match="0 rows for 3 images"):
        finish(run, {}, InProcess())
    (trees / "result/commits" / part_name(0)).unlink()
    with pytest.raises(StorageError, match=r"part-00000\.parquet is not there any more"):
        finish(run, results, InProcess())


def make_deadly():
    return lambda number: os._exit(1) if number == 2 else number


@pytest.mark.jobs
def test_a_call_that_kills_its_process_is_told():
    with Isolated(1, math.inf, make_deadly) as function:
        assert function(1) == 1
        with pytest.raises(CrashError):
            function(2)
        assert function(3) == 3


def make_nothing():
    os._exit(1)


@pytest.mark.jobs
def test_no_call_is_to_blame_where_no_process_can_begin(monkeypatch):
    with Isolated(1, math.inf, make_nothing) as function, pytest.raises(StorageError, match="machine cannot go on"):
        function(1)
    monkeypatch.setattr(ProcessPoolExecutor, "submit", refuse)
    with Isolated(1, math.inf, make_deadly) as function, pytest.raises(StorageError, match="can't start new thread"):
        function(1)


def refuse(*_):
    raise RuntimeError("can't start new thread")


def make_frail(begun):
    if not begun.exists():
        begun.touch()
        os._exit(1)
    return lambda number: number


@pytest.mark.jobs
def test_a_process_that_dies_once_as_it_begins_stops_nothing(tmp_path):
    """Where memory was short for a moment, say."""
    with Isolated(1, math.inf, make_frail, tmp_path / "begun") as function:
        assert function(1) == 1


def make_refused():
    raise UsageError("the weights are gone")


@pytest.mark.jobs
def test_a_process_that_cannot_begin_is_no_fault_of_a_call():
    with Isolated(1, math.inf, make_refused) as function, pytest.raises(StorageError, match="the weights are gone"):
        function(1)


def test_from_bucket_to_bucket(here, trees, s3):
    for side in ("in", "out"):
        storage = open_storage(f"s3://bucket/{side}", s3)
        for entry in open_storage(str(trees / side)).list():
            storage.write(entry.path, (trees / side / entry.path).read_bytes())
    options = ("--s3.endpoint-url", s3.endpoint_url, "--s3.region", "us-east-1", "--metrics", "loe,entropy", *FEW)
    result = here("evaluate", "s3://bucket/out", "--before", "s3://bucket/in", *options)
    assert result.returncode == 0, result.stderr
    output = open_storage("s3://bucket/out-evaluation", s3)
    assert json.loads(output.read("summary.json"))["ok"] == 3
    assert {entry.path for entry in output.list()} == {
        "manifest/part-00000.parquet", "commits/part-00000.parquet", "stats/part-00000.parquet",
        "run.json", "summary.json", "_SUCCESS",
    }  # fmt: skip


def test_names_match_by_path_then_by_stem():
    def entries(*paths):
        return [Entry(path, 1, "v") for path in paths]

    names = Names(entries("a.jpg", "b.png", "b.jpg", "s/c_gt.png", "d.jpg", "d.tif", "e.jpg"), "reference", ("_gt",))
    items = list(match("after", entries("a.png", "b.png", "s/c.png", "d.png", "f.png"), {"truth": names}, True))
    assert [(item.path, item.truth) for item in items] == [
        ("a.png", "a.jpg"), ("b.png", "b.png"), ("s/c.png", "s/c_gt.png"), ("d.png", None), ("f.png", None),
        ("b.jpg", "b.jpg"), ("d.jpg", "d.jpg"), ("d.tif", "d.tif"), ("e.jpg", "e.jpg"),
    ]  # fmt: skip
    assert "several files that may be its reference: d.jpg, d.tif" in items[3].problem
    assert items[4].problem == "there is no reference of this name"
    assert "no enhanced image for this reference" in items[5].problem


def test_summary_pairs_images_and_finds_the_worst():
    table = pa.table(
        {
            "path": list("abcdefg"),
            "niqe": [4.0, 9.0, 3.0, None, 5.0, 6.0, 4.5],
            "niqe_before": [5.0, 4.0, 2.0, 3.0, None, 5.5, 4.4],
            "psnr": [10.0, np.inf, 20.0, 30.0, 40.0, 1.0, 1.0],
        }
    )
    niqe, psnr = means(table, ["niqe", "psnr"])
    assert (niqe.images, niqe.before, niqe.after) == (5, pytest.approx(4.18), pytest.approx(5.3))
    assert niqe.better == pytest.approx(1 / 5)
    assert (psnr.images, psnr.before, psnr.after) == (6, None, 17)
    assert psnr.low < 17 < psnr.high
    assert [row["path"] for row in worst(table)] == ["b", "c", "f", "g"]
    text = comparisons_text([niqe, psnr])
    assert "lower" in text
    assert "20 %" in text
    assert [digits(value) for value in (None, 0.12345, 1.2345, 12.345, 12345.6)] == [
        "-",
        "0.1235",
        "1.234",
        "12.35",
        "12,346",
    ]


def test_mistakes_are_one_sentence_each(here, trees):
    out = trees / "out"
    cases = [
        ((), "OUT is missing"),
        ((trees / "absent",), "does not exist"),
        ((trees,), "holds no images"),
        ((trees / "empty", "--before", out), "empty holds no images"),
        ((out, "--before", trees / "empty"), "empty holds no images"),
        ((out, "--metrics", "psnr"), "which needs well-lit pictures: --reference"),
        ((out, "--metrics", "loe"), "which needs the images before enhancement: --before"),
        ((out, "--metrics", "ssmi"), "'ssmi' is none of them"),
        ((out, "--predictions", out), "--task is missing"),
        ((out, "--task", "segmentation"), "must be left out with --task"),
        (("--task", "segmentation", "--predictions", out), "--labels is missing"),
        ((f"{out}/*.png",), "--out is missing"),
        (("s3://bucket",), "--out is missing"),
        ((out, "--out", trees / "in"), "holds other files"),
        ((out, "--threads", 0), "--threads is 0"),
    ]
    (trees / "empty").mkdir()
    for arguments, sentence in cases:
        arguments = (trees / "empty",) if arguments == (trees,) else arguments
        result = here("evaluate", *arguments)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), (arguments, result)
        assert sentence in result.stderr, (arguments, result.stderr)
