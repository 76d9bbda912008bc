"""Jobs over tars and Parquet files: the same rows as of a tree, and a dataset that its own loaders read."""

import hashlib
import io
import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from commands import make_corpus, rows_of
from packs import make_parquet, make_tar, member, members_of, samples
from sgllie.cli import main
from sgllie.corpus.packed import packed
from sgllie.enhance import packing
from sgllie.enhance.pipeline import ImagePipeline
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import StorageError, UsageError
from sgllie.runs.job import InProcess, run_job
from sgllie.storage import open_storage
from sgllie.verify import run as verify

COUNT = 12


@pytest.fixture(scope="session")
def loose(tmp_path_factory) -> Path:
    """Dark photographs as files."""
    return make_corpus(tmp_path_factory.mktemp("loose"), COUNT)


@pytest.fixture(scope="session")
def enhanced(loose, tmp_path_factory) -> dict[str, bytes]:
    """The bytes that each of them becomes, by their stems."""
    output = tmp_path_factory.mktemp("enhanced") / "out"
    assert enhance(loose, output) == 0
    return {path.stem: path.read_bytes() for path in output.rglob("images/**/*.jpg")}


@pytest.fixture
def source(loose, tmp_path) -> Path:
    """The same photographs in a tar and in a Parquet file, and one as it is."""
    files = sorted(loose.rglob("*.jpg"))
    make_tar(tmp_path / "in/train/a.tar", samples(files))
    make_parquet(tmp_path / "in/b.parquet", [path.read_bytes() for path in files])
    (tmp_path / "in/c.jpg").write_bytes(files[0].read_bytes())
    (tmp_path / "in/notes.txt").write_text("neither")
    return tmp_path / "in"


def enhance(source: object, output: object, **options: object) -> int:
    """Run the job in this process; return its exit code."""
    return run_job(prepare, EnhanceSettings(str(source), str(output), device="cpu", **options), InProcess())


def assert_consistent(output: Path, count: int) -> dict[str, dict[str, object]]:
    """One row for each image; what was written is there under its name, with its hash. The rows by their paths."""
    rows = {row["path"]: row for row in rows_of(output)}
    assert len(rows) == len(rows_of(output)) == count
    storage = packed(open_storage(str(output)))
    for row in rows.values():
        assert (row["output"] is None) == (row["sha256_out"] is None)
        if row["output"]:
            assert hashlib.sha256(storage.read(row["output"])).hexdigest() == row["sha256_out"]
    assert {path.name for path in output.iterdir()} - {"images", "others", "report.html"} == {
        "commits",
        "stats",
        "manifest",
        "run.json",
        "_SUCCESS",
    }
    return rows


def parquet_images(path: Path) -> list[bytes | None]:
    return [image and image["bytes"] for image in pq.read_table(path)["image"].to_pylist()]


def test_the_images_become_what_loose_files_become(source, enhanced, tmp_path, capsys):
    output = tmp_path / "out"
    assert enhance(source, output) == 0
    rows = assert_consistent(output, 2 * COUNT + 1)
    assert {row["status"] for row in rows.values()} == {"ok"}
    assert len(list((output / "commits").iterdir())) == 3
    before, after = members_of(source / "train/a.tar"), members_of(output / "images/train/a.tar")
    assert [name for name, _ in after] == [name for name, _ in before]
    assert dict(after) == dict(before) | {f"{stem}.jpg": data for stem, data in enhanced.items()}
    assert parquet_images(output / "images/b.parquet") == [enhanced[stem] for stem in sorted(enhanced)]
    assert rows["b.parquet/image/000003"]["sha256_out"] == rows["train/a.tar/00003.jpg"]["sha256_out"]
    capsys.readouterr()
    assert main(["verify", str(output)]) == 0
    assert f"{2 * COUNT + 2} files checked, 0 are not what their rows say" in capsys.readouterr().out
    assert main(["report", str(output)]) == 0
    assert (output / "report.html").read_text().count("data:image/webp") > COUNT
    assert enhance(source, output) == 0
    assert "All of it was there already" in capsys.readouterr().out


def test_one_column_of_several(loose, tmp_path, capsys):
    files = [path.read_bytes() for path in sorted(loose.rglob("*.jpg"))[:6]]
    make_parquet(tmp_path / "in/a.parquet", files[:3], other=files[3:])
    output = tmp_path / "out"
    assert enhance(tmp_path / "in", output, image_column="other") == 0
    assert assert_consistent(output, 3).keys() == {f"a.parquet/other/{number:06d}" for number in range(3)}
    assert parquet_images(output / "images/a.parquet") == files[:3]
    assert main(["verify", str(output)]) == 0
    assert "that no row knows" not in capsys.readouterr().out


def test_a_column_that_no_file_of_a_folder_has(tmp_path):
    make_parquet(tmp_path / "in/a.parquet", [b"\xff\xd8"])
    with pytest.raises(UsageError, match="no Parquet file in it has a column of images that is called absent"):
        enhance(tmp_path / "in", tmp_path / "out", image_column="absent")


def test_over_a_cluster(here, source, enhanced, tmp_path):
    result = here("enhance", source, tmp_path / "out", "--num-actors", 2)
    assert result.returncode == 0, result.stderr
    assert {row["status"] for row in assert_consistent(tmp_path / "out", 2 * COUNT + 1).values()} == {"ok"}
    assert parquet_images(tmp_path / "out/images/b.parquet") == [enhanced[stem] for stem in sorted(enhanced)]


@pytest.mark.jobs
def test_the_dataset_is_read_by_its_own_loaders(source, enhanced, tmp_path, monkeypatch):
    webdataset, datasets = pytest.importorskip("webdataset"), pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    assert enhance(source, tmp_path / "out") == 0
    images = tmp_path / "out/images"
    found = list(webdataset.WebDataset(str(images / "train/a.tar"), shardshuffle=False))
    assert [(one["__key__"], one["jpg"]) for one in found] == sorted(enhanced.items())
    assert [json.loads(one["json"])["key"] for one in found] == sorted(enhanced)
    file = str(images / "b.parquet")
    table = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
    assert isinstance(table.features["image"], datasets.Image)
    pixels = cv2.imdecode(np.frombuffer(enhanced["00005"], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(np.asarray(table[5]["image"], np.int16) - pixels).max() <= 2
    assert table["number"] == list(range(COUNT))


BAD = b"\xff\xd8 no image"


@pytest.fixture
def with_bad(loose, tmp_path) -> Path:
    """A corpus of each kind, with one bad image in each."""
    data = [path.read_bytes() for path in sorted(loose.rglob("*.jpg"))][:5]
    data[2] = BAD
    make_tar(tmp_path / "in/a.tar", [(f"{n}.{kind}", one) for n, one in enumerate(data) for kind in ("jpg", "cls")])
    make_parquet(tmp_path / "in/b.parquet", data)
    for number, one in enumerate(data):
        (tmp_path / f"in/{number}.jpg").write_bytes(one)
    return tmp_path / "in"


@pytest.mark.parametrize("on_failure", ["leave-out", "copy"])
def test_what_becomes_of_a_failed_image(with_bad, tmp_path, on_failure):
    output = tmp_path / "out"
    assert enhance(with_bad, output, on_failure=on_failure) == 3
    rows = assert_consistent(output, 15)
    failed = {path: row["output"] for path, row in rows.items() if row["status"] == "failed"}
    assert failed.keys() == {"2.jpg", "a.tar/2.jpg", "b.parquet/image/000002"}
    names = [name for name, _ in members_of(output / "images/a.tar")]
    there = (output / "images/2.jpg").exists(), "2.jpg" in names, parquet_images(output / "images/b.parquet")[2]
    if on_failure == "copy":
        assert there == (True, True, BAD)
        assert failed == {path: f"images/{path}" for path in failed}
        assert dict(members_of(output / "images/a.tar"))["2.jpg"] == (output / "images/2.jpg").read_bytes() == BAD
    else:
        assert there == (False, False, None)
        assert set(failed.values()) == {None}
        assert len(names) == 9


def test_retry_replaces_failed_members_alone(source, enhanced, tmp_path, monkeypatch):
    output, work, seen = tmp_path / "out", ImageProcessor._enhanced, []

    def fail_on_some(self, opened, row, is_included, level):
        if row["sha256_in"] in bad:
            raise OSError("for a moment")
        return work(self, opened, row, is_included, level)

    def count(self, path, data, level=None):
        seen.append(path)
        return call(self, path, data, level)

    bad = {hashlib.sha256(dict(members_of(source / "train/a.tar"))[f"{n:05d}.jpg"]).hexdigest() for n in (1, 7)}
    monkeypatch.setattr(ImageProcessor, "_enhanced", fail_on_some)
    assert enhance(source, output) == 3
    rows = assert_consistent(output, 2 * COUNT + 1)
    assert sum(row["status"] == "failed" for row in rows.values()) == 4
    bad.clear()
    call = ImageProcessor.__call__
    monkeypatch.setattr(ImageProcessor, "__call__", count)
    assert enhance(source, output, retry_failed=True) == 0
    assert sorted(seen) == [
        "b.parquet/image/000001",
        "b.parquet/image/000007",
        "train/a.tar/00001.jpg",
        "train/a.tar/00007.jpg",
    ]
    again = assert_consistent(output, 2 * COUNT + 1)
    assert [again[path] for path in rows if path not in seen] == [rows[path] for path in rows if path not in seen]
    assert [stem for stem, _ in members_of(output / "images/train/a.tar")] == [
        name for name, _ in members_of(source / "train/a.tar")
    ]
    assert parquet_images(output / "images/b.parquet") == [enhanced[stem] for stem in sorted(enhanced)]


def test_what_is_good_stays_where_the_source_is_gone(source, tmp_path, monkeypatch):
    output, failing = tmp_path / "out", hashlib.sha256((source / "c.jpg").read_bytes()).hexdigest()
    work = ImageProcessor._enhanced

    def fail_on_one(self, opened, row, is_included, level):
        if row["sha256_in"] == failing:
            raise OSError("for a moment")
        return work(self, opened, row, is_included, level)

    monkeypatch.setattr(ImageProcessor, "_enhanced", fail_on_one)
    assert enhance(source, output) == 3
    before = {path: path.read_bytes() for path in output.rglob("images/**/*.*") if path.is_file()}
    run = ImagePipeline.run

    def run_later(self, shard):
        (source / "b.parquet").write_bytes(b"")
        (source / "train/a.tar").unlink(missing_ok=True)
        return run(self, shard)

    monkeypatch.setattr(ImagePipeline, "run", run_later)
    assert enhance(source, output, retry_failed=True) == 3
    assert {path: path.read_bytes() for path in before} == before
    rows = assert_consistent(output, 2 * COUNT + 1)
    assert sum(row["status"] == "failed" for row in rows.values()) == 3


@pytest.mark.jobs
def test_verify_finds_a_changed_member_and_repairs_it(source, enhanced, tmp_path, capsys):
    output = tmp_path / "out"
    assert enhance(source, output) == 0
    tar = output / "images/train/a.tar"
    good = tar.read_bytes()
    place = good.index(enhanced["00004"])
    tar.write_bytes(good[: place + 500] + b"\0\1\2" + good[place + 503 :])
    (output / "images/b.parquet").unlink()
    capsys.readouterr()
    assert main(["verify", str(output)]) == 3
    out = capsys.readouterr().out
    assert "1 changed: train/a.tar/00004.jpg" in out
    assert f"{COUNT} missing: b.parquet/image/000000, " in out
    assert main(["verify", str(output), "--repair"]) == 0
    assert tar.read_bytes() == good
    assert_consistent(output, 2 * COUNT + 1)


def test_verify_of_images_that_are_large(source, tmp_path, capsys, monkeypatch):
    assert enhance(source, tmp_path / "out") == 0
    monkeypatch.setattr(verify, "WHOLE_BYTES", 0)
    assert main(["verify", str(tmp_path / "out")]) == 0
    assert "0 are not what their rows say" in capsys.readouterr().out


@pytest.mark.jobs
@pytest.mark.parametrize("lost", [0, COUNT], ids=["alone", "beside another pack of its shard"])
def test_verify_finds_a_tar_that_is_cut_off_behind_its_images(source, tmp_path, capsys, lost):
    (source / "c.jpg").unlink()  # which would lie between the two packs
    with tarfile.open(source / "train/a.tar", "a") as tar:
        tar.addfile(member("lidar.bin", 3000), io.BytesIO(bytes(range(250)) * 12))
    output = tmp_path / "out"
    assert enhance(source, output) == 0
    tar = output / "images/train/a.tar"
    good = tar.read_bytes()
    tar.write_bytes(good[: good.index(b"lidar.bin") + 1000])
    if lost:
        (output / "images/b.parquet").unlink()
    assert json.loads((output / "run.json").read_text())["shards"][0] == 2 * COUNT
    capsys.readouterr()
    assert main(["verify", str(output)]) == 3
    said = capsys.readouterr().out
    assert f"{2 * COUNT + 1} files checked, {lost + 1} " in said
    assert "\n1 damaged: train/a.tar\n" in said
    assert "that no row knows" not in said
    assert main(["verify", str(output), "--repair"]) == 0
    assert tar.read_bytes() == good
    assert main(["verify", str(output)]) == 0


@pytest.mark.parametrize("name", ["train/a.tar", "b.parquet"])
def test_what_is_saved_is_not_done_again(source, enhanced, tmp_path, monkeypatch, name):
    """The worker dies after each few blocks, and each time a little more is done."""
    output, work, seen = tmp_path / "out", ImageProcessor.__call__, []
    allowed = 0

    def die(self, path, data, level=None):
        if len(seen) >= allowed:
            raise StorageError("the machine is gone")
        seen.append(path)
        return work(self, path, data, level)

    monkeypatch.setattr(packing, "SEGMENT_BYTES", 1)
    monkeypatch.setattr(packing, "UNDER_WAY_BYTES", 1)
    monkeypatch.setattr(ImageProcessor, "__call__", die)
    # From the second attempt on each image has a process of its own: not here, where calls are counted.
    monkeypatch.setattr("sgllie.enhance.pipeline.isolated_processor", lambda *_: processor_of(make))
    make = ImageProcessor(EnhanceSettings("in", "out", device="cpu"))
    for _ in range(3):
        allowed += 5
        if enhance(source / name, output) == 0:
            break
        assert not (output / "images").exists(), "nothing that is half written is seen"
    rows = assert_consistent(output, COUNT)
    assert max(row["attempt"] for row in rows.values()) > 1
    assert {row["status"] for row in rows.values()} == {"ok"}
    written = (output / f"images/{Path(name).name}").read_bytes()
    allowed, alone = 10**6, tmp_path / "alone"
    assert enhance(source / name, alone) == 0
    assert (alone / f"images/{Path(name).name}").read_bytes() == written


def test_bright_images_are_carried_as_they_are(loose, tmp_path):
    files = sorted(loose.rglob("*.jpg"))
    bright = cv2.imencode(".jpg", np.full((40, 40, 3), 250, np.uint8))[1].tobytes()
    make_tar(tmp_path / "in/a.tar", [("a.jpg", bright), ("b.jpg", files[0].read_bytes())])
    make_parquet(tmp_path / "in/b.parquet", [bright])
    assert enhance(tmp_path / "in", tmp_path / "out", only_darker_than=0.8) == 0
    rows = assert_consistent(tmp_path / "out", 3)
    assert [rows[path]["status"] for path in sorted(rows)] == ["copied", "ok", "copied"]
    assert members_of(tmp_path / "out/images/a.tar")[0] == ("a.jpg", bright)
    assert parquet_images(tmp_path / "out/images/b.parquet") == [bright]


def test_another_format_renames_members(source, tmp_path):
    assert enhance(source, tmp_path / "out", format="png") == 0
    rows = assert_consistent(tmp_path / "out", 2 * COUNT + 1)
    assert rows["train/a.tar/00003.jpg"]["output"] == "images/train/a.tar/00003.png"
    names = [name for name, _ in members_of(tmp_path / "out/images/train/a.tar")]
    assert names[:3] == ["00000.png", "00000.json", "00001.png"]
    paths = [image["path"] for image in pq.read_table(tmp_path / "out/images/b.parquet")["image"].to_pylist()]
    assert paths[:2] == ["0.png", "1.png"]


@pytest.mark.parametrize(("limit", "rows", "members"), [(6, 6, 0), (COUNT + 1 + 3, COUNT, 6)])
def test_the_first_images_alone(source, tmp_path, limit, rows, members):
    """The pack in which the limit lies ends behind it, with the label of the last sample."""
    assert enhance(source, tmp_path / "out", limit=limit) == 0
    assert_consistent(tmp_path / "out", limit)
    images = tmp_path / "out/images"
    assert pq.read_table(images / "b.parquet").num_rows == rows
    tar = images / "train/a.tar"
    assert (len(members_of(tar)) if tar.exists() else 0) == members


class processor_of:  # noqa: N801
    """A context that gives a processor."""

    def __init__(self, processor):
        self.processor = processor

    def __enter__(self):
        return self.processor

    def __exit__(self, *_):
        pass
