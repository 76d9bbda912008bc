"""Datasets of everything at once: label maps within tars and Parquet files, and other files beside these."""

import io
import tarfile

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_packed_job import assert_consistent, enhance

from commands import kill_all, make_corpus, rows_of, sgllie, start
from disturbances import wait_for
from image_files import regions
from packs import make_parquet, make_tar, members_of
from places import HOOKS
from sgllie.cli import main
from sgllie.corpus.listing import Listing
from sgllie.corpus.patterns import Patterns
from sgllie.errors import UsageError
from sgllie.evaluate.run import prepare as prepare_evaluation
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.runs.job import InProcess, run_job


def png(pixels):
    """An image as the bytes of a PNG."""
    return cv2.imencode(".png", pixels)[1].tobytes()


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """The bytes of a few dark photographs."""
    return [path.read_bytes() for path in sorted(make_corpus(tmp_path_factory.mktemp("loose"), 3).rglob("*.jpg"))]


@pytest.fixture
def source(photographs, tmp_path):
    """A tar with maps in it, a Parquet file of photographs and maps, and what holds no images."""
    noise = png(np.random.default_rng(0).integers(0, 90, (40, 48), np.uint8))  # told by their names alone
    members = [("a.jpg", photographs[0]), ("a.labelIds.png", noise), ("a.json", b"{}"), ("b.png", noise)]
    make_tar(tmp_path / "in/s.tar", [*members, ("gtFine/c.png", noise), ("d.png", png(regions()))])
    make_parquet(tmp_path / "in/t.parquet", [photographs[1], png(regions(7)), photographs[2]])
    make_tar(tmp_path / "in/old/u.tar", [("e.jpg", photographs[1])])
    pq.write_table(pa.table({"boxes": [1, 2]}), tmp_path / "in/boxes.parquet")
    with tarfile.open(tmp_path / "in/empty.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("notes.txt"), io.BytesIO())
    for name, data in (("readme.txt", b"what this is"), ("old/notes.txt", b"old"), ("._s.tar", b"of macOS")):
        (tmp_path / "in" / name).write_bytes(data)
    return tmp_path / "in"


MAPS = {
    "s.tar/a.labelIds.png": "label map by name: .labelIds",
    "s.tar/gtFine/c.png": "label map by name: gtFine",
    "s.tar/d.png": "label map by content: 5 values in flat regions",
    "t.parquet/image/000001": "label map by content: 7 values in flat regions",
}


def test_label_maps_in_packs_are_carried(source, tmp_path, capsys):
    output = tmp_path / "out"
    assert enhance(source, output, format="png", exclude=("old/",)) == 0
    said = capsys.readouterr().out
    assert "8 images: 4 enhanced, 4 copied (label map by content: 2, label map by name: 2)" in said
    rows = assert_consistent(output, 8)
    assert {path: row["reason"] for path, row in rows.items() if row["status"] == "copied"} == MAPS
    before, after = dict(members_of(source / "s.tar")), dict(members_of(output / "images/s.tar"))
    assert list(after) == ["a.png", "a.labelIds.png", "a.json", "b.png", "gtFine/c.png", "d.png"]
    assert {name for name in before.keys() & after.keys() if before[name] != after[name]} == {"b.png"}
    assert main(["verify", str(output)]) == 0
    assert "no row knows" not in capsys.readouterr().out
    assert main(["report", str(output)]) == 0
    photographs_only = [entry.path for entry in Listing(str(source), photographs_only=True)]
    assert photographs_only == ["old/u.tar/e.jpg", "s.tar/a.jpg", "s.tar/b.png", "s.tar/d.png", *PARQUET]
    capsys.readouterr()
    measuring = EvaluateSettings(images=str(output), output=str(tmp_path / "eval"), metrics="brightness")
    assert run_job(prepare_evaluation, measuring, InProcess()) == 0
    assert "4 label maps among the images: not measured" in capsys.readouterr().out
    assert len(rows_of(tmp_path / "eval")) == 4


PARQUET = [f"t.parquet/image/{row:06d}" for row in range(3)]


def test_members_are_included_and_excluded(source, tmp_path):
    listing = Listing(
        str(source), left_out=Patterns(["u.tar", "s.tar/*.png", "000002"]), included=Patterns(["gtFine/"])
    )
    assert [entry.path for entry in listing] == ["s.tar/a.jpg", "s.tar/gtFine/c.png", *PARQUET[:2]]
    assert listing.excluded.examples == ["old/u.tar", "s.tar/a.labelIds.png", "s.tar/b.png", "s.tar/d.png", PARQUET[2]]
    output = tmp_path / "out"
    assert enhance(source, output, exclude=("u.tar", "s.tar/b.png"), include=("gtFine/",)) == 0
    rows = assert_consistent(output, 7)
    assert rows["s.tar/gtFine/c.png"]["status"] == "ok"
    before, after = dict(members_of(source / "s.tar")), dict(members_of(output / "images/s.tar"))
    assert (after["b.png"], after["gtFine/c.png"] != before["gtFine/c.png"]) == (before["b.png"], True)
    assert not (output / "images/old/u.tar").exists()


def test_packs_without_images_are_other_files(source, tmp_path, capsys):
    output = tmp_path / "out"
    assert enhance(source, output) == 0
    assert "4 other files (0.0 MB): 4 copied." in capsys.readouterr().out
    rows = {row["path"]: row for row in rows_of(output, "others")}
    assert rows.keys() == {"boxes.parquet", "empty.tar", "readme.txt", "old/notes.txt"}
    assert len(list((output / "others").iterdir())) == 1, "they are no shard each"
    for path in rows:
        assert (output / "images" / path).read_bytes() == (source / path).read_bytes()
    assert not (output / "images/._s.tar").exists()
    (output / "images/boxes.parquet").unlink()
    assert main(["verify", str(output)]) == 3
    assert "13 files checked, 1 is not what its row says.\n1 missing: boxes.parquet" in capsys.readouterr().out
    assert main(["verify", str(output), "--repair"]) == 0
    assert main(["verify", str(output)]) == 0
    assert enhance(source, output, check_input=True) == 0
    (source / "old/notes.txt").write_bytes(b"older")
    with pytest.raises(UsageError, match="the input"):
        enhance(source, output, check_input=True)


def test_columns_of_a_list_reach_the_images_of_its_packs(source, tmp_path):
    (source / "list.csv").write_text("path,scene\ns.tar,night\nold/u.tar,day\n")
    assert enhance(source / "list.csv", tmp_path / "out", columns="scene") == 0
    scenes = {row["path"].partition(".tar")[0]: row["scene"] for row in rows_of(tmp_path / "out")}
    assert scenes == {"s": "night", "old/u": "day"}


def test_a_column_that_is_not_the_chosen_one_is_carried(source, photographs, tmp_path):
    """A Parquet file whose images lie in another column is no pack of this run, and verified as a whole."""
    pq.write_table(pa.table({"picture": photographs}), source / "boxes.parquet")
    output = tmp_path / "out"
    assert enhance(source, output, image_column="image") == 0
    assert "boxes.parquet" in {row["path"] for row in rows_of(output, "others")}
    assert main(["verify", str(output)]) == 0


def test_an_update_knows_packs_and_other_files(source, photographs, tmp_path, capsys):
    output = tmp_path / "out"
    assert enhance(source, output) == 0
    make_tar(source / "v.tar", [("f.jpg", photographs[2]), ("f.txt", b"f")])
    (source / "new.txt").write_bytes(b"new")
    (source / "readme.txt").write_bytes(b"what this is now")
    (source / "old/notes.txt").unlink()
    capsys.readouterr()
    assert enhance(source, output, update=True) == 0
    said = capsys.readouterr().out
    assert "Since the last listing: 2 new, 1 changed, 1 gone, whose rows are kept." in said
    assert "5 other files (0.0 MB): 5 copied." in said
    assert (output / "images/readme.txt").read_bytes() == b"what this is now"
    assert len(assert_consistent(output, 10)) == 10
    assert main(["verify", str(output)]) == 0
    assert enhance(source, output, check_input=True) == 0
    make_tar(source / "v.tar", [("f.jpg", photographs[2]), ("g.jpg", photographs[0])])
    with pytest.raises(UsageError, match=r"'v.tar' has changed since it was listed, and --update enhances no tar"):
        enhance(source, output, update=True)
    with pytest.raises(UsageError, match="--columns is scene; it must be left out with --update"):
        enhance(source, output, update=True, columns="scene")


@pytest.mark.jobs
def test_killed_in_the_midst_of_other_files(source, tmp_path):
    """The second of them waits for ever; what is missing is done by the same command."""
    output = tmp_path / "out"
    for number in range(40):
        (source / f"label{number:02d}.txt").write_text(str(number))
    job = start("enhance", source, output, PYTHONPATH=HOOKS, HOLD="images/label*.txt")
    wait_for(lambda: list(output.glob("images/label*.txt")))
    kill_all(job)
    assert not list(output.glob("others/*"))
    result = sgllie("enhance", source, output)
    assert result.returncode == 0, result.stderr
    assert "44 other files (0.0 MB): 44 copied." in result.stdout
    rows = rows_of(output, "others")
    assert (len(rows), {row["attempt"] for row in rows} >= {2}) == (44, True)
    assert all((output / row["output"]).read_bytes() == (source / row["path"]).read_bytes() for row in rows)
