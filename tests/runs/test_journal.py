"""What is known of a shard whose workers die."""

import json
import threading
import time

import pytest

from sgllie.errors import DeviceError, LeavingError, ReplacedError, StorageError, StuckError, UnreachableError
from sgllie.runs import journal as journals
from sgllie.runs.journal import Journal
from sgllie.runs.run_file import Identity, identity_of
from sgllie.runs.schemas import STATS_SCHEMA
from sgllie.runs.segments import Segments
from sgllie.storage import LocalStorage, open_storage

RUN = Identity("a" * 32)


@pytest.fixture
def output(tmp_path):
    """The output of a run."""
    storage = open_storage(str(tmp_path))
    storage.write("run.json", json.dumps({"id": RUN.id}).encode())
    assert identity_of(storage) == RUN
    return storage


def test_one_finished_image_is_progress(output):
    """Only attempts that finish nothing speak against the images; the worker may have been killed for other reasons."""
    for attempt in range(1, 5):
        journal = Journal(output, 7, STATS_SCHEMA, RUN)
        assert (journal.attempt, journal.deaths_without_progress) == (attempt, attempt - 1)
    journal.add({"path": "a.jpg"})
    journal = Journal(output, 7, STATS_SCHEMA, RUN)
    assert (journal.attempt, journal.deaths, journal.deaths_without_progress) == (5, 4, 0)
    assert [row["path"] for row in journal.rows] == ["a.jpg"]
    journal.remove()
    assert (Journal(output, 7, STATS_SCHEMA, RUN).attempt, Journal(output, 8, STATS_SCHEMA, RUN).attempt) == (1, 1)


@pytest.mark.parametrize(
    ("error", "is_blamed"),
    [
        (UnreachableError("the bucket is gone"), False),
        (RuntimeError("can't start new thread"), False),
        (LeavingError(), False),
        (DeviceError("CUDA error"), True),
        (StuckError("a.jpg"), True),
    ],
)
@pytest.mark.parametrize("kind", [Journal, Segments])
def test_an_attempt_that_could_not_go_on_speaks_against_no_image(output, kind, error, is_blamed):
    """Five commands that could not reach the bucket had the sixth blame all images of the shard."""
    for _ in range(5):
        with pytest.raises(type(error)), kind(output, 7, STATS_SCHEMA, RUN).attempted():
            raise error
    assert kind(output, 7, STATS_SCHEMA, RUN).deaths == 5 * is_blamed


@pytest.mark.parametrize("next_run", [{"id": "b" * 32}, {"id": RUN.id, "updated": "now"}])
@pytest.mark.parametrize("error", [ReplacedError("another command has begun"), LeavingError()])
@pytest.mark.parametrize("kind", [Journal, Segments])
def test_a_worker_whose_run_was_replaced_saves_nothing(output, kind, error, next_run):
    """Neither the one that learns it, nor those that are told to leave for that."""
    journal = kind(output, 7, STATS_SCHEMA, RUN)
    if isinstance(journal, Segments):
        journal.add_block(b"bytes", [{"path": "a.jpg"}])
    else:
        journal.add({"path": "a.jpg"})
    output.write("run.json", json.dumps(next_run).encode())
    with pytest.raises(type(error)), journal.attempted():
        raise error
    assert [entry.path.rpartition("/")[2] for entry in output.list(".partial")] == ["attempt-1"]


@pytest.mark.parametrize("kind", [Journal, Segments])
def test_what_late_workers_of_an_earlier_run_save_is_not_taken_over(output, kind):
    late = Segments(output, 7, STATS_SCHEMA, RUN)
    late.add_block(b"bytes", [{"path": "a.jpg"}])
    late.flush()
    journal = kind(output, 7, STATS_SCHEMA, Identity("b" * 32))
    assert (journal.attempt, journal.rows, getattr(journal, "end", 0)) == (1, [], 0)


def test_an_output_that_is_out_of_reach_is_not_waited_for_again(output, monkeypatch):
    """Its patience may be an hour, and twice as long for the rows and the last word."""
    journal = Journal(output, 7, STATS_SCHEMA, RUN)
    journal.add({"path": "a.jpg"})
    is_over = threading.Event()
    monkeypatch.setattr(LocalStorage, "write", lambda *_: is_over.wait(3))
    monkeypatch.setattr(journals, "LEAVE_SECONDS", 0.1, raising=False)
    began = time.monotonic()
    with pytest.raises(UnreachableError), journal.attempted():
        raise UnreachableError("the bucket is gone")
    assert time.monotonic() - began < 2
    is_over.set()


def test_an_output_that_is_gone_is_told_by_the_first_error(output, monkeypatch):
    journal = Journal(output, 7, STATS_SCHEMA, RUN)
    journal.add({"path": "a.jpg"})

    def full(self, path, data):
        raise StorageError("also gone")

    monkeypatch.setattr(LocalStorage, "write", full)
    with pytest.raises(StorageError, match="the disk is full"), journal.attempted():
        raise StorageError("the disk is full")


def test_another_worker_commits_the_shard_meanwhile(output, monkeypatch):
    """It was taken for dead; what it removes while its journal is read is only done again."""
    journal = Journal(output, 7, STATS_SCHEMA, RUN)
    for name in ("a.jpg", "b.jpg"):
        journal.add({"path": name})
        journal.flush()
    read = LocalStorage.read

    def read_and_remove(self, path):
        data = read(self, path)
        journal.remove()
        return data

    monkeypatch.setattr(LocalStorage, "read", read_and_remove)
    assert [row["path"] for row in Journal(output, 7, STATS_SCHEMA, RUN).rows] == ["a.jpg"]


def test_rows_that_cannot_be_read_any_more_were_progress_all_the_same(output, tmp_path):
    for _ in range(2):
        journal = Journal(output, 7, STATS_SCHEMA, RUN)
        journal.add({"path": "a.jpg"})
        journal.flush()
    for path in tmp_path.rglob("*.parquet"):
        path.write_bytes(b"half a table")
    journal = Journal(output, 7, STATS_SCHEMA, RUN)
    assert (journal.rows, journal.deaths, journal.deaths_without_progress) == ([], 2, 0)


@pytest.mark.parametrize("damage", ["cut", "gone", "a folder"])
def test_a_part_of_a_file_that_is_not_whole_is_not_done(output, tmp_path, damage):
    segments = Segments(output, 7, STATS_SCHEMA, RUN)
    for name in ("a", "b", "c"):
        segments.add_block(b"bytes of " + name.encode(), [{"path": name}])
        segments.flush()
    part = next(tmp_path.rglob("data-1-1-*"))
    data = part.read_bytes()
    part.unlink()
    if damage == "cut":
        part.write_bytes(data[:3])
    elif damage == "a folder":
        part.mkdir()
    segments = Segments(output, 7, STATS_SCHEMA, RUN)
    assert (segments.end, [row["path"] for row in segments.all_rows()]) == (1, ["a"])
    assert b"".join(segments.data()) == b"bytes of a"


def test_two_workers_at_once_take_different_numbers(output, monkeypatch):
    """Otherwise the bytes of one and the rows of the other could be taken for one part of a file."""
    first = Journal(output, 7, STATS_SCHEMA, RUN)
    monkeypatch.setattr(Journal, "_take_over", lambda _: (1, 0, 0))  # listed before the first one was begun
    assert (first.attempt, Journal(output, 7, STATS_SCHEMA, RUN).attempt) == (1, 2)


def test_what_an_attempt_has_spent_is_known_to_the_next_one(output):
    first = Journal(output, 7, STATS_SCHEMA, RUN)
    for name in ("a.jpg", "b.jpg"):
        first.add({"path": name})
        first.flush()
    second = Segments(output, 7, STATS_SCHEMA, RUN)
    assert second.spent == first.spent != {}
    second.add_block(b"", [{"path": "c.jpg"}])
    second.flush()
    assert Journal(output, 7, STATS_SCHEMA, RUN).spent == pytest.approx(second.spent)
    assert second.spent["core_seconds"] > first.spent["core_seconds"] > 0
