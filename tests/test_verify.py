"""`sgllie verify`: outputs that were deleted or changed since they were written."""

import json

import pytest

from jobs import assert_complete, make_corpus
from sgllie.cli import main
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess, run_job


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
    run = json.loads((output / "run.json").read_text())
    del run["settings"]["input"]
    (output / "run.json").write_text(json.dumps(run))
    assert main(["verify", str(output), "--repair"]) == 2
    assert "does not hold the settings" in capsys.readouterr().err
