"""`sgllie enhance IN OUT --update`: a corpus that grows and changes, and commands that are killed."""

import dataclasses
import hashlib
import json
import random
from collections import Counter

import pytest

from commands import assert_complete, make_corpus, rows_of
from disturbances import kill_after
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.runs import compaction, lock
from sgllie.runs.job import InProcess, run_job

pytestmark = pytest.mark.jobs


@pytest.fixture
def source(tmp_path):
    """Ninety images, of which the first fifty are there at the beginning."""
    make_corpus(tmp_path / "all", 90)
    (tmp_path / "in").mkdir()
    return add(tmp_path, range(50))


@pytest.fixture
def settings(source, tmp_path, monkeypatch):
    """A finished run over them, to be updated."""
    monkeypatch.setattr(compaction, "FILE_ROWS", 25)
    first = EnhanceSettings(str(source), str(tmp_path / "out"), device="cpu", shard_images=10)
    assert run_job(prepare, first, InProcess()) == 0
    return dataclasses.replace(first, update=True)


def add(folder, numbers):
    """Put some images into the input."""
    for number in numbers:
        (folder / f"in/{number:02d}.jpg").write_bytes((folder / f"all/000/{number:05d}.jpg").read_bytes())
    return folder / "in"


def change(folder, number, other):
    """Let an image be another one."""
    (folder / f"in/{number:02d}.jpg").write_bytes((folder / f"all/000/{other:05d}.jpg").read_bytes() + bytes(number))


def assert_current(folder, gone=()):
    """One row for each image that was ever there, of its present content, with its output; and those of the gone."""
    rows = {row["path"]: row for row in rows_of(folder / "out")}
    there = {path.name: path for path in (folder / "in").iterdir()}
    assert Counter(row["path"] for row in rows_of(folder / "out")).most_common(1)[0][1] == 1
    assert rows.keys() == there.keys() | set(gone)
    for name, row in rows.items():
        assert row["status"] == "ok"
        assert hashlib.sha256((folder / "out" / row["output"]).read_bytes()).hexdigest() == row["sha256_out"]
        if name in there:
            assert hashlib.sha256(there[name].read_bytes()).hexdigest() == row["sha256_in"]
    assert json.loads((folder / "out/_SUCCESS").read_text())["images"] == len(rows)


def test_what_is_new_or_changed_is_done_and_nothing_else(settings, tmp_path, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/images").iterdir()}
    add(tmp_path, range(50, 63))
    change(tmp_path, 7, 80)
    (tmp_path / "in/03.jpg").unlink()
    capsys.readouterr()
    assert run_job(prepare, settings, InProcess()) == 0
    words = capsys.readouterr().out
    assert "Since the last listing: 13 new, 1 changed, 1 gone, whose rows are kept." in words
    assert_current(tmp_path, gone=["03.jpg"])
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/images").iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"07.jpg"}
    assert json.loads((tmp_path / "out/run.json").read_text())["input"]["gone"] == 1
    stats = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/stats").iterdir()}
    assert run_job(prepare, settings, InProcess()) == 0
    assert "0 new, 0 changed, 1 gone" in capsys.readouterr().out
    assert stats == {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out/stats").iterdir()}
    plain = dataclasses.replace(settings, update=False, check_input=True)
    assert run_job(prepare, plain, InProcess()) == 0, "the listing is that of the update"


def test_a_changed_image_that_fails_leaves_no_old_output(settings, tmp_path):
    (tmp_path / "in/07.jpg").write_bytes(b"no image any more")
    assert run_job(prepare, settings, InProcess()) == 3
    assert_complete(tmp_path / "in", tmp_path / "out", failed=1)


def test_a_corpus_that_grows_three_times_with_kills(settings, tmp_path, monkeypatch):
    generator = random.Random(3)
    monkeypatch.setattr(lock, "beat", lambda *_: None)
    kills = 0
    for growth in range(3):
        first = 50 + 13 * growth
        add(tmp_path, range(first, first + 13))
        for number in generator.sample(range(4, first), 3):
            change(tmp_path, number, 89 - growth)
        (tmp_path / f"in/{growth:02d}.jpg").unlink()
        gone = [f"{number:02d}.jpg" for number in range(growth + 1)]
        for update, steps in ((True, 20), (True, 20), (False, 30)):
            with monkeypatch.context() as patch:
                kill_after(patch, generator.randrange(steps))
                try:
                    run_job(prepare, dataclasses.replace(settings, update=update), InProcess())
                except KeyboardInterrupt:
                    kills += 1
            for path in (tmp_path / "out").glob(".begin-*"):
                path.unlink()
            paths = [row["path"] for row in rows_of(tmp_path / "out")]
            assert len(paths) == len(set(paths)), "at any moment"
        assert run_job(prepare, settings, InProcess()) == 0
        assert_current(tmp_path, gone)
    assert kills >= 5


def test_two_files_with_one_output_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    make_corpus(tmp_path / "all", 2)
    add(tmp_path, range(2))
    settings = EnhanceSettings(str(tmp_path / "in"), str(tmp_path / "out"), device="cpu", format="jpeg")
    assert run_job(prepare, settings, InProcess()) == 0
    (tmp_path / "in/00.jpg").rename(tmp_path / "in/00.jpeg")
    (tmp_path / "in/00.jpeg").rename(tmp_path / "in/00.png")
    with pytest.raises(UsageError, match=r"'00\.png' is new and would be written to the output of a file that is gone"):
        prepare(dataclasses.replace(settings, update=True))


def test_a_dry_run_counts_and_writes_nothing(settings, tmp_path, capsys):
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}
    add(tmp_path, range(50, 55))
    assert run_job(prepare, dataclasses.replace(settings, dry_run=True), InProcess()) == 0
    assert "5 new, 0 changed, 0 gone" in capsys.readouterr().out
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*")}


@pytest.mark.parametrize("other", ["overwrite", "retry_failed", "check_input"])
def test_what_does_not_go_with_an_update_is_refused(other):
    with pytest.raises(UsageError, match=f"--{other.replace('_', '-')} is on; it must be left out with --update"):
        EnhanceSettings("in", "out", update=True, **{other: True})
