"""Files that are no images: carried beside them, with a row each, whatever happens on the way."""

import errno
import filecmp
import os
import shutil
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from commands import make_corpus, rows_of
from sgllie.cli import main
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.runs.job import InProcess, run_job
from sgllie.storage import Entry, copying, open_storage
from sgllie.storage.copying import copy
from sgllie.storage.local import copy_file

OTHERS = {
    "readme.txt": b"what this is",
    "labels/000/00000.txt": b"0 0.5 0.5 0.1 0.1",
    "annotations/boxes.json": b"{}",
    "000/empty.csv": b"",
    "000/cloud.bin": bytes(range(256)) * 40,
}


@pytest.fixture
def source(tmp_path):
    """Three images, five other files, and what is none of the input."""
    folder = make_corpus(tmp_path / "in", 3)
    for path, content in OTHERS.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    for path in ("._readme.txt", ".partial/half.txt", "__MACOSX/readme.txt"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(b"none of it")
    return folder


def enhance(source, output, **options):
    return run_job(prepare, EnhanceSettings(str(source), str(output), device="cpu", **options), InProcess())


def others_of(output):
    return {row["path"]: row for row in ds.dataset(Path(output) / "others").to_table().to_pylist()}


def carried(output):
    return {path: (Path(output) / "images" / path).read_bytes() for path in OTHERS}


def test_one_other_file_is_told_as_one(source, tmp_path, capsys):
    for path in OTHERS:
        (source / path).unlink()
    (source / "readme.txt").write_bytes(b"alone")
    assert enhance(source, tmp_path / "out") == 0
    assert "1 other file (0.0 MB) carried as it is: readme.txt" in capsys.readouterr().out


def test_pictures_in_formats_that_are_not_read_are_named(source, tmp_path, capsys):
    """They are carried as other files are, but whoever has them must know that they stay dark."""
    for name in ("000/phone.HEIC", "night.dng"):
        (source / name).write_bytes(b"light")
    assert enhance(source, tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "7 other files" in said
    assert "2 pictures not brightened, of formats that are not read (convert them first): 000/phone.HEIC, " in said
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw/night.dng").write_bytes(b"light")
    with pytest.raises(UsageError, match=r"holds no images \(1 other file, 1 picture not brightened, of formats"):
        enhance(tmp_path / "raw", tmp_path / "none")


def test_the_report_counts_other_files(source, tmp_path):
    assert enhance(source, tmp_path / "out") == 0
    assert main(["report", str(tmp_path / "out")]) == 0
    assert "<dt>Other files</dt><dd>5</dd>" in (tmp_path / "out/report.html").read_text()
    assert enhance(source, tmp_path / "none", others="skip") == 0
    assert main(["report", str(tmp_path / "none")]) == 0
    assert "<dt>Other files" not in (tmp_path / "none/report.html").read_text()


def test_other_files_are_copied(source, tmp_path, capsys):
    assert enhance(source, tmp_path / "out", shard_images=2) == 0
    said = capsys.readouterr().out
    assert "5 other files (0.0 MB) carried as they are: 000/cloud.bin, " in said
    assert "3 other files ignored: " in said
    assert "3 images: 3 enhanced" in said
    assert "5 other files (0.0 MB): 5 copied." in said
    assert carried(tmp_path / "out") == OTHERS
    rows = others_of(tmp_path / "out")
    assert {path: (row["status"], row["bytes"]) for path, row in rows.items()} == {
        path: ("copied", len(content)) for path, content in OTHERS.items()
    }
    assert len(rows_of(tmp_path / "out")) == 3
    names = {path.name for path in (tmp_path / "out/images").rglob("*") if path.is_file()}
    assert names == {"00000.jpg", "00001.jpg", "00002.jpg", *(Path(path).name for path in OTHERS)}
    assert enhance(source, tmp_path / "out") == 0
    assert "All of it was there already" in capsys.readouterr().out
    (source / "readme.txt").write_bytes(b"another")
    with pytest.raises(UsageError, match="the input"):
        enhance(source, tmp_path / "out", check_input=True)


def test_links_are_further_names(source, tmp_path, monkeypatch):
    (source / "named.txt").symlink_to(source / "readme.txt")
    assert enhance(source, tmp_path / "out", others="link") == 0
    rows = others_of(tmp_path / "out")
    assert {row["status"] for row in rows.values()} == {"linked"}
    assert os.path.samefile(source / "readme.txt", tmp_path / "out/images/named.txt")
    assert not (tmp_path / "out/images/named.txt").is_symlink()
    # Where the file system cannot, files are copied.
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.EXDEV, "other device")))
    assert enhance(source, tmp_path / "out2", others="link") == 0
    assert {row["status"] for row in others_of(tmp_path / "out2").values()} == {"copied"}
    assert carried(tmp_path / "out2") == OTHERS


def test_overwriting_links_leaves_the_input(source, tmp_path):
    assert enhance(source, tmp_path / "out", others="link") == 0
    assert enhance(source, tmp_path / "out", others="copy", overwrite=True) == 0
    assert {path: (source / path).read_bytes() for path in OTHERS} == OTHERS


def test_they_can_be_skipped(source, tmp_path, capsys):
    assert enhance(source, tmp_path / "out", others="skip") == 0
    assert "8 other files ignored" in capsys.readouterr().out
    assert not (tmp_path / "out/others").exists()
    with pytest.raises(UsageError, match=r"--others \(skip then, copy now\)"):
        enhance(source, tmp_path / "out")


def test_a_link_to_nowhere_is_a_row_and_can_be_tried_again(source, tmp_path, capsys):
    (source / "gone.txt").symlink_to(tmp_path / "later.txt")
    assert enhance(source, tmp_path / "out") == 3
    assert "6 other files (0.0 MB): 5 copied, 1 failed." in capsys.readouterr().out
    row = others_of(tmp_path / "out")["gone.txt"]
    assert (row["status"], row["error_type"], row["output"]) == ("failed", "read", None)
    leads = f"it is a link to {tmp_path}/later.txt, which does not exist; mend or remove it"
    assert row["error"] == f"the file cannot be read: {leads}"
    assert main(["verify", str(tmp_path / "out")]) == 0
    (tmp_path / "later.txt").write_text("here")
    assert enhance(source, tmp_path / "out", retry_failed=True) == 0
    assert "6 other files (0.0 MB): 6 copied." in capsys.readouterr().out
    assert (tmp_path / "out/images/gone.txt").read_text() == "here"


@pytest.mark.jobs
def test_verify_and_repair_know_them(source, tmp_path, capsys):
    output = tmp_path / "out"
    assert enhance(source, output) == 0
    assert main(["verify", str(output)]) == 0
    assert "8 files checked, 0 are not what their rows say" in capsys.readouterr().out
    (output / "images/readme.txt").unlink()
    (output / "images/annotations/boxes.json").write_bytes(b"{} and more")
    assert main(["verify", str(output)]) == 3
    assert "1 changed: annotations/boxes.json\n1 missing: readme.txt" in capsys.readouterr().out
    assert main(["verify", str(output), "--repair"]) == 0
    assert carried(output) == OTHERS


def test_two_files_of_one_name_are_refused(source, tmp_path):
    (source / "000/00000.png").write_bytes((source / "000/00000.jpg").read_bytes())
    (source / "masks").mkdir()
    shutil.copy(source / "000/00000.png", source / "masks/a.png")
    shutil.copy(source / "000/00000.jpg", source / "masks/a.jpg")  # both are label maps, and keep their names
    with pytest.raises(UsageError, match=r"'000/00000.jpg' and '000/00000.png' would both be written to"):
        enhance(source, tmp_path / "out", format="png")


def test_files_that_name_renamed_images_are_told(source, tmp_path, capsys):
    (source / "annotations/boxes.json").write_text('{"file_name": "00001.jpg", "path": "000/00002.jpg"}')
    (source / "annotations/other.json").write_text('{"file_name": "11111.jpg"}')
    assert enhance(source, tmp_path / "same") == 0
    assert "new names" not in capsys.readouterr().out
    assert enhance(source, tmp_path / "png", format="png") == 0
    told = (
        "name them by the old ones (00001.jpg becomes 00001.png) in 1 file of those looked at: annotations/boxes.json"
    )
    assert told in capsys.readouterr().out


def test_files_that_lead_back_to_the_input_are_told(source, tmp_path, capsys):
    """A training on the output would read the dark images again."""
    (source / "data.yaml").write_text(f"path: {source}\ntrain: images/train\n")
    (source / "train.txt").write_text(f"{source}/000/00001.jpg\n")
    (source / "other.txt").write_text(f"{source}s/000/00001.jpg\n./000/00001.jpg\n")
    assert enhance(source, tmp_path / "out") == 0
    told = (
        f"Files say that images lie in {source}, where a loader that follows them finds the old ones: 2 files of those"
    )
    assert f"{told} looked at: data.yaml, train.txt" in capsys.readouterr().out


def test_a_trial_carries_none(source, tmp_path):
    assert enhance(source, tmp_path / "out", limit=2) == 0
    assert not (tmp_path / "out/others").exists()


@pytest.mark.parametrize("at_once", [8 * 2**20, 100])
def test_large_files_go_in_parts(tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(copying, "AT_ONCE", at_once)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.bin").write_bytes(OTHERS["000/cloud.bin"])
    source, target = open_storage(str(tmp_path / "in")), open_storage(str(tmp_path / "out"))
    entry = source.find("a.bin")
    assert copy(source, entry, target, "b/a.bin") == 10240
    assert target.read("b/a.bin") == OTHERS["000/cloud.bin"]
    with pytest.raises(FileNotFoundError):
        copy(source, Entry("absent", 1, None), target, "absent")
    assert [entry.path for entry in target.list() if not entry.path.startswith(".partial")] == ["b/a.bin"]


@pytest.mark.parametrize("at_once", [8 * 2**20, 100])
def test_between_buckets_and_folders(s3, tmp_path, monkeypatch, at_once):
    monkeypatch.setattr(copying, "AT_ONCE", at_once)
    content = OTHERS["000/cloud.bin"]
    (tmp_path / "in").mkdir()
    (tmp_path / "in/odd ü+%2F?.bin").write_bytes(content)
    local, out = open_storage(str(tmp_path / "in")), open_storage(str(tmp_path / "out"))
    bucket, other = open_storage("s3://bucket/a", s3), open_storage("s3://bucket/b", s3)
    for source, target in ((local, bucket), (bucket, other), (other, out)):
        (entry,) = source.list()
        assert copy(source, entry, target, entry.path) == len(content)
        assert target.read("odd ü+%2F?.bin") == content
    with pytest.raises(FileNotFoundError):
        copy(bucket, Entry("absent", 1, None), other, "absent")


def test_from_bucket_to_bucket(s3, source, tmp_path):
    bucket = open_storage("s3://bucket/in", s3)
    for path in sorted(source.rglob("*")):
        if path.is_file():
            bucket.write(str(path.relative_to(source)), path.read_bytes())
    settings = EnhanceSettings("s3://bucket/in", "s3://bucket/out", device="cpu", s3=s3)
    assert run_job(prepare, settings, InProcess()) == 0
    output = open_storage("s3://bucket/out", s3)
    assert {path: output.read(f"images/{path}") for path in OTHERS} == OTHERS
    assert run_job(prepare, settings, InProcess()) == 0


def test_holes_stay_holes(tmp_path):
    """As those of LMDB, whose files claim all that they may ever hold."""
    for name in ("in", "out"):
        (tmp_path / name).mkdir()
    source, target = (open_storage(str(tmp_path / name)) for name in ("in", "out"))
    with (tmp_path / "in/data.mdb").open("wb") as file:
        for place in (0, 20 * 2**20, 45 * 2**20):
            file.seek(place)
            file.write(os.urandom(3 * 2**20))
        file.truncate(2**26)
    copy(source, source.find("data.mdb"), target, "data.mdb")
    before, after = tmp_path / "in/data.mdb", tmp_path / "out/data.mdb"
    assert filecmp.cmp(before, after, shallow=False)
    assert after.stat().st_blocks == before.stat().st_blocks


@pytest.mark.parametrize("size", [0, 1, 9 * 2**20 + 1])
def test_a_file_without_holes_is_copied_whole(tmp_path, size):
    (tmp_path / "a").write_bytes(os.urandom(size))
    copy_file(tmp_path / "a", str(tmp_path / "b.partial"), str(tmp_path / "b"))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
