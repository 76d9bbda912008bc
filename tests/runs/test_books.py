"""The books of a run: commits with their totals, the large files made of them, and the list of the input."""

import dataclasses
import json

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from commands import assert_complete, make_corpus, rows_of
from sgllie.compare.run import prepare as prepare_compare
from sgllie.compare.settings import CompareSettings
from sgllie.corpus.listing import Listing
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import TALLY
from sgllie.errors import StorageError, UsageError
from sgllie.evaluate.run import prepare as prepare_evaluate
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.runs import compaction
from sgllie.runs.commits import all_totals, write_commit
from sgllie.runs.cost import SPENT
from sgllie.runs.job import InProcess, run_job
from sgllie.runs.schemas import STATS_SCHEMA
from sgllie.runs.totals import add_up
from sgllie.storage import LocalStorage, open_storage

ROWS = st.lists(
    st.builds(
        dict,
        path=st.text("abc", min_size=1),
        status=st.sampled_from(["ok", "copied", "failed"]),
        error_type=st.sampled_from(["empty", "truncated"]),
        bytes_in=st.none() | st.integers(0, 10**6),
        luma_mean_in=st.none() | st.integers(0, 16).map(lambda value: value / 16),
    ),
    max_size=12,
)


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_totals_of_shards_add_up_to_those_of_all_rows(shards):
    rows = [row for shard in shards for row in shard]
    together = add_up(map(TALLY, shards))
    assert {name: value for name, value in together.items() if value} == {
        name: value for name, value in TALLY(rows).items() if value
    }
    good = [row["luma_mean_in"] or 0 for row in rows if row["status"] != "failed"]
    assert together.get("luma_mean_in", 0) == sum(good)
    assert together.get("failed:empty", 0) == sum(
        row["status"] == "failed" and row["error_type"] == "empty" for row in rows
    )


@given(st.lists(st.integers(1, 300_000), min_size=1, max_size=40), st.lists(st.integers(1, 300_000), max_size=5))
def test_every_shard_lies_in_one_large_file_and_stays_there(sizes, more):
    files = list(compaction.stats_files(dict(enumerate(sizes))))
    assert [one for shards in files for one in shards.items()] == list(enumerate(sizes))
    rows = [sum(shards.values()) for shards in files]
    assert all(compaction.FILE_ROWS <= one < compaction.FILE_ROWS + 300_000 for one in rows[:-1])
    assert list(compaction.stats_files(dict(enumerate(sizes + more))))[: len(files) - 1] == files[:-1]


@pytest.fixture
def settings(tmp_path, monkeypatch):
    """A job over 60 images in six shards, two of which make a large file."""
    monkeypatch.setattr(compaction, "FILE_ROWS", 20)
    monkeypatch.setattr(compaction, "GROUP_ROWS", 15)
    return EnhanceSettings(str(make_corpus(tmp_path / "in", 60)), str(tmp_path / "out"), device="cpu", shard_images=10)


@pytest.fixture
def output(settings, tmp_path):
    """The output of that job, with one image that failed."""
    image = tmp_path / "in/000/00025.jpg"
    whole = image.read_bytes()
    image.write_bytes(b"no image")
    assert run_job(prepare, settings, InProcess()) == 3
    image.write_bytes(whole)
    return tmp_path / "out"


def times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_rows_are_in_large_files_and_their_totals_in_success(output, tmp_path):
    rows = assert_complete(tmp_path / "in", output, failed=1)
    assert len(list((output / "commits").iterdir())) == 6
    files = sorted((output / "stats").iterdir())
    assert [pq.read_metadata(file).num_rows for file in files] == [20, 20, 20]
    assert ds.dataset(output / "stats").schema.equals(STATS_SCHEMA)
    success = json.loads((output / "_SUCCESS").read_text())
    assert success["bytes_out"] == sum(row["bytes_out"] or 0 for row in rows)
    assert success["errors"] == {"not_an_image": 1}
    luma = [row["luma_mean_out"] for row in rows if row["status"] == "ok"]
    assert success["luma_mean_out"] == pytest.approx(sum(luma) / len(luma), abs=1e-4)
    found = add_up(all_totals(open_storage(str(output)), range(6)).values())
    counted = {name: value for name, value in found.items() if name not in SPENT}
    assert counted == pytest.approx(TALLY(rows))
    assert found["core_seconds"] > 0


def test_a_retry_replaces_the_large_file_of_its_shard_alone(settings, output, tmp_path):
    before = times(output / "stats")
    assert run_job(prepare, dataclasses.replace(settings, retry_failed=True), InProcess()) == 0
    after = times(output / "stats")
    assert {name for name in before if before[name] != after[name]} == {"part-00001.parquet"}
    assert_complete(tmp_path / "in", output)
    assert run_job(prepare, settings, InProcess()) == 0
    assert times(output / "stats") == after, "a finished run is left as it is"


@pytest.mark.parametrize("data", [None, b"damaged"])
def test_a_retry_finishes_what_was_not_done_too(settings, output, tmp_path, data):
    commit = output / "commits/part-00000.parquet"
    commit.unlink() if data is None else commit.write_bytes(data)
    assert run_job(prepare, dataclasses.replace(settings, retry_failed=True), InProcess()) == 0
    assert_complete(tmp_path / "in", output)


def test_no_row_is_there_twice_wherever_the_end_is_killed(settings, output, tmp_path, monkeypatch):
    """After a retry, and from the beginning; the same command finishes the rest."""
    upload = LocalStorage.upload
    for kept in range(3):
        for path in sorted((output / "stats").iterdir())[kept:]:
            path.unlink()
        uploads = []

        def killed(storage, path, file, uploads=uploads, most=int(kept < 2)):
            if len(uploads) == most:
                raise KeyboardInterrupt
            uploads.append(path)
            upload(storage, path, file)

        with monkeypatch.context() as patch:
            patch.setattr(LocalStorage, "upload", killed)
            job = dataclasses.replace(settings, retry_failed=kept == 2)
            with pytest.raises(KeyboardInterrupt):
                run_job(prepare, job, InProcess())
        paths = [row["path"] for row in rows_of(output)]
        assert len(set(paths)) == len(paths) >= 20
    assert run_job(prepare, dataclasses.replace(settings, retry_failed=True), InProcess()) == 0
    assert_complete(tmp_path / "in", output)


def test_a_late_worker_doubles_no_row(settings, output, tmp_path):
    """One that was taken for dead commits its shard when all is finished."""
    storage = open_storage(str(output))
    rows = [row for row in rows_of(output) if row["shard"] == 4]
    write_commit(storage, 4, rows, STATS_SCHEMA, TALLY)
    assert len({row["path"] for row in rows_of(output)}) == len(rows_of(output)) == 60
    assert run_job(prepare, settings, InProcess()) == 3
    assert_complete(tmp_path / "in", output, failed=1)


def test_a_commit_that_somebody_removes_stops_the_job(settings, output):
    run = prepare(settings)
    (output / "commits/part-00002.parquet").unlink()
    with pytest.raises(StorageError, match=r"commits/part-00002\.parquet is not there any more"):
        compaction.outdated(run.output, run.commit_sizes)


def test_a_shard_that_another_worker_has_done_is_not_done_again(settings, output):
    """As where a worker dies that had finished some of the shards in its hands."""
    before = times(output / "commits")
    run = prepare(settings)
    pipeline = run.make_pipeline(lambda shard, done, failed, group="": None)
    assert pipeline.run(3) == all_totals(run.output, [3])[3]
    assert times(output / "commits") == before


def test_large_files_are_written_by_tasks_of_the_cluster(here, tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "FILE_ROWS", 20)
    source, output = make_corpus(tmp_path / "in", 60), tmp_path / "out"
    result = here("enhance", source, output, "--num-actors", 2, "--shard-images", 10)
    assert (result.returncode, result.stderr) == (0, "")
    assert len(list((output / "stats").iterdir())) == 3
    assert_complete(source, output)
    from sgllie.distributed.pool import run_tasks

    def fail(number):
        raise StorageError(f"{number} is damaged")

    with pytest.raises(StorageError, match=r"^7 is damaged$"):
        run_tasks(fail, [7])


@pytest.mark.parametrize("command", ["enhance", "evaluate", "compare"])
def test_a_run_is_resumed_without_a_look_at_its_input(tmp_path, monkeypatch, command):
    source, output = str(make_corpus(tmp_path / "in", 3)), str(tmp_path / "out")
    (tmp_path / "in/notes.txt").write_text("x")
    prepare_job, settings = {
        "enhance": (prepare, EnhanceSettings(source, output, device="cpu")),
        "evaluate": (prepare_evaluate, EvaluateSettings(images=source, output=output, metrics="brightness")),
        "compare": (prepare_compare, CompareSettings(input=source, output=output, methods="gamma", metrics="contrast")),
    }[command]
    first = prepare_job(settings)

    def listed(_):
        raise AssertionError("it is listed")

    with monkeypatch.context() as patch:
        patch.setattr(Listing, "__iter__", listed)
        again = prepare_job(settings)
        assert (again.plan, again.roots, again.notes) == (first.plan, first.roots, first.notes)
        assert (again.resumed, again.shards) == (True, first.shards)
        with pytest.raises(AssertionError, match="it is listed"):
            prepare_job(dataclasses.replace(settings, check_input=True))
    make_corpus(tmp_path / "in", 4)
    with pytest.raises(UsageError, match=r"the input \(\d+ files then, \d+ now"):
        prepare_job(dataclasses.replace(settings, check_input=True))


def test_another_input_is_listed_and_compared(tmp_path):
    settings = EnhanceSettings(str(make_corpus(tmp_path / "in", 3)), str(tmp_path / "out"), device="cpu")
    prepare(settings)
    (tmp_path / "link").symlink_to(tmp_path / "in")
    assert prepare(dataclasses.replace(settings, input=str(tmp_path / "link"))).resumed
    other = make_corpus(tmp_path / "other", 3, seed=1)
    with pytest.raises(UsageError, match="the input"):
        prepare(dataclasses.replace(settings, input=str(other)))


def test_an_evaluation_of_a_run_that_was_made_anew_is_refused(tmp_path):
    source, run = str(make_corpus(tmp_path / "in", 2)), str(tmp_path / "run")
    enhance = EnhanceSettings(source, run, device="cpu")
    assert run_job(prepare, enhance, InProcess()) == 0
    settings = EvaluateSettings(images=run, metrics="brightness")
    assert run_job(prepare_evaluate, settings, InProcess()) == 0
    assert run_job(prepare, dataclasses.replace(enhance, quality=50, overwrite=True), InProcess()) == 0
    with pytest.raises(UsageError, match="the content of the run"):
        prepare_evaluate(settings)
