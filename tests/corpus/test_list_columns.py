"""Columns of an input list stand in the statistics, typed as in the list."""

import datetime
import json
import re

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from commands import make_corpus
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.report import ReportSettings, write_report
from sgllie.runs.job import InProcess, run_job

PATHS = ["000/00002.jpg", "000/00000.jpg", "000/00001.jpg"]
HOURS = [22, 3, None]
SCENES = ["tunnel", "street, wet", ""]


@pytest.fixture
def source(tmp_path):
    return make_corpus(tmp_path / "in", 3)


def write_list(folder, suffix, columns):
    path = folder / f"list{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"path": PATHS, **columns}), path)
    elif suffix == ".jsonl":
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        path.write_text("\n".join(json.dumps({"path": name} | row) for name, row in zip(PATHS, rows, strict=True)))
    else:
        path.write_text('path,scene,hour\n000/00002.jpg,tunnel,22\n000/00000.jpg,"street, wet",3\n000/00001.jpg,,\n')
    return path


def enhance(source, output, columns, **options):
    settings = EnhanceSettings(str(source), str(output), device="cpu", columns=columns, **options)
    return run_job(prepare, settings, InProcess())


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_columns_are_carried(source, tmp_path, suffix):
    listed = write_list(source, suffix, {"scene": SCENES, "hour": HOURS})
    assert enhance(listed, tmp_path / "out", "hour, scene", shard_images=2) == 0
    table = ds.dataset(tmp_path / "out/stats").to_table()
    hours = ["22", "3", ""] if suffix == ".csv" else HOURS
    assert dict(zip(table["path"].to_pylist(), table["hour"].to_pylist(), strict=True)) == dict(
        zip(PATHS, hours, strict=True)
    )
    assert dict(zip(table["path"].to_pylist(), table["scene"].to_pylist(), strict=True)) == dict(
        zip(PATHS, SCENES, strict=True)
    )
    assert table.schema.field("hour").type == (pa.string() if suffix == ".csv" else pa.int64())
    assert write_report(ReportSettings(str(tmp_path / "out")))


def test_any_type_of_arrow_survives_a_retry(source, tmp_path):
    moments = pa.array([1, 2_000_000_001, None], pa.timestamp("ns", "UTC"))
    boxes = pa.array([[{"x": 1.5}], [], None])
    listed = write_list(source, ".parquet", {"time": moments, "boxes": boxes, "day": [datetime.date(2026, 1, 1)] * 3})
    whole = (source / PATHS[0]).read_bytes()
    (source / PATHS[0]).write_bytes(b"no image")
    assert enhance(listed, tmp_path / "out", "time,boxes,day") == 3
    (source / PATHS[0]).write_bytes(whole)
    assert enhance(listed, tmp_path / "out", "time,boxes,day", retry_failed=True) == 0
    table = ds.dataset(tmp_path / "out/stats").to_table().sort_by("path")
    places = pa.array([1, 2, 0])
    assert table["time"].combine_chunks().equals(moments.take(places))
    assert table["boxes"].combine_chunks().equals(boxes.take(places))
    assert str(table.schema.field("day").type) == "date32[day]"
    listed = write_list(source, ".parquet", {"time": moments.take(places), "boxes": boxes, "day": [None] * 3})
    with pytest.raises(UsageError, match=r"the input \(3 files then, 3 now, or other sizes, dates or columns\)"):
        enhance(listed, tmp_path / "out", "time,boxes,day", check_input=True)


@pytest.mark.parametrize(
    ("suffix", "columns", "sentence"),
    [
        (".csv", "hour,place", "--columns names place, and the list .* has no such column"),
        (".jsonl", "odd", "--columns: a column of .* holds values of several types"),
        (".csv", "luma_mean_in", "--columns is luma_mean_in; it names luma_mean_in, which the statistics have already"),
        (".csv", "size", "--columns is size; it names size, which the statistics have already, or the manifest"),
        (".csv", "hour,hour", "--columns is hour,hour; it must not name one twice"),
        ("", "hour", r"--columns needs a list with columns \(.csv, .jsonl, .parquet\) as input, not"),
    ],
)
def test_what_cannot_be_carried_is_one_sentence(source, tmp_path, suffix, columns, sentence):
    listed = write_list(source, suffix, {"odd": [1, "two", None]}) if suffix else source
    with pytest.raises(UsageError, match=f"^{sentence}"):
        enhance(listed, tmp_path / "out", columns)
    assert not (tmp_path / "out").exists()


def test_a_manifest_without_its_columns_is_one_sentence(source, tmp_path, capsys):
    listed, output = write_list(source, ".csv", {}), tmp_path / "out"
    enhance(listed, output, "hour")
    for name in ("_SUCCESS", "commits/part-00000.parquet"):
        (output / name).unlink()
    part = output / "manifest/part-00000.parquet"
    pq.write_table(pq.read_table(part).drop(["hour"]), part)
    assert enhance(listed, output, "hour") == 1
    said = capsys.readouterr().out
    assert re.search(r"^Stopped: .*/manifest/part-00000.parquet is damaged: 'hour' is missing\.$", said, re.MULTILINE)


def test_a_damaged_column_is_one_sentence(source, tmp_path):
    listed = write_list(source, ".parquet", {"hour": HOURS})
    data = bytearray(listed.read_bytes())
    place = pq.ParquetFile(listed).metadata.row_group(0).column(1).data_page_offset
    data[place : place + 8] = b"\xff" * 8
    listed.write_bytes(data)
    with pytest.raises(UsageError, match=r"^the list .*list\.parquet has no readable column `hour` \(.*\)$"):
        enhance(listed, tmp_path / "out", "hour")
