"""`sgllie evaluate` and `sgllie compare`: metrics that are not defined for an image; failed rows that are retried."""

import json
import os

import cv2
import numpy as np
import pytest

from commands import rows_of
from sgllie.compare.settings import CompareSettings
from sgllie.compare.trial import Trial, TrialRunner
from sgllie.evaluate.measures import Measurer
from sgllie.evaluate.settings import EvaluateSettings

RANDOM = np.random.default_rng(0)


def png(height, width, low=0, high=90):
    pixels = RANDOM.integers(low, high, (height, width, 3), np.uint8, endpoint=True)
    return cv2.imencode(".png", pixels)[1].tobytes()


SMALL, TINY, BLACK, LARGE = png(120, 160), png(8, 8), png(120, 240, 0, 0), png(120, 240)
EVERYTHING = "psnr,ssim,niqe,brisque,loe,brightness,contrast,entropy,colourfulness,clipped,black"


@pytest.mark.parametrize(
    ("image", "undefined"),
    [
        (LARGE, set()),
        (SMALL, {"niqe"}),
        (TINY, {"niqe", "brisque", "ssim"}),
        (BLACK, {"niqe", "brisque"}),
        (png(1, 1), {"niqe", "brisque", "ssim"}),
    ],
    ids=["large", "small", "tiny", "black", "one-pixel"],
)
def test_a_metric_that_is_not_defined_is_null_and_no_failure(image, undefined):
    other = png(*cv2.imdecode(np.frombuffer(image, np.uint8), cv2.IMREAD_COLOR).shape[:2])
    settings = EvaluateSettings(images="a", before="b", reference="c", metrics=EVERYTHING)
    row = Measurer(settings, {"after", "before", "truth"})({"after": image, "before": image, "truth": other}, [])
    assert (row["status"], row.get("error")) == ("ok", None)
    assert {name for name in EVERYTHING.split(",") if row[name] is None} == undefined
    assert {name for name in EVERYTHING.split(",") if row[f"{name}_before"] is None} == undefined
    assert all(name in row.get("undefined", "").lower() for name in undefined)
    settings = CompareSettings(input="a", output="b", reference="c", methods="gamma", metrics=EVERYTHING)
    for method in ("input", "gamma"):
        trial = Trial("x.png", None, "", method, "x.png", None, False)
        row = TrialRunner(settings)(trial, {"before": image, "truth": other}, [])
        assert (row["status"], row.get("error")) == ("ok", None)
        assert {name for name in EVERYTHING.split(",") if row[name] is None} == undefined


def test_files_that_do_not_fit_together_are_a_failure_still():
    settings = EvaluateSettings(images="a", reference="c", metrics="psnr,niqe")
    row = Measurer(settings, {"after", "truth"})({"after": SMALL, "truth": TINY}, [])
    assert (row["status"], row["error_type"]) == ("failed", "not_measurable")
    assert "same shape" in row["error"]
    assert "NIQE" in row["undefined"]


@pytest.fixture
def photographs(tmp_path):
    """Two small images and a large one."""
    (tmp_path / "in").mkdir()
    for name, data in (("a.png", SMALL), ("b.png", png(120, 160)), ("c.png", LARGE)):
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path


def test_what_is_undefined_is_counted_and_stops_no_evaluation(here, photographs):
    options = ("--metrics", "niqe,brightness", "--max-failures", 0, "--num-actors", 1)
    result = here("evaluate", photographs / "in", "--before", photographs / "in", *options)
    assert (result.returncode, result.stderr) == (0, "")
    assert "3 images: 3 measured" in result.stdout
    assert "Not defined for what is too small or has no texture, and left out there: niqe (2 images)." in result.stdout
    summary = json.loads((photographs / "in-evaluation/summary.json").read_text())
    assert (summary["ok"], summary["failed"], summary["undefined"]) == (3, 0, {"niqe": 2})
    assert {one["metric"]: one["images"] for one in summary["metrics"]} == {"niqe": 1, "brightness": 3}
    rows = {row["path"]: row for row in rows_of(photographs / "in-evaluation")}
    assert [rows[name]["niqe"] is None for name in ("a.png", "b.png", "c.png")] == [True, True, False]
    assert "got an image of 160x120" in rows["a.png"]["undefined"]
    assert rows["c.png"]["undefined"] is None


def test_what_is_undefined_is_counted_and_stops_no_comparison(here, photographs):
    options = ("--methods", "gamma", "--metrics", "niqe,brightness", "--max-failures", 0, "--num-actors", 1)
    result = here("compare", photographs / "in", "--out", photographs / "result", *options)
    assert (result.returncode, result.stderr) == (0, "")
    sentence = "Not defined for what is too small or has no texture, and left out there: niqe (4 trials)."
    assert sentence in result.stdout
    assert sentence in (photographs / "result/compare.html").read_text()
    summary = json.loads((photographs / "result/summary.json").read_text())
    assert (summary["failed"], summary["undefined"]) == (0, {"niqe": 4})
    assert all(method["niqe"] > 0 for method in summary["methods"])


def damage(path):
    """Make a file one that cannot be decoded, as long and as old as it was; return what makes it good again."""
    good, times = path.read_bytes(), path.stat()

    def write(data):
        path.write_bytes(data)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    write(bytes(len(good)))
    return lambda: write(good)


def marked(output, name, value):
    """Change a column of the rows that are ok, by which they are known again."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = output / "commits/part-00000.parquet"
    table = pq.read_table(path)
    rows = [row | {name: value} if row["status"] == "ok" else row for row in table.to_pylist()]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


@pytest.mark.parametrize("command", ["evaluate", "compare"])
def test_failed_rows_are_retried_and_the_others_kept(here, photographs, command):
    output = photographs / "result"
    arguments = (command, photographs / "in", "--out", output, "--metrics", "brightness", "--num-actors", 1)
    arguments += ("--methods", "gamma") if command == "compare" else ()
    keys = ("path", "method") if command == "compare" else ("path",)
    assert f"--retry-failed: there is no run in {output}" in here(*arguments, "--retry-failed").stderr
    mend = damage(photographs / "in/b.png")
    assert here(*arguments).returncode == 3
    marked(output, "brightness", 0.125)
    again = here(*arguments, "--retry-failed")
    assert again.returncode == 3, "still damaged"
    mend()
    assert here(*arguments).returncode == 3, "nothing is retried unasked"
    result = here(*arguments, "--retry-failed")
    assert (result.returncode, result.stderr) == (0, "")
    rows = {tuple(row[key] for key in keys): row for row in rows_of(output)}
    assert len(rows) == (6 if command == "compare" else 3)
    for key, row in rows.items():
        assert row["status"] == "ok"
        assert (row["brightness"] == 0.125) == (key[0] != "b.png"), "only what had failed is measured anew"
    summary = json.loads((output / "summary.json").read_text())
    assert (summary["ok"], summary["failed"]) == (len(rows), 0)
    assert json.loads((output / "_SUCCESS").read_text())["failed"] == 0
    assert "All of it was there already" in here(*arguments, "--retry-failed").stdout
