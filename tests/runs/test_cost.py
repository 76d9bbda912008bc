"""What a run says that it took: the time of workers, requests to S3, and money."""

import json

import pytest

from commands import make_corpus
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.evaluate import run as evaluate
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.report import ReportSettings, write_report
from sgllie.runs.cost import Prices, describe
from sgllie.runs.job import InProcess, run_job
from sgllie.storage import open_storage

SPENT = {"core_seconds": 7200.0, "gpu_seconds": 1800.0, "get_requests": 5000, "put_requests": 2000}


def test_money_is_the_sum_of_what_has_a_price():
    prices = Prices(core_hour=0.5, gpu_hour=2, thousand_gets=0.01, thousand_puts=0.1)
    assert prices.of(SPENT) == pytest.approx(1 + 1 + 0.05 + 0.2)
    counts = "5,000 requests that read, 2,000 that write or list."
    assert describe(SPENT, 1000, prices) == (
        f"Spent: 2 h 0 min of a core, 30 min 0 s of a GPU; {counts} Cost: 2.25; a million more: 2,250.00."
    )
    assert describe(SPENT | {"gpu_seconds": 0}, 1000, Prices()) == f"Spent: 2 h 0 min of a core; {counts}"
    moved = {"gpu_seconds": 0, "bytes_in": 1_234_567_890, "bytes_out": 1500}
    assert describe(SPENT | moved, 1000, Prices()) == (
        "Spent: 2 h 0 min of a core; 5,000 requests that read, 2,000 that write or list, 1.2 GB read, 1.5 kB written."
    )


def test_a_price_below_nothing_is_refused():
    with pytest.raises(UsageError, match=r"^--price.core-hour is -1; it must be 0 or more"):
        Prices(core_hour=-1)


def test_requests_are_counted_where_images_come_from_a_bucket(s3, tmp_path, capsys):
    source = open_storage("s3://bucket/in", s3)
    for file in make_corpus(tmp_path / "in", 60).rglob("*.jpg"):
        source.write(file.name, file.read_bytes())
    source.write("bad.jpg", b"no image")
    settings = EnhanceSettings("s3://bucket/in", "s3://bucket/out", s3=s3, device="cpu")
    assert run_job(prepare, settings, InProcess()) == 3
    output = open_storage("s3://bucket/out", s3)
    first = json.loads(output.read("_SUCCESS"))
    # One to read each image, one to write each that did not fail, and a few for the journals and commits of two shards.
    assert 61 <= first["get_requests"] <= 61 + 10
    assert 60 <= first["put_requests"] <= 60 + 20
    assert first["core_seconds"] > 0 == first["gpu_seconds"]
    assert f"{first['get_requests']} requests that read" in capsys.readouterr().out
    again = EnhanceSettings("s3://bucket/in", "s3://bucket/out", s3=s3, device="cpu", retry_failed=True)
    assert run_job(prepare, again, InProcess()) == 3
    second = json.loads(output.read("_SUCCESS"))
    assert first["get_requests"] < second["get_requests"] < first["get_requests"] + 15, "what it cost before is kept"


def test_the_report_says_it_too(tmp_path):
    source = make_corpus(tmp_path / "in", 3)
    settings = EnhanceSettings(str(source), str(tmp_path / "out"), device="cpu", price=Prices(core_hour=3600.0))
    assert run_job(prepare, settings, InProcess()) == 0
    result = json.loads((tmp_path / "out/_SUCCESS").read_text())
    write_report(ReportSettings(str(tmp_path / "out")))
    money = settings.price.of(result)
    assert f"Cost: {money:,.2f}; a million more: {money / 3 * 1e6:,.2f}." in (tmp_path / "out/report.html").read_text()


def test_an_evaluation_says_what_it_took(tmp_path, capsys):
    source = make_corpus(tmp_path / "in", 3)
    settings = EvaluateSettings(images=str(source), output=str(tmp_path / "out"), metrics="brightness")
    assert run_job(evaluate.prepare, settings, InProcess()) == 0
    result = json.loads((tmp_path / "out/_SUCCESS").read_text())
    assert 0 < result["core_seconds"] < result["wall_seconds"]
    assert result["bytes_in"] == sum(path.stat().st_size for path in source.rglob("*.jpg"))
    assert "Spent: " in capsys.readouterr().out
