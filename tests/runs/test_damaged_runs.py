"""Outputs that a full disk, a power cut or a stray program have damaged: what cannot be read is not done."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from clips import static, write_clip
from commands import assert_complete, journal_of, make_corpus, rows_of
from sgllie.cli import main
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import DamagedError, UsageError
from sgllie.report import ReportSettings, write_report
from sgllie.runs.commits import commit_tables
from sgllie.runs.job import InProcess, run_job
from sgllie.runs.schemas import SCHEMA_VERSION, STATS_SCHEMA
from sgllie.storage import open_storage
from sgllie.storage.parquet import from_parquet, to_parquet
from sgllie.video.run import prepare as prepare_videos
from video_jobs import pipeline_of, settings_for, work

pytestmark = pytest.mark.jobs


@pytest.fixture
def settings(tmp_path):
    """A job over 40 images in two shards."""
    return EnhanceSettings(str(make_corpus(tmp_path / "in", 40)), str(tmp_path / "out"), device="cpu", shard_images=20)


@pytest.fixture
def output(settings, tmp_path):
    """Its finished output."""
    assert run_job(prepare, settings, InProcess()) == 0
    return tmp_path / "out"


def resume(settings, capsys):
    """Exit code and words of the same command."""
    capsys.readouterr()
    return run_job(prepare, settings, InProcess()), capsys.readouterr().out


@pytest.mark.parametrize("content", [b"PAR1", b"PAR1" + b"x" * 5000, b"no table at all"])
def test_a_table_of_statistics_that_is_damaged_is_not_done(settings, output, tmp_path, capsys, content):
    (output / "commits/part-00001.parquet").write_bytes(content)
    code, words = resume(settings, capsys)
    assert code == 0
    assert "1 file damaged, whose shards are done again: commits/part-00001.parquet" in words
    assert_complete(tmp_path / "in", output)


def test_rows_that_are_damaged_before_the_end_of_their_table_are_not_done(settings, output, tmp_path, capsys):
    path = output / "commits/part-00001.parquet"
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)
    code, words = resume(settings, capsys)
    assert code == 1
    assert "part-00001.parquet is damaged" in words
    assert "the same command does its shard again" in words
    assert resume(settings, capsys)[0] == 0
    assert_complete(tmp_path / "in", output)


def test_an_empty_table_is_not_done(settings, output, tmp_path, capsys):
    (output / "commits/part-00000.parquet").write_bytes(b"")
    (output / "commits/part-notes.parquet").write_bytes(b"of somebody else")
    assert resume(settings, capsys)[0] == 0
    (output / "commits/part-notes.parquet").unlink()
    assert_complete(tmp_path / "in", output)


@pytest.mark.jobs
def test_rows_of_a_journal_that_are_damaged_are_done_again(settings, output, tmp_path, capsys):
    (output / "commits/part-00001.parquet").unlink()
    (output / "_SUCCESS").unlink()
    journal = journal_of(output, 1)
    journal.mkdir(parents=True)
    for name in ("attempt-1", "rows-1-0.parquet", "attempt-x", ".nfs000001", "rows-1.parquet~"):
        (journal / name).write_bytes(b"half a table")
    assert resume(settings, capsys)[0] == 0
    assert_complete(tmp_path / "in", output)


def claim(output, shard, without=()):
    """Make a finished run one whose shard has only a journal left, which says that all but some of it is done."""
    commit = output / f"commits/part-{shard:05d}.parquet"
    journal = journal_of(output, shard)
    journal.mkdir(parents=True)
    table = from_parquet(commit.read_bytes()).replace_schema_metadata(None)
    rows = [row for row in table.to_pylist() if row["path"] not in without]
    (journal / "rows-1-0.parquet").write_bytes(to_parquet(pa.Table.from_pylist(rows, table.schema)))
    (journal / "attempt-1").touch()
    commit.unlink()
    (output / "_SUCCESS").unlink()
    return journal


def test_rows_of_a_journal_whose_outputs_are_gone_or_cut_are_done_again(settings, output, tmp_path, capsys):
    claim(output, 1, without=["000/00025.jpg"])
    (output / "images/000/00023.jpg").unlink()
    (output / "images/000/00024.jpg").write_bytes(b"")
    assert resume(settings, capsys)[0] == 0
    rows = assert_complete(tmp_path / "in", output)
    assert {row["path"] for row in rows if row["attempt"] == 2} == {f"000/{n:05d}.jpg" for n in (23, 24, 25)}


def test_files_that_were_carried_and_are_gone_are_carried_again(settings, tmp_path, capsys):
    for number in range(3):
        (tmp_path / f"in/000/{number:05d}.txt").write_text("a label")
    output = tmp_path / "out"
    settings = replace(settings, others="copy")
    assert run_job(prepare, settings, InProcess()) == 0
    claim(output, 1)
    journal = journal_of(output, 2)
    journal.mkdir(parents=True)
    (output / "others/part-00002.parquet").rename(journal / "rows-1-0.parquet")
    (output / "images/000/00001.txt").unlink()
    assert resume(settings, capsys)[0] == 0
    assert (output / "images/000/00001.txt").read_text() == "a label"


def test_rows_that_two_attempts_or_another_run_left_count_once_or_not_at_all(settings, output, tmp_path, capsys):
    """A worker that was stopped goes on beside the one that took its shard over."""
    journal = claim(output, 1)
    shutil.copy(journal / "rows-1-0.parquet", journal / "rows-2-0.parquet")
    other = pa.Table.from_pylist([row | {"path": "of/another.jpg"} for row in rows_of(output)], STATS_SCHEMA)
    (journal / "rows-3-0.parquet").write_bytes(to_parquet(other))
    assert resume(settings, capsys)[0] == 0
    assert_complete(tmp_path / "in", output)


@pytest.mark.parametrize("name", ["attempt-99999999999", "rows-32767-0.parquet"])
def test_a_number_that_no_attempt_has_is_not_counted_on(settings, output, tmp_path, capsys, name):
    journal = claim(output, 1, without=["000/00025.jpg"])
    (journal / name).touch()
    assert resume(settings, capsys)[0] == 0
    assert_complete(tmp_path / "in", output)


def test_the_journals_of_a_run_that_was_removed_are_not_those_of_the_next(settings, output, tmp_path, capsys):
    """As `rm -r OUT/*` does, which leaves what begins with a dot."""
    claim(output, 1)
    for path in output.glob("[!.]*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert resume(replace(settings, quality=50), capsys)[0] == 0
    assert {row["attempt"] for row in assert_complete(tmp_path / "in", output)} == {1}


@pytest.mark.parametrize("path", ["manifest/list.csv", "manifest/part-1.txt", ".partial/notes.txt", ".partial/x/a.jpg"])
def test_files_of_others_in_folders_of_our_names_are_not_removed(settings, tmp_path, path):
    theirs = tmp_path / "out" / path
    theirs.parent.mkdir(parents=True)
    theirs.write_text("precious")
    with pytest.raises(UsageError, match=f"holds other files .{path}.; choose an empty folder"):
        prepare(settings)
    assert theirs.read_text() == "precious"


def test_what_a_killed_command_left_is_not_in_the_way(settings, tmp_path):
    for path in ("manifest/part-00000.parquet", f".partial/{'a' * 32}", ".partial/shard-00000-1f0c9a3e/attempt-1"):
        left = tmp_path / "out" / path
        left.parent.mkdir(parents=True, exist_ok=True)
        left.write_text("half")
    assert run_job(prepare, settings, InProcess()) == 0
    assert_complete(tmp_path / "in", tmp_path / "out")


def test_a_manifest_that_is_damaged_is_one_sentence(settings, output, capsys):
    (output / "commits/part-00001.parquet").unlink()
    (output / "manifest/part-00001.parquet").write_bytes(b"half a table")
    code, words = resume(settings, capsys)
    assert code == 1
    assert "manifest/part-00001.parquet is damaged" in words
    assert "; --overwrite begins anew" in words


def test_a_manifest_that_has_lost_rows_is_one_sentence_each_time(settings, output, capsys):
    manifest = output / "manifest/part-00001.parquet"
    (output / "commits/part-00001.parquet").unlink()
    (output / "_SUCCESS").unlink()
    manifest.write_bytes(to_parquet(from_parquet(manifest.read_bytes()).slice(1)))
    for _ in range(2):
        code, words = resume(settings, capsys)
        assert code == 1
        assert "manifest/part-00001.parquet lacks rows that were listed; --overwrite begins anew" in words


@pytest.mark.parametrize("key", ["input", "fingerprints", "output_settings", "shards", "id", "sources"])
@pytest.mark.parametrize("value", [None, 7])
def test_a_run_file_with_a_wrong_key_is_one_sentence(settings, output, key, value):
    run = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(run | {key: value}))
    with pytest.raises(UsageError, match=f"run.json is damaged: '{key}' is missing or of the wrong type"):
        prepare(settings)


@pytest.mark.parametrize(
    ("key", "value"), [("input.digest", 7), ("input.digest", None), ("input.items", "4"), ("shards", [20, "20"])]
)
def test_a_run_file_with_a_wrong_value_within_is_one_sentence(settings, output, key, value):
    run = json.loads((output / "run.json").read_text())
    group, _, name = key.rpartition(".")
    (run[group] if group else run)[name] = value
    (output / "run.json").write_text(json.dumps(run))
    with pytest.raises(UsageError, match=f"run.json is damaged: '{key}' is missing or of the wrong type"):
        prepare(settings)


@pytest.mark.parametrize("roots", [None, {}, {"input": 7}])
def test_a_run_file_without_its_input_is_no_run_to_report(settings, output, roots):
    run = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(run | {"input": run["input"] | {"roots": roots}}))
    with pytest.raises(UsageError, match=r"run\.json is damaged: 'input\.roots"):
        write_report(ReportSettings(str(output)))


@pytest.mark.parametrize("content", ["", "[" * 100_000, '{"a": ', "\0"])
def test_a_run_file_that_is_no_json_is_one_sentence(settings, output, content):
    (output / "run.json").write_text(content)
    with pytest.raises(UsageError, match=r"run\.json"):
        prepare(settings)


def test_an_output_of_another_version_is_refused(settings, output):
    run = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(run | {"schema_version": 1}))
    with pytest.raises(UsageError, match=rf"another version of sgllie \(schema 1 there, {SCHEMA_VERSION} here\)"):
        prepare(settings)


def test_rows_that_cannot_be_read_are_told_by_their_file(output):
    (output / "commits/part-00001.parquet").write_bytes(b"x")
    with pytest.raises(DamagedError, match="part-00001"):
        list(commit_tables(open_storage(str(output))))
    assert len(rows_of(output)) == 40


@pytest.fixture
def rides(tmp_path):
    """The settings of a finished run over two videos in several segments."""
    (tmp_path / "rides").mkdir()
    for name in ("a.mp4", "b.mp4"):
        write_clip(tmp_path / "rides" / name, static(30), sound=False)
    settings = settings_for(tmp_path / "rides", tmp_path / "out", segment_seconds=0.5)
    work(settings)
    return settings


@pytest.mark.parametrize("content", [b"", b"PAR1" + b"x" * 5000, None])
def test_a_video_whose_row_is_damaged_is_made_again(rides, tmp_path, content):
    output = tmp_path / "out"
    before = rows_of(output)
    (output / "commits/part-00001.parquet").unlink()
    if content is not None:
        (output / "commits/part-00001.parquet").write_bytes(content)
    (output / "videos/b.mp4").unlink()
    assert work(rides)["failed"] == 0
    assert [row["sha256_out"] for row in rows_of(output)] == [row["sha256_out"] for row in before]
    assert (output / "videos/b.mp4").exists()


@pytest.mark.parametrize("content", [b"", b"PAR1" + b"x" * 5000])
def test_a_segment_whose_row_is_damaged_is_made_again(rides, tmp_path, content):
    output = tmp_path / "out"
    shutil.rmtree(output)
    run = prepare_videos(rides)
    pipeline_of(run).run(0)  # killed after the first segment
    assert len(run.segments) > 2
    (output / "segments/part-00000.parquet").write_bytes(content)
    assert work(rides)["ok"] == 2


def test_a_segment_whose_pictures_are_gone_is_made_again(rides, tmp_path):
    output = tmp_path / "out"
    shutil.rmtree(output)
    pipeline_of(prepare_videos(rides)).run(0)
    journal = journal_of(output, 0)
    journal.mkdir()
    (output / "segments/part-00000.parquet").rename(journal / "rows-1-0.parquet")
    (output / ".partial/encoded/00000.mp4").unlink()
    assert work(rides)["ok"] == 2


def test_a_folder_of_others_beside_a_single_video_stays(tmp_path):
    write_clip(tmp_path / "a.mp4", static(10), sound=False)
    (tmp_path / ".partial").mkdir()
    (tmp_path / ".partial/theirs").write_text("precious")
    assert work(settings_for(tmp_path / "a.mp4", tmp_path / "b.mp4"))["ok"] == 1
    assert (tmp_path / ".partial/theirs").read_text() == "precious"


@pytest.mark.parametrize("content", [b"", b"no table", b"PAR1" + b"x" * 5000])
def test_a_damaged_list_of_segments_is_one_sentence(rides, tmp_path, content):
    (tmp_path / "out/manifest/segments.parquet").write_bytes(content)
    with pytest.raises(UsageError, match="--overwrite"):
        work(rides)


@pytest.mark.parametrize("content", ["null", "[" * 100_000, '{"images": 40}', ""])
def test_a_report_does_without_a_result_that_is_damaged(output, content):
    (output / "_SUCCESS").write_text(content)
    assert write_report(ReportSettings(str(output))).endswith("report.html")


def test_rows_that_are_gone_are_missed_where_a_run_is_measured(output, capsys):
    (output / "commits/part-00001.parquet").unlink()
    assert main(["evaluate", str(output), "--metrics", "brightness"]) == 2
    error = capsys.readouterr().err
    assert "commits/part-00001.parquet is not there any more; sgllie verify --repair makes it again" in error


@pytest.mark.parametrize("is_finished", [True, False])
def test_a_report_says_what_makes_damaged_rows_again(output, capsys, is_finished):
    (output / "commits/part-00001.parquet").write_bytes(b"PAR1" + b"x" * 5000)
    if not is_finished:
        (output / "_SUCCESS").unlink()
    assert main(["report", str(output)]) == 1
    remedy = "sgllie verify --repair makes it again" if is_finished else "the same command does its shard again"
    assert remedy in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{}", '{"settin', "[]"])
@pytest.mark.parametrize("command", ["report", "verify", "enhance", "overwrite"])
def test_what_can_be_done_about_a_run_file_that_nobody_knows(settings, output, capsys, command, content):
    (output / "run.json").write_text(content)
    line = {"enhance": ["enhance", settings.input, str(output)]}.get(command, [command, str(output)])
    line = ["enhance", settings.input, str(output), "--overwrite"] if command == "overwrite" else line
    assert main(line) == 2
    assert "put it back from a copy, or take another folder" in capsys.readouterr().err
    assert len(list((output / "images").rglob("*.jpg"))) == 40


def test_a_run_file_with_a_wrong_key_is_begun_anew_where_that_is_said(settings, output, tmp_path):
    run = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(run | {"input": 7}))
    with pytest.raises(UsageError, match="put it back from a copy, or take another output, or --overwrite"):
        prepare(settings)
    assert run_job(prepare, replace(settings, overwrite=True), InProcess()) == 0
    assert_complete(tmp_path / "in", output)


def test_a_report_does_not_call_a_run_finished_whose_rows_are_gone(output):
    (output / "commits/part-00001.parquet").unlink()
    page = Path(write_report(ReportSettings(str(output)))).read_text()
    assert "not finished" in page
