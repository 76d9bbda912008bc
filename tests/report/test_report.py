"""The report: its numbers against pandas, its text against odd names, its size and memory, and wrong use."""

import base64
import hashlib
import io
import json
import shutil
import tracemalloc

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from report_runs import ODD_NAMES, Page, make_finished_run, make_rows, make_run_of_rows
from sgllie.cli import main
from sgllie.report.aggregates import EXAMPLES, GRID, SAMPLE, SHOWN, STAGES, aggregate
from sgllie.report.charts import clock, nice_step
from sgllie.report.distribution import Distribution
from sgllie.report.gallery import MOST_SHOWN, thumbnail
from sgllie.report.timeline import Timeline
from sgllie.runs import commits
from sgllie.runs.commits import commit_tables
from sgllie.runs.journal import saved_bytes
from sgllie.runs.names import part_name
from sgllie.runs.schemas import STATS_SCHEMA, luma_fields
from sgllie.storage import LocalStorage, open_storage

MEGABYTES = 10**6


@pytest.fixture(scope="module")
def finished_run(ray_session, tmp_path_factory):
    return make_finished_run(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def html(finished_run):
    return (finished_run[1] / "report.html").read_text("utf-8")


def frame_of(output):
    return pd.read_parquet(output / "commits")


@pytest.mark.parametrize("kind", ["real", "random"])
def test_numbers_are_those_of_pandas(finished_run, tmp_path, kind):
    output = finished_run[1] if kind == "real" else make_run_of_rows(tmp_path / "out", shards=7, rows=300)
    found, frame = aggregate(commit_tables(LocalStorage(str(output)), STATS_SCHEMA)), frame_of(output)
    assert found.status == frame.status.value_counts().to_dict()
    assert found.errors == frame.error_type.value_counts().to_dict()
    assert found.nodes == frame.node.value_counts().to_dict()
    assert found.formats == frame.format.value_counts().to_dict()
    assert (found.bytes_in, found.bytes_out) == (frame.bytes_in.sum(), frame.bytes_out.sum())
    assert found.retried == (frame.attempt > 1).sum()
    assert found.timeline.counts.total() == len(frame)
    done = frame[frame.status != "failed"]
    for name, _ in [*luma_fields("in"), *luma_fields("out")]:
        distribution, values = found.brightness[name], done[name].astype(float)
        assert distribution.mean == pytest.approx(values.mean(), abs=1e-9)
        assert distribution.counts.tolist() == np.histogram(values, distribution.edges)[0].tolist()
    for stage in STAGES:
        values = frame[f"{stage}_ms"].dropna().astype(float)
        assert found.stages[stage].mean == pytest.approx(values.mean(), rel=1e-9)
        assert found.stages[stage].quantile(0.5) == pytest.approx(values.quantile(0.5, "lower"), rel=0.03)
    expected = np.histogram2d(done.luma_mean_in, done.luma_mean_out, GRID, [[0, 1], [0, 1]])[0]
    assert np.array_equal(found.grid, expected)


def test_chosen_rows_are_those_of_pandas(tmp_path):
    output = make_run_of_rows(tmp_path / "out", shards=7, rows=300)
    found, frame = aggregate(commit_tables(LocalStorage(str(output)), STATS_SCHEMA)), frame_of(output)
    enhanced = frame[frame.status == "ok"].assign(
        change=lambda rows: (rows.luma_mean_out.astype(float) - rows.luma_mean_in.astype(float)).abs()
    )
    for name, order in {
        "darkest": enhanced.nsmallest(SHOWN, "luma_mean_in"),
        "brightest": enhanced.nlargest(SHOWN, "luma_mean_in"),
        "changed": enhanced.nlargest(SHOWN, "change"),
        "luma_clipped": enhanced.nlargest(SHOWN, "luma_clipped_out"),
    }.items():
        assert [row["path"] for row in found.chosen[name].rows] == order.path.tolist()
    sample = [row["path"] for row in found.sample.rows]
    assert len(set(sample)) == SAMPLE
    assert set(sample) <= set(frame.path[frame.status != "failed"])
    assert len({path[:4] for path in sample}) > 3, "the sample is drawn from all files"
    for kind, examples in found.failures.items():
        assert {row["error_type"] for row in examples.rows} == {kind}
        assert len(examples.rows) == EXAMPLES


def test_the_sample_is_uniform():
    rows = [row for row in make_rows(300, seed=1) if row["status"] != "failed"]
    table = pa.Table.from_pylist(rows, STATS_SCHEMA)
    halves = [table.slice(0, 20), table.slice(20)]
    found = aggregate(halves * 40)
    picked = [row["path"] in {r["path"] for r in rows[:20]} for row in found.sample.rows]
    assert sum(picked) <= SAMPLE / 2, "the small first file is not preferred"


@pytest.mark.jobs
def test_memory_does_not_grow():
    allocated, traced = [], []
    file = saved_bytes(make_rows(50, seed=0), STATS_SCHEMA, {})

    def endless(count):
        for _ in range(count):
            allocated.append(pa.total_allocated_bytes())
            traced.append(tracemalloc.get_traced_memory()[0])
            yield pq.read_table(io.BytesIO(file))

    tracemalloc.start()
    try:
        found = aggregate(endless(100))
    finally:
        tracemalloc.stop()
    assert found.status.total() == 100 * 50
    # Python and numpy keep some room of their own, hence the allowance; the rows of 50 files take ten times as much.
    assert max(traced[50:]) < max(traced[20:50]) + MEGABYTES / 2
    assert max(allocated[50:]) < max(allocated[20:50]) + MEGABYTES / 2


def test_files_are_read_when_they_are_needed(tmp_path, monkeypatch):
    monkeypatch.setattr(commits, "AHEAD", 4)
    output = LocalStorage(str(make_run_of_rows(tmp_path / "out", shards=40, rows=2)))
    read = []
    original = output.read
    output.read = lambda path: read.append(path) or original(path)
    taken = commit_tables(output)
    for expected in (4, 4, 4, 4, 8):
        next(taken)
        assert expected - 4 < len(read) <= expected, "threads read the rest of a group while its first file is in use"
    assert [table["shard"][0].as_py() for table in taken] == list(range(5, 40))


@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=50), st.floats(0, 1))
def test_quantiles_are_exact_to_a_bin(values, share):
    distribution = Distribution(np.linspace(0, 1, 201))
    distribution.add(np.array(values))
    exact = np.quantile(np.clip(values, 0, 1), share, method="inverted_cdf")
    assert abs(distribution.quantile(share) - exact) <= 1 / 200 + 1e-9


@given(st.lists(st.integers(0, 10**10), max_size=200), st.integers(2, 90))
def test_a_timeline_loses_no_image(moments, most):
    timeline = Timeline()
    for start in range(0, len(moments), 40):
        timeline.add(np.array(moments[start : start + 40], np.int64))
    bars = timeline.bars(most)
    assert sum(bars.images) == len(moments)
    assert len(bars.images) <= most


def test_a_long_run_takes_no_more_room():
    timeline = Timeline()
    for hour in range(200):
        timeline.add(np.arange(hour * 3_600_000, (hour + 1) * 3_600_000, 5_000))
    assert len(timeline.counts) <= Timeline.MOST
    assert timeline.bars(80).rate == pytest.approx(0.2, rel=0.03)


def test_a_pause_is_left_out():
    timeline = Timeline()
    for begin in (0, 7_200_000):
        timeline.add(np.arange(begin, begin + 60_000, 100))
    bars = timeline.bars(80)
    assert list(bars.pauses.values()) == [pytest.approx(7140, abs=2 * bars.seconds)]
    assert bars.rate == pytest.approx(10, rel=0.05)
    assert min(bars.images[:-1]) > 0


@pytest.mark.parametrize(("seconds", "step"), [(3, 0.5), (17, 5), (400, 120), (90_000, 21_600), (10**9, None)])
def test_ticks_are_few_and_round(seconds, step):
    assert seconds / nice_step(seconds) <= 6
    assert step is None or nice_step(seconds) == step


def test_times_are_named():
    assert [clock(value) for value in (0, 0.5, 90, 7200, 172800)] == ["0 s", "0.5 s", "1.5 min", "2 h", "2 d"]


def test_odd_names_are_text(html, finished_run):
    page = Page(html)
    alts = {attributes["alt"] for attributes in page.all("img")}
    for name in ODD_NAMES:
        assert {f"Before: {name}", f"After: {name}"} <= alts
    assert "half<i>.jpg" in page.texts
    assert len(page.all("script")) == 1
    assert not page.all("i")
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert str(finished_run[1]) in page.texts


def test_nothing_points_outside(html):
    page = Page(html)
    targets = [
        value
        for _, attributes in page.elements
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    ]
    assert len(targets) > 20
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert "url(" not in html
    assert "@import" not in html
    policy = page.all("meta")[1]["content"]
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_totals_and_failures_are_told(html, finished_run):
    totals = json.loads((finished_run[1] / "_SUCCESS").read_text())
    words = " ".join(" ".join(Page(html).texts).split())
    assert f"Images {totals['images']} Enhanced {totals['ok']} Copied as they were 1 Failed 11" in words
    before, after = totals["luma_mean_in"], totals["luma_mean_out"]
    assert f"Mean brightness {before:.2f} to {after:.2f}" in words
    assert "empty 9" in words
    assert "and 4 more in the rows of" in words
    assert "--only-darker-than 0.6" in words
    assert "not finished" not in words


def test_each_picture_is_there_once_and_opens(html):
    pictures = Page(html).all("img")
    brightness = {}
    for attributes in pictures:
        image = Image.open(io.BytesIO(base64.b64decode(attributes["src"].partition(",")[2])))
        assert image.size == (int(attributes["width"]), int(attributes["height"]))
        assert max(image.size) <= 640
        brightness[attributes["alt"]] = np.asarray(image.convert("L")).mean()
    assert len(brightness) == len(pictures) > 20
    for name in ("coffee.jpg", "deep.png", "grey.png", "deep-grey.png"):
        assert brightness[f"After: {name}"] > 1.1 * brightness[f"Before: {name}"]


def test_only_what_was_enhanced_counts_as_before(finished_run, tmp_path):
    source, output = (shutil.copytree(folder, tmp_path / folder.name) for folder in finished_run)
    run = json.loads((output / "run.json").read_text())
    run["input"]["roots"] = {"input": str(source)}
    (output / "run.json").write_text(json.dumps(run))
    (source / "coffee.jpg").write_bytes((source / "deep.png").read_bytes())
    (source / "grey.png").unlink()
    (output / "images/alpha.png").unlink()
    (output / "images/deep.png").write_bytes(b"broken")
    assert main(["report", str(output)]) == 0
    page = Page((output / "report.html").read_text("utf-8"))
    alts = {attributes["alt"] for attributes in page.all("img")}
    for name in ("coffee.jpg", "grey.png"):
        assert f"After: {name}" in alts
        assert f"Before: {name}" not in alts
    for name in ("alpha.png", "deep.png"):
        assert f"Before: {name}" in alts
        assert f"After: {name}" not in alts


def test_statistics_without_images_have_a_report(tmp_path, capsys):
    output = make_run_of_rows(tmp_path / "out", shards=3, rows=40)
    assert main(["report", str(output)]) == 0
    assert str(output / "report.html") in capsys.readouterr().out
    html = (output / "report.html").read_text("utf-8")
    assert "This run is not finished" in html
    assert "120 of 240 images" in html
    assert "--s3.endpoint-url" in html
    assert 'class="compare"' not in html


def test_a_run_without_weights_has_a_report(tmp_path):
    output = make_run_of_rows(tmp_path / "out", shards=1, rows=3)
    run = json.loads((output / "run.json").read_text())
    run["weights"] = None
    run["output_settings"] |= {"method": "clahe", "weights": None}
    (output / "run.json").write_text(json.dumps(run))
    assert main(["report", str(output)]) == 0
    html = (output / "report.html").read_text("utf-8")
    assert "with clahe." in html
    assert "fingerprint" not in html


def test_its_path_does_not_steer_the_terminal(tmp_path, capsys):
    output = make_run_of_rows(tmp_path / "out\x1b[2J", shards=1, rows=3)
    assert main(["report", str(output)]) == 0
    assert capsys.readouterr().out.endswith("out\\x1b[2J/report.html\n")


def test_a_run_without_rows_has_a_report(tmp_path):
    output = make_run_of_rows(tmp_path / "out", shards=1, rows=3)
    shutil.rmtree(output / "commits")
    assert main(["report", str(output)]) == 0
    assert "0 of 6 images" in (output / "report.html").read_text("utf-8")


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("most", [3_000, 23_000, 60_000])
@pytest.mark.parametrize("pixels", [noise(480, 640), noise(480, 640)[..., 0], noise(2, 3000), noise(900, 1)])
def test_thumbnails_fit_whatever_they_show(pixels, most):
    assert len(base64.b64decode(thumbnail(pixels, most).uri.partition(",")[2])) <= most


@pytest.mark.jobs
def test_the_file_is_small_whatever_is_in_it(tmp_path):
    output = make_run_of_rows(tmp_path / "out", shards=1, rows=60)
    data = cv2.imencode(".png", noise(250, 300))[1].tobytes()
    rows = [row | {"sha256_in": hashlib.sha256(data).hexdigest()} for row in make_rows(60, seed=0)]
    (output / "commits" / part_name(0)).write_bytes(saved_bytes(rows, STATS_SCHEMA, {}))
    for row in rows:
        for folder in ("images", "gone"):
            path = output / folder / row["path"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
    assert main(["report", str(output)]) == 0
    page = Page((output / "report.html").read_text("utf-8"))
    assert 25 <= len(page.all("img")) / 2 <= MOST_SHOWN
    assert MEGABYTES < (output / "report.html").stat().st_size < 3 * MEGABYTES


def test_on_s3(finished_run, html, s3):
    source, output = finished_run
    for folder, uri in ((source, "s3://bucket/in"), (output, "s3://bucket/out")):
        storage, files = open_storage(uri, s3), LocalStorage(str(folder))
        for entry in files.list():
            if entry.path != "report.html" and "\n" not in entry.path:  # moto splits its requests at line ends
                storage.write(entry.path, files.read(entry.path))
    target = open_storage("s3://bucket/out", s3)
    run = json.loads(target.read("run.json"))
    run["input"]["roots"] = {"input": "s3://bucket/in"}
    target.write("run.json", json.dumps(run).encode())
    options = ("--s3.endpoint-url", s3.endpoint_url, "--s3.region", s3.region)
    assert main(["report", "s3://bucket/out", *options]) == 0
    there, here = (Page(text).all("img") for text in (target.read("report.html").decode(), html))
    assert [picture for picture in here if "\n" not in picture["alt"]] == there


def test_wrong_use_is_one_sentence(tmp_path, capsys):
    assert main(["report", str(tmp_path)]) == 2
    assert "there is no run in" in capsys.readouterr().err
    (tmp_path / "run.json").write_text('{"settings": {}}')
    assert main(["report", str(tmp_path)]) == 2
    assert "was written by something else" in capsys.readouterr().err
    output = make_run_of_rows(tmp_path / "out", shards=1, rows=3)
    run = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(run | {"command": "video"}))
    assert main(["report", str(output)]) == 2
    assert "belongs to a run of sgllie video" in capsys.readouterr().err
    (output / "run.json").write_text(json.dumps(run))
    (output / "commits/part-00000.parquet").write_bytes(b"PAR1")
    assert main(["report", str(output)]) == 1
    assert "commits/part-00000.parquet is damaged" in capsys.readouterr().err
