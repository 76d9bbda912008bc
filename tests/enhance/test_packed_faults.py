"""Tars and Parquet files that are damaged, workers that are killed in the midst of them, and both over S3."""

import hashlib
import itertools
import json
import shutil
from contextlib import nullcontext

import psutil
import pyarrow.parquet as pq
import pytest
from test_packed_job import assert_consistent, enhance, parquet_images

from commands import make_corpus, rows_of, sgllie, start
from disturbances import MARKER, SLOW, kill_after, wait_for
from packs import make_parquet, make_tar, members_of, samples
from places import HOOKS
from sgllie.corpus.packed import packed
from sgllie.enhance import packing
from sgllie.enhance.pipeline import ImagePipeline
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess, finish
from sgllie.runs.memory import worker_bytes
from sgllie.runs.segments import Segments
from sgllie.storage import open_storage


@pytest.fixture(scope="session")
def photographs(tmp_path_factory):
    """Twelve dark photographs."""
    return sorted(make_corpus(tmp_path_factory.mktemp("photographs"), 12).rglob("*.jpg"))


def test_packs_that_are_damaged(photographs, tmp_path, capsys):
    """What can be read is enhanced, and what cannot is a row."""
    source, output = tmp_path / "in", tmp_path / "out"
    tar = make_tar(source / "cut.tar", samples(photographs))
    data = tar.read_bytes()
    tar.write_bytes(data[: data.index(photographs[5].read_bytes()) + 100])
    make_parquet(source / "group.parquet", [path.read_bytes() for path in photographs])
    group = pq.ParquetFile(source / "group.parquet").metadata.row_group(1).column(1).data_page_offset
    with (source / "group.parquet").open("r+b") as file:
        file.seek(group)
        file.write(b"\xff" * 50)
    (source / "no.parquet").write_bytes(b"no Parquet")
    (source / "no.tar").write_bytes(b"no tar" * 1000)
    assert enhance(source, output) == 3
    assert "21 images: 13 enhanced, 8 failed (6 corrupt, 2 truncated)" in capsys.readouterr().out
    rows = assert_consistent(output, 21)
    failed = {path: row["error"] for path, row in rows.items() if row["status"] == "failed"}
    assert failed.keys() == {
        "cut.tar",
        "cut.tar/00005.jpg",
        "no.tar",
        "no.parquet",
        *(f"group.parquet/image/{number:06d}" for number in range(4, 8)),
    }
    assert failed["cut.tar"].startswith("the tar is damaged: it is cut off at byte")
    assert [name for name, _ in members_of(output / "images/cut.tar")] == [name for name, _ in members_of(data)][:10]
    assert [image is None for image in parquet_images(output / "images/group.parquet")] == [
        n in range(4, 8) for n in range(12)
    ]
    assert {path.name for path in (output / "images").iterdir()} == {"cut.tar", "group.parquet"}


def test_what_is_too_large_for_the_memory_of_its_worker(photographs, tmp_path, monkeypatch):
    """Here: of more than 20 kB at once."""
    source, output = tmp_path / "in", tmp_path / "out"
    monkeypatch.setattr(packing, "COPIES", worker_bytes(None) // 20_000)
    large = bytes(50_000)
    make_parquet(source / "a.parquet", [path.read_bytes() for path in photographs[:3]] + [large])
    make_tar(source / "b.tar", [("a.jpg", photographs[0].read_bytes()), ("b.jpg", large)])
    assert enhance(source, output) == 3
    rows = assert_consistent(output, 6)
    assert rows["b.tar/a.jpg"]["status"] == "ok"
    failed = {path: row for path, row in rows.items() if row["status"] == "failed"}
    assert failed.keys() == {"b.tar/b.jpg", *(f"a.parquet/image/{number:06d}" for number in range(4))}
    assert {row["error_type"] for row in failed.values()} == {"memory"}
    assert "at once: write the file with smaller ones or give" in failed["a.parquet/image/000003"]["error"]


def test_odd_names_are_failed_rows(photographs, tmp_path):
    data = photographs[0].read_bytes()
    names = ["a.jpg", "../b.jpg", "/etc/c.jpg", "./a.jpg", "a.jpg"]
    make_tar(tmp_path / "in/a.tar", [(name, data) for name in names])
    assert enhance(tmp_path / "in", tmp_path / "out") == 3
    rows = assert_consistent(tmp_path / "out", 5)
    assert {path for path, row in rows.items() if row["status"] == "ok"} == {"a.tar/a.jpg"}
    assert {row["error_type"] for row in rows.values()} == {None, "write"}
    assert [name for name, _ in members_of(tmp_path / "out/images/a.tar")] == ["a.jpg"]
    assert enhance(tmp_path / "in", tmp_path / "copy", on_failure="copy") == 3
    assert_consistent(tmp_path / "copy", 5)
    assert [name for name, _ in members_of(tmp_path / "copy/images/a.tar")] == names


def test_a_pack_that_is_gone_or_changed_since_it_was_listed(photographs, tmp_path, monkeypatch):
    source = tmp_path / "in"
    make_tar(source / "a.tar", samples(photographs[:4]))
    make_tar(source / "b.tar", samples(photographs[:4]))
    run = ImagePipeline.run

    def run_later(self, shard):
        (source / "a.tar").unlink(missing_ok=True)
        make_tar(source / "b.tar", samples(photographs[:2]))
        return run(self, shard)

    monkeypatch.setattr(ImagePipeline, "run", run_later)
    assert enhance(source, tmp_path / "out") == 3
    rows = assert_consistent(tmp_path / "out", 8)
    kinds = [rows[path]["error_type"] for path in sorted(rows)]
    assert kinds == ["missing"] * 4 + ["read"] * 4
    assert "it has changed since it was listed" in rows["b.tar/00000.jpg"]["error"]
    assert not (tmp_path / "out/images").exists()


@pytest.fixture
def slow_packs(photographs, tmp_path):
    """A tar and a Parquet file of 36 images that take a tenth of a second each."""
    data = [path.read_bytes() + SLOW + bytes([number]) for number in range(3) for path in photographs]
    make_tar(tmp_path / "in/a.tar", [(f"{n}.{kind}", one) for n, one in enumerate(data) for kind in ("jpg", "cls")])
    make_parquet(tmp_path / "in/b.parquet", data, rows=10)
    return tmp_path / "in"


def assert_whole(source, output):
    """Every member and row is there, in its order, and once."""
    rows = assert_consistent(output, 72)
    assert {row["status"] for row in rows.values()} == {"ok"}
    before, after = members_of(source / "a.tar"), members_of(output / "images/a.tar")
    assert [name for name, _ in after] == [name for name, _ in before]
    assert [data for name, data in after if name.endswith("cls")] == [
        data for name, data in before if name.endswith("cls")
    ]
    hashes = [hashlib.sha256(data).hexdigest() for data in parquet_images(output / "images/b.parquet")]
    assert hashes == [rows[f"b.parquet/image/{number:06d}"]["sha256_out"] for number in range(36)]
    assert hashes == [rows[f"a.tar/{number}.jpg"]["sha256_out"] for number in range(36)]


@pytest.mark.jobs
def test_a_worker_is_killed_in_the_midst_of_packs(slow_packs, tmp_path):
    output = tmp_path / "out"
    job = start("enhance", slow_packs, output, PYTHONPATH=HOOKS, SEGMENT_BYTES="20000")
    wait_for(lambda: list(output.glob(".partial/shard-*/pack-*/data-*")))
    workers = [child for child in psutil.Process(job.pid).children() if "spawn_main" in " ".join(child.cmdline())]
    workers[0].kill()
    assert job.wait(180) == 0
    assert_whole(slow_packs, output)
    assert {row["attempt"] for row in rows_of(output)} == {1, 2}


def test_of_several_packs_in_a_shard_those_that_are_written_stay(photographs, tmp_path, monkeypatch):
    """Wherever the command is killed; each image has one row, and each pack its bytes."""
    for name in ("a", "b", "c"):
        make_tar(tmp_path / f"in/{name}.tar", samples(photographs[:3]))
    (tmp_path / "in/d.tar").mkdir()
    (tmp_path / "in/d.tar/e.jpg").write_bytes(photographs[0].read_bytes())
    assert enhance(tmp_path / "in", tmp_path / "whole") == 0
    assert json.loads((tmp_path / "whole/run.json").read_text())["shards"] == [10]
    monkeypatch.setattr(ImagePipeline, "processor", lambda self, isolated: nullcontext(self.image_processor))
    output, opened, most_known = tmp_path / "out", packing.open_pack, 0
    for steps in itertools.count(8):
        with monkeypatch.context() as patch:
            kill_after(patch, steps)
            try:
                enhance(tmp_path / "in", output)
                break
            except KeyboardInterrupt:
                pass
        parts = map(pq.read_table, output.glob(".partial/*/rows-*"))
        known = {path.split("/")[0] for part in parts for path in part["path"].to_pylist()}
        most_known = max(most_known, len(known))
        begun = set()

        def noted(source, path, *arguments, begun=begun):
            begun.add(path)
            return opened(source, path, *arguments)

        with monkeypatch.context() as patch:
            patch.setattr(packing, "open_pack", noted)
            assert enhance(tmp_path / "in", output) == 0
        assert not known & begun
        assert_consistent(output, 10)
        for name in ("a.tar", "b.tar", "c.tar"):
            assert (output / "images" / name).read_bytes() == (tmp_path / "whole/images" / name).read_bytes()
        shutil.rmtree(output)
    assert most_known == 3


@pytest.mark.parametrize("retry_failed", [False, True])
@pytest.mark.parametrize("step", ["flush", "data"])
def test_of_two_workers_on_one_pack_the_slower_one_takes_what_is_committed(
    photographs, tmp_path, monkeypatch, step, retry_failed
):
    """As of two commands, or where one was taken for dead: what both have saved goes with the commit of the first."""
    bad = [("bad.jpg", photographs[0].read_bytes()[:200])] * retry_failed
    make_tar(tmp_path / "in/a.tar", [*samples(photographs), *bad])
    if retry_failed:
        assert enhance(tmp_path / "in", tmp_path / "out") == 3
    settings = EnhanceSettings(str(tmp_path / "in"), str(tmp_path / "out"), device="cpu", retry_failed=retry_failed)
    run = prepare(settings)
    first, second = (run.make_pipeline(lambda shard, done, failed, group="": None).images for _ in range(2))
    for one in (first, second):  # without processes of their own, which take long
        monkeypatch.setattr(one, "processor", lambda isolated, one=one: nullcontext(one.image_processor))
    monkeypatch.setattr(packing, "SEGMENT_BYTES", 1)
    whole, committed = getattr(Segments, step), []

    def overtaken(journal):
        found = whole(journal)
        if not committed:
            committed.append({})
            committed[0] |= first.run(0)
        return found

    monkeypatch.setattr(Segments, step, overtaken)
    assert second.run(0) == committed[0]
    finish(run, {0: committed[0]}, InProcess())
    assert_consistent(tmp_path / "out", len(photographs) + retry_failed)


@pytest.mark.slow
@pytest.mark.jobs
def test_an_image_in_a_pack_that_kills_its_process(photographs, tmp_path):
    data = [path.read_bytes() for path in photographs]
    data[3] += MARKER
    make_tar(tmp_path / "in/a.tar", [(f"{n}.jpg", one) for n, one in enumerate(data)])
    make_parquet(tmp_path / "in/b.parquet", data)
    output = tmp_path / "out"
    result = sgllie("enhance", tmp_path / "in", output, "--on-failure", "copy", PYTHONPATH=HOOKS)
    assert result.returncode == 3, result.stderr
    assert "22 enhanced, 2 failed (2 crash)" in result.stdout
    rows = assert_consistent(output, 24)
    assert {path for path, row in rows.items() if row["status"] == "failed"} == {
        "a.tar/3.jpg",
        "b.parquet/image/000003",
    }
    assert dict(members_of(output / "images/a.tar"))["3.jpg"] == data[3]
    result = sgllie("enhance", tmp_path / "in", output, "--on-failure", "copy", "--retry-failed")
    assert result.returncode == 0, result.stderr
    assert {row["status"] for row in assert_consistent(output, 24).values()} == {"ok"}


@pytest.mark.parametrize("s3", ["ceph", "moto"], indirect=True)
def test_from_bucket_to_bucket(s3, photographs, tmp_path):
    source, output = open_storage("s3://bucket/in", s3), packed(open_storage("s3://bucket/out", s3))
    source.upload("x/a.tar", make_tar(tmp_path / "a.tar", samples(photographs)))
    source.upload("b.parquet", make_parquet(tmp_path / "b.parquet", [path.read_bytes() for path in photographs]))
    assert enhance("s3://bucket/in", "s3://bucket/out", s3=s3) == 0
    assert enhance(tmp_path, tmp_path / "out") == 0
    assert output.read("images/x/a.tar") == (tmp_path / "out/images/a.tar").read_bytes()
    assert output.read("images/b.parquet") == (tmp_path / "out/images/b.parquet").read_bytes()
    assert len(output.read("images/x/a.tar/00003.jpg")) > 500
    assert {entry.path.split("/")[0] for entry in output.list()} == {
        "images",
        "commits",
        "stats",
        "manifest",
        "run.json",
        "_SUCCESS",
    }
    output.remove("_SUCCESS")
    output.remove("commits/part-00000.parquet")
    assert enhance("s3://bucket/in", "s3://bucket/out", s3=s3) == 0
    assert output.read("images/b.parquet") == (tmp_path / "out/images/b.parquet").read_bytes()
