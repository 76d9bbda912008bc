"""`sgllie verify`: outputs that were deleted or changed since they were written."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from clips import static, write_clip
from commands import assert_complete, make_corpus
from sgllie.cli import main
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess, run_job
from sgllie.verify import run
from video_jobs import rows, settings_for, work


@pytest.fixture
def output(tmp_path):
    """A finished run over 40 images in two shards, one of which is no image."""
    source = make_corpus(tmp_path / "in", 40)
    (source / "000/00003.jpg").write_bytes(b"no image")
    settings = EnhanceSettings(str(source), str(tmp_path / "out"), device="cpu", shard_images=20, quality=80)
    assert run_job(prepare, settings, InProcess()) == 3
    return tmp_path / "out"


def test_what_is_as_it_was_written(output, capsys):
    assert main(["verify", str(output)]) == 0
    assert "39 files checked, 0 are not what their rows say." in capsys.readouterr().out


def test_what_is_missing_or_changed_is_named(output, capsys):
    (output / "images/000/00001.jpg").unlink()
    (output / "images/000/00030.jpg").write_bytes(b"tampered with")
    (output / "images/stray.jpg").write_bytes(b"x")
    rows = sorted((output / "commits").iterdir())
    before = [path.read_bytes() for path in rows]
    capsys.readouterr()
    assert main(["verify", str(output)]) == 3
    out = capsys.readouterr().out
    assert "2 are not what their rows say" in out
    assert "1 missing: 000/00001.jpg" in out
    assert "1 changed: 000/00030.jpg" in out
    assert "1 file in images/ that no row knows: images/stray.jpg" in out
    assert before == [path.read_bytes() for path in rows], "nothing is touched unless asked"
    assert (output / "_SUCCESS").exists()


@pytest.mark.jobs
def test_rows_that_are_gone_are_told_and_made_again(output, here, tmp_path):
    (output / "commits/part-00001.parquet").unlink()
    (output / "images/000/00001.jpg").unlink()
    found = here("verify", output)
    assert found.returncode == 3
    assert "1 table of rows gone or damaged: commits/part-00001.parquet" in found.stdout
    assert "1 missing: 000/00001.jpg" in found.stdout
    repaired = here("verify", output, "--repair")
    assert repaired.returncode == 3  # one input is still no image
    assert repaired.stdout.count("Images in ") == 1, "all of it in one job"
    assert_complete(tmp_path / "in", output, failed=1)
    assert here("verify", output).returncode == 0


def without_a_row(path):
    """A table with all that belongs to it but its first row."""
    pq.write_table(pq.read_table(path).slice(1), path)


def of_other_columns(path):
    """A table of something else."""
    pq.write_table(pa.table({"path": ["a.jpg"], "label": [1]}), path)


def with_changed_rows(path):
    """A table of which the disk has changed bytes, though not those that say what it holds."""
    data = bytearray(path.read_bytes())
    data[60:64] = bytes(byte ^ 255 for byte in data[60:64])
    path.write_bytes(data)


def a_folder(path):
    """Something else under the name of a table."""
    path.unlink()
    path.mkdir()


@pytest.mark.jobs
@pytest.mark.parametrize(
    ("damage", "table"),
    [
        (without_a_row, "commits/part-00001.parquet"),
        (a_folder, "commits/part-00001.parquet"),
        (of_other_columns, "others/part-00002.parquet"),
        (with_changed_rows, "others/part-00002.parquet"),
        (with_changed_rows, "stats/part-00000.parquet"),
    ],
)
def test_damaged_tables_are_named_and_made_again(here, tmp_path, capsys, damage, table):
    source, output = make_corpus(tmp_path / "in", 4), tmp_path / "out"
    (source / "notes.txt").write_text("of the photographer")
    assert run_job(prepare, EnhanceSettings(str(source), str(output), device="cpu", shard_images=2), InProcess()) == 0
    rows = pq.read_table(output / "stats").select(["path", "status", "sha256_out"])
    damage(output / table)
    assert main(["verify", str(output)]) == 3
    assert f"1 table of rows gone or damaged: {table}" in capsys.readouterr().out
    assert here("verify", output, "--repair").returncode == 0
    assert pq.read_table(output / "stats").select(rows.column_names) == rows
    assert main(["verify", str(output)]) == 0


@pytest.mark.parametrize("command", [["enhance"], None, 7])
def test_a_command_that_is_none_is_one_sentence(output, capsys, command):
    described = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(described | {"command": command}))
    assert main(["verify", str(output)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.jobs
def test_repair_enhances_them_once_more(output, here, tmp_path):
    first = (output / "images/000/00001.jpg").read_bytes()
    (output / "images/000/00001.jpg").unlink()
    (output / "images/000/00030.jpg").write_bytes(b"tampered with")
    assert here("verify", output, "--repair").returncode == 3  # one input is still no image
    assert (output / "images/000/00001.jpg").read_bytes() == first, "with the settings of the run"
    assert_complete(tmp_path / "in", output, failed=1)
    assert here("verify", output).returncode == 0


@pytest.mark.parametrize("missing", ["run.json", "_SUCCESS"])
def test_what_cannot_be_verified_is_one_sentence(output, capsys, missing):
    (output / missing).unlink()
    assert main(["verify", str(output)]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_settings_that_are_not_known_are_one_sentence(output, capsys):
    (output / "images/000/00001.jpg").unlink()
    described = json.loads((output / "run.json").read_text())
    described["settings"]["s3"] = {"bucket": 1}
    (output / "run.json").write_text(json.dumps(described))
    assert main(["verify", str(output), "--repair"]) == 2
    assert "does not hold the settings" in capsys.readouterr().err


@pytest.fixture
def rides(tmp_path):
    """A finished run over two videos, and a file that is none."""
    source = tmp_path / "rides"
    source.mkdir()
    for name in ("a.mp4", "b.mkv"):
        write_clip(source / name, static(12), sound=False)
    (source / "broken.mp4").write_bytes(b"no video")
    work(settings_for(source, tmp_path / "out", segment_seconds=0.2))
    return tmp_path / "out"


@pytest.mark.parametrize("whole_bytes", [run.WHOLE_BYTES, 0])
def test_videos_are_hashed_too(rides, capsys, monkeypatch, whole_bytes):
    monkeypatch.setattr(run, "WHOLE_BYTES", whole_bytes)
    assert main(["verify", str(rides)]) == 0
    assert "2 files checked, 0 are not what their rows say." in capsys.readouterr().out
    (rides / "videos/a.mp4").unlink()
    with (rides / "videos/b.mkv").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"x")
    (rides / "videos/stray.tar").write_bytes(b"x")
    assert main(["verify", str(rides)]) == 3
    out = capsys.readouterr().out
    assert "1 missing: a.mp4" in out
    assert "1 changed: b.mkv" in out
    assert "1 file in videos/ that no row knows: videos/stray.tar" in out


def test_rows_of_videos_that_are_gone_are_told_and_made_again(rides, here):
    (rides / "commits/part-00001.parquet").unlink()
    found = here("verify", rides)
    assert found.returncode == 3
    assert "1 table of rows gone or damaged: commits/part-00001.parquet" in found.stdout
    assert here("verify", rides, "--repair").returncode == 3  # one input is still no video
    assert [row["status"] for row in rows(rides)] == ["ok", "ok", "failed"]
    assert here("verify", rides).returncode == 0


def test_repair_makes_videos_once_more(rides, here, tmp_path, monkeypatch):
    first = rows(rides)
    (rides / "videos/a.mp4").unlink()
    monkeypatch.chdir("/")
    assert here("verify", rides, "--repair").returncode == 3  # one input is still no video
    again = rows(rides)
    assert [row["status"] for row in again] == ["ok", "ok", "failed"]
    assert again[0]["sha256_out"] == first[0]["sha256_out"]
    assert here("verify", rides).returncode == 0


@pytest.mark.parametrize("is_there", [True, False])
def test_a_single_video_is_verified_and_repaired(here, tmp_path, is_there):
    source = write_clip(tmp_path / "in.mp4", static(12), sound=False)
    target = tmp_path / "bright.mp4"
    work(settings_for(source, target))
    data = target.read_bytes()
    assert here("verify", target).returncode == 0
    if is_there:
        target.write_bytes(data[:-1])
    else:
        target.unlink()
    found = here("verify", target)
    assert found.returncode == 3
    assert f"1 {'changed' if is_there else 'missing'}: in.mp4" in found.stdout
    assert here("verify", target, "--repair").returncode == 0
    assert target.read_bytes() == data


@pytest.mark.jobs
def test_what_no_verify_knows_is_one_sentence(tmp_path, capsys):
    make_corpus(tmp_path / "in", 2)
    assert main(["evaluate", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--metrics", "brightness"]) == 0
    capsys.readouterr()
    assert main(["verify", str(tmp_path / "out")]) == 2
    assert "belongs to a run of sgllie evaluate" in capsys.readouterr().err
