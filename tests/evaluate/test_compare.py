"""`sgllie compare`: every row against the method and the metric called directly, failures, resume, the page."""

import csv
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest

from commands import rows_of
from networks import FOURS
from places import SAMPLES
from sgllie.compare.run import summaries
from sgllie.compare.settings import CompareSettings
from sgllie.compare.trial import Trial, TrialRunner
from sgllie.enhancer import Enhanced
from sgllie.images import decode
from sgllie.methods import MethodSettings, make_method
from sgllie.methods.blended import BlendedMethod
from sgllie.metrics import METRICS
from sgllie.runs.names import COMMITS, part_name

FEW = ("--num-actors", 1, "--methods", "sgz,gamma", "--metrics", "brisque,loe,psnr")


@pytest.fixture
def photographs(tmp_path):
    """Two dark pictures, their references, and a file that is none."""
    for name in ("coffee.jpg", "portrait/astronaut.jpg"):
        dark = cv2.resize(cv2.imread(str(SAMPLES / name)), (150, 100), interpolation=cv2.INTER_AREA)
        for side, gain in (("in", 1), ("truth", 4)):
            path = tmp_path / side / name
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), cv2.convertScaleAbs(dark, alpha=gain))
    (tmp_path / "in/broken.jpg").write_bytes(b"no image")
    (tmp_path / "truth/broken.jpg").write_bytes((tmp_path / "truth/coffee.jpg").read_bytes())
    return tmp_path


def test_every_method_on_every_image(here, photographs):
    out = photographs / "result"
    arguments = ("compare", photographs / "in", "--reference", photographs / "truth", "--out", out, *FEW)
    result = here(*arguments)
    assert result.returncode == 3, result.stderr
    rows = {(row["path"], row["method"]): row for row in rows_of(out)}
    assert len(rows) == 9
    for (path, name), row in rows.items():
        if path == "broken.jpg":
            assert (row["status"], row["error_type"], row["milliseconds"]) == ("failed", "not_an_image", None)
            continue
        image, truth = (decode((photographs / side / path).read_bytes()).pixels for side in ("in", "truth"))
        bright = image if name == "input" else make_method(MethodSettings(method=name, device="cpu"))(image)
        assert row["status"] == "ok"
        assert row["brisque"] == METRICS["brisque"].function(bright)
        assert row["loe"] == METRICS["loe"].function(bright, image)
        assert row["psnr"] == METRICS["psnr"].function(bright, truth)
        assert (row["milliseconds"] is None) == (name == "input")
        assert row["thumbnail"].startswith("data:image/webp;base64,")
    check_tables(out, rows)
    assert "3 failed (3 not_an_image)" in result.stdout

    (out / COMMITS / part_name(0)).unlink()
    (out / "_SUCCESS").unlink()
    assert here(*arguments).returncode == 3
    again = {(row["path"], row["method"]): row for row in rows_of(out)}
    assert {key: row["psnr"] for key, row in again.items()} == {key: row["psnr"] for key, row in rows.items()}
    refused = here(*arguments, "--scale-factor", 4)
    assert (refused.returncode, "--scale-factor (12 then, 4 now)" in refused.stderr) == (2, True)
    assert "All of it was there already" in here(*arguments).stdout


def check_tables(out: Path, rows: dict) -> None:
    """The summary in its three forms."""
    summary = json.loads((out / "summary.json").read_text())
    methods = {row["method"]: row for row in summary["methods"]}
    assert list(methods) == ["input", "sgz", "gamma"]
    for name, row in methods.items():
        good = [rows[path, name] for path in ("coffee.jpg", "portrait/astronaut.jpg")]
        assert (row["images"], row["failed"]) == (3, 1)
        for column in ("brisque", "loe", "psnr"):
            assert row[column] == pytest.approx(np.mean([one[column] for one in good]))
    times = {name: row["milliseconds"] for name, row in methods.items() if name != "input"}
    assert {name: methods[name]["relative_time"] for name in times} == pytest.approx(
        {name: time / min(times.values()) for name, time in times.items()}
    )
    table = list(csv.DictReader((out / "summary.csv").open()))
    assert [float(row["psnr"]) for row in table] == [row["psnr"] for row in methods.values()]
    html = (out / "compare.html").read_text()
    assert len(re.findall(r'<img src="data:image/webp', html)) == 6
    assert not re.findall(r'(?:src|href)="(?!data:)', html)
    assert "<script" not in html


def test_weights_have_a_name_of_their_own():
    settings = CompareSettings(
        input="in", output="out", methods="sgz, sgz=w/a.safetensors,onnx=s3://b/kind.onnx,lime", device="cuda"
    )
    found = settings.method_settings
    assert list(found) == ["sgz", "sgz:a", "onnx:kind", "lime"]
    assert [one.device for one in found.values()] == ["cuda", "cuda", "cuda", "cpu"]
    assert [one.weights for one in found.values()] == [None, "w/a.safetensors", "s3://b/kind.onnx", None]


def test_zero_dce_with_published_weights(shared, photographs):
    weights = shared / "reference/zero_dce_Epoch99.pth"
    settings = CompareSettings(
        input="in", output="out", methods=f"zero-dce={weights}", metrics="brightness", device="cpu"
    )
    data = (photographs / "in/coffee.jpg").read_bytes()
    trial = Trial("coffee.jpg", None, "", "zero-dce:zero_dce_Epoch99", None, None, False)
    row = TrialRunner(settings)(trial, {"before": data}, [])
    method = make_method(MethodSettings(method="zero-dce", weights=str(weights), device="cpu"))
    assert row["brightness"] == METRICS["brightness"].function(method(decode(data).pixels))
    assert (row["status"], "thumbnail" in row) == ("ok", False)


def test_a_network_in_an_onnx_file(photographs):
    """With sides that are no multiples of four, which this network needs."""
    (photographs / "fours.onnx").write_bytes(FOURS)
    settings = CompareSettings(
        input="in", output="out", methods=f"onnx={photographs / 'fours.onnx'}", metrics="niqe,loe"
    )
    data = cv2.imencode(".png", cv2.imread(str(SAMPLES / "coffee.jpg"))[:201, :299])[1].tobytes()
    trial = Trial("coffee.png", None, "", "onnx:fours", None, None, True)
    row = TrialRunner(settings)(trial, {"before": data}, [])
    image = decode(data).pixels
    method = make_method(MethodSettings(method="onnx", weights=str(photographs / "fours.onnx")))
    assert row["status"] == "ok", row
    assert row["niqe"] == METRICS["niqe"].function(method(image))
    assert row["loe"] == METRICS["loe"].function(method(image), image) > 0
    assert row["thumbnail"].startswith("data:image/webp;base64,")


class Full(BlendedMethod):
    """A method on a GPU that has memory for the first image only, which counts as warming up, and the second."""

    def __init__(self):
        super().__init__()
        self.devices = iter(["cuda", "cuda", "cpu"])

    factor_map = levels = None

    def enhance(self, image, level=None):
        return Enhanced(image, None, next(self.devices))


def test_what_the_cpu_took_over_is_no_time_of_the_gpu(photographs, monkeypatch):
    monkeypatch.setattr("sgllie.compare.trial.make_method", lambda _: Full())
    runner = TrialRunner(CompareSettings(input="in", output="out", methods="sgz", metrics="brightness", device="cuda"))
    data = (photographs / "in/coffee.jpg").read_bytes()
    trials = [Trial(path, None, "", "sgz", None, None, False) for path in "ab"]
    rows = [{"path": one.path, "method": "sgz"} | runner(one, {"before": data}, []) for one in trials]
    assert [row["device"] for row in rows] == ["cuda", "cpu"]
    on_gpu, both = (summaries(pa.Table.from_pylist(chosen), ["sgz"], ["brightness"]) for chosen in (rows[:1], rows))
    assert both[0]["milliseconds"] == on_gpu[0]["milliseconds"] == rows[0]["milliseconds"]
    assert both[0]["images"] == 2


def test_mistakes_are_one_sentence_each(here, photographs):
    source, out = photographs / "in", photographs / "result"
    cases = [
        ((photographs / "absent", "--out", out), "does not exist"),
        ((source, "--out", out, "--methods", "lame"), "'lame' is none of them"),
        ((source, "--out", out, "--methods", "sgz,sgz"), "must not name one twice"),
        ((source, "--out", out, "--methods", "zero-dce"), "zero-dce"),
        ((source, "--out", out, "--methods", "gamma=x.pth"), "names weights for gamma, which has none"),
        ((source, "--out", out, "--metrics", "psnr"), "--reference"),
        ((source, "--out", source), "holds other files"),
    ]
    for arguments, sentence in cases:
        result = here("compare", *arguments)
        assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1), (arguments, result)
        assert sentence in result.stderr, (arguments, result.stderr)
