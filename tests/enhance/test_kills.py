"""Jobs over each kind of corpus, all of whose processes are killed twice at random moments, then begun again.

Each is compared with a run that nobody disturbed: its rows, all bytes of its output, and at each kill what is seen.
"""

import csv
import io
import random
import time

import pytest

from commands import kill_all, make_corpus, sgllie, start
from disturbances import SLOW, wait_for
from packs import make_parquet, make_tar
from places import HOOKS
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess, run_job
from sgllie.runs.tables import read_rows
from sgllie.storage import open_storage

COUNT = 120
OPTIONS = {
    "rig": {"rig": r"camera\d/(\d+)"},
    "list": {"columns": "scene"},
}
COMPARED = ("path", "status", "output", "sha256_in", "sha256_out", "moment", "level", "scene", "bytes")
"""Columns that do not tell of times, attempts and places."""


def tree(images):
    return {f"{number % 7}/{number:03d}.jpg": data for number, data in enumerate(images)}


def corpus_of(kind, images, folder):
    """The files of a corpus, by their paths."""
    halves = images[: COUNT // 2], images[COUNT // 2 :]
    if kind.endswith("tars"):
        members = [[(f"{n}.{name}", one) for n, one in enumerate(half) for name in ("jpg", "cls")] for half in halves]
        return {f"{n}.tar": make_tar(folder / f"{n}.tar", half).read_bytes() for n, half in enumerate(members)}
    if kind == "Parquet":
        return {
            f"{n}.parquet": make_parquet(folder / f"{n}.parquet", half).read_bytes() for n, half in enumerate(halves)
        }
    if kind == "others":
        return tree(images) | {f"labels/{number:04d}.txt": b"%d" % number for number in range(2000)}
    if kind == "rig":
        return {f"camera{number % 3}/{number // 3:03d}.jpg": data for number, data in enumerate(images)}
    if kind == "list":
        table = io.StringIO()
        csv.writer(table).writerows([("path", "scene"), *((path, f"scene of {path}") for path in tree(images))])
        return tree(images) | {"list.csv": table.getvalue().encode()}
    return tree(images)


@pytest.fixture
def places(request, tmp_path):
    """The kind of a corpus, its url, where two runs of it go, and the environment that a command needs for them."""
    kind, environment, folder = request.param, {"PYTHONPATH": HOOKS, "SEGMENT_BYTES": "20000"}, str(tmp_path)
    if kind.startswith("S3"):
        s3 = request.getfixturevalue("empty_bucket")(request.getfixturevalue("ceph").endpoint)
        request.getfixturevalue("monkeypatch").setenv("AWS_ENDPOINT_URL", s3.endpoint_url)
        request.getfixturevalue("monkeypatch").setenv("AWS_DEFAULT_REGION", "us-east-1")
        folder = "s3://bucket"
    images = [path.read_bytes() + SLOW for path in sorted(make_corpus(tmp_path / "made", COUNT).rglob("*.jpg"))]
    source = open_storage(f"{folder}/in")
    for path, data in corpus_of(kind, images, tmp_path / "packs").items():
        source.write(path, data)
    name = "in/list.csv" if kind == "list" else "in"
    return kind, f"{folder}/{name}", f"{folder}/undisturbed", f"{folder}/out", environment


def rows_in(output):
    """The rows of images and of other files."""
    parts = [f"{folder}/{entry.path}" for folder in ("stats", "others") for entry in output.list(folder)]
    return [row for part in parts for row in read_rows(output, part)]


def compared(rows):
    """Rows in the order of their paths, without what differs from run to run."""
    return sorted([[row.get(name) for name in COMPARED] for row in rows], key=lambda values: values[0])


def visible(output):
    """The bytes of all that readers of the output see."""
    return {entry.path: output.read(f"images/{entry.path}") for entry in output.list("images")}


@pytest.mark.slow
@pytest.mark.parametrize(
    "places",
    [
        *("tree", "tars", "Parquet", "S3 tree"),
        *(pytest.param(kind, marks=pytest.mark.long) for kind in ("others", "rig", "list", "S3 tars")),
    ],
    indirect=True,
)
def test_killed_twice_and_begun_again(places):
    kind, source, undisturbed, url, environment = places
    options = OPTIONS.get(kind, {})
    settings = EnhanceSettings(source, undisturbed, device="cpu", shard_images=30, **options)
    assert run_job(prepare, settings, InProcess()) == 0
    expected, rows = visible(open_storage(undisturbed)), rows_in(open_storage(undisturbed))
    line = ["enhance", source, url, "--shard-images", 30, "--device", "cpu"]
    line += [word for name, value in options.items() for word in (f"--{name}", value)]
    output, chance = open_storage(url), random.Random(kind)
    worked_on = "others" if kind == "others" else ""
    for _ in range(2):
        before = len(list(output.list(worked_on)))
        job = start(*line, **environment)
        wait_for(lambda before=before: len(list(output.list(worked_on))) > before + 2)
        time.sleep(chance.uniform(0, 0.8))
        assert job.poll() is None, "it is killed at work"
        kill_all(job)
        assert visible(output).items() <= expected.items(), "what is seen is whole"
    result = sgllie(*line, **environment)
    assert result.returncode == 0, result.stderr
    found = rows_in(output)
    assert compared(found) == compared(rows), "each row is there, and once"
    assert visible(output) == expected
    assert max(row["attempt"] for row in found) > 1, "a kill has met a shard"
    assert not list(output.list(".partial")), "nothing is left of what was killed"
