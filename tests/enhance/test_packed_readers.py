"""Images in tars and Parquet files, as other commands read them."""

import json

import pytest

from commands import make_corpus, rows_of
from packs import make_parquet, make_tar, samples
from sgllie.compare import run as compare_run
from sgllie.compare.settings import CompareSettings
from sgllie.corpus.listing import Listing
from sgllie.corpus.packed import packed
from sgllie.distributed.inspection import list_photographs
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.evaluate import run as evaluate_run
from sgllie.evaluate.image_sizes import ImageSizes
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.runs.job import InProcess, run_job
from sgllie.storage import S3Options, open_storage
from sgllie.train.photographs import inspect
from sgllie.train.settings import TrainSettings


@pytest.fixture
def source(tmp_path):
    """Six photographs in a tar and the same in a Parquet file."""
    files = sorted(make_corpus(tmp_path / "loose", 6).rglob("*.jpg"))
    make_tar(tmp_path / "in/a.tar", samples(files))
    make_parquet(tmp_path / "in/b.parquet", [path.read_bytes() for path in files])
    return tmp_path / "in"


def test_an_evaluation_before_and_after(source, tmp_path):
    output = tmp_path / "out"
    assert run_job(prepare, EnhanceSettings(str(source), str(output), device="cpu"), InProcess()) == 0
    for images, options in ((output, {}), (output / "images", {"before": str(source)})):
        result = tmp_path / f"measured-{images.name}"
        settings = EvaluateSettings(images=str(images), output=str(result), metrics="brightness", **options)
        assert run_job(evaluate_run.prepare, settings, InProcess()) == 0
        totals = json.loads((result / "_SUCCESS").read_text())
        assert (totals["images"], totals["ok"]) == (12, 12)


@pytest.fixture
def two_columns(tmp_path):
    """Photographs in a Parquet file, beside previews of them."""
    files = sorted(make_corpus(tmp_path / "loose", 3).rglob("*.jpg"))
    data = [path.read_bytes() for path in files]
    return make_parquet(tmp_path / "two.parquet", data, preview=data[::-1])


def test_a_column_of_several_is_named(two_columns, tmp_path):
    table = str(two_columns)
    measured = EvaluateSettings(images=table, output=str(tmp_path / "a"), metrics="brightness", image_column="preview")
    assert run_job(evaluate_run.prepare, measured, InProcess()) == 0
    compared = CompareSettings(
        input=table, output=str(tmp_path / "b"), methods="gamma", device="cpu", image_column="preview"
    )
    assert run_job(compare_run.prepare, compared, InProcess()) == 0
    paths = [f"two.parquet/preview/{number:06d}" for number in range(3)]
    assert sorted(row["path"] for row in rows_of(tmp_path / "a")) == paths
    assert sorted({row["path"] for row in rows_of(tmp_path / "b")}) == paths
    listed = list_photographs(TrainSettings(table, "run", image_column="preview"))[1]
    assert [entry.path for entry in listed] == paths
    assert ImageSizes(table, S3Options(), "preview").stems == set(paths)
    with pytest.raises(UsageError, match=r"several columns hold images .*; name one with --image-column"):
        list_photographs(TrainSettings(table, "run"))


def test_a_comparison(source, tmp_path):
    settings = CompareSettings(input=str(source), output=str(tmp_path / "table"), methods="gamma", device="cpu")
    assert run_job(compare_run.prepare, settings, InProcess()) == 0
    assert json.loads((tmp_path / "table/_SUCCESS").read_text())["ok"] == 24


def test_photographs_of_a_training(source):
    rows, pixels = inspect(packed(open_storage(str(source))), list(Listing(str(source))), 32)
    assert [row.error for row in rows] == [""] * 12
    assert [row.digest for row in rows[:6]] == [row.digest for row in rows[6:]]
    assert {picture.shape for picture in pixels} == {(32, 32, 3)}
