"""What is known of a shard whose workers die."""

import pytest

from sgllie.errors import DeviceError, LeavingError, StorageError, StuckError, UnreachableError
from sgllie.runs.journal import Journal
from sgllie.runs.schemas import STATS_SCHEMA
from sgllie.runs.segments import Segments
from sgllie.storage import LocalStorage, open_storage


def test_one_finished_image_is_progress(tmp_path):
    """Only attempts that finish nothing speak against the images; the worker may have been killed for other reasons."""
    output = open_storage(str(tmp_path))
    for attempt in range(1, 5):
        journal = Journal(output, 7, STATS_SCHEMA)
        assert (journal.attempt, journal.deaths_without_progress) == (attempt, attempt - 1)
    journal.add({"path": "a.jpg"})
    journal = Journal(output, 7, STATS_SCHEMA)
    assert (journal.attempt, journal.deaths, journal.deaths_without_progress) == (5, 4, 0)
    assert [row["path"] for row in journal.rows] == ["a.jpg"]
    journal.remove()
    assert (Journal(output, 7, STATS_SCHEMA).attempt, Journal(output, 8, STATS_SCHEMA).attempt) == (1, 1)


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
def test_an_attempt_that_could_not_go_on_speaks_against_no_image(tmp_path, kind, error, is_blamed):
    """Five commands that could not reach the bucket had the sixth blame all images of the shard."""
    output = open_storage(str(tmp_path))
    for _ in range(5):
        with pytest.raises(type(error)), kind(output, 7, STATS_SCHEMA).attempted():
            raise error
    assert kind(output, 7, STATS_SCHEMA).deaths == 5 * is_blamed


def test_an_output_that_is_gone_is_told_by_the_first_error(tmp_path, monkeypatch):
    journal = Journal(open_storage(str(tmp_path)), 7, STATS_SCHEMA)
    journal.add({"path": "a.jpg"})

    def full(self, path, data):
        raise StorageError("also gone")

    monkeypatch.setattr(LocalStorage, "write", full)
    with pytest.raises(StorageError, match="the disk is full"), journal.attempted():
        raise StorageError("the disk is full")


def test_another_worker_commits_the_shard_meanwhile(tmp_path, monkeypatch):
    """It was taken for dead; what it removes while its journal is read is only done again."""
    output = open_storage(str(tmp_path))
    journal = Journal(output, 7, STATS_SCHEMA)
    for name in ("a.jpg", "b.jpg"):
        journal.add({"path": name})
        journal.flush()
    read = LocalStorage.read

    def read_and_remove(self, path):
        data = read(self, path)
        journal.remove()
        return data

    monkeypatch.setattr(LocalStorage, "read", read_and_remove)
    assert [row["path"] for row in Journal(output, 7, STATS_SCHEMA).rows] == ["a.jpg"]


def test_rows_that_cannot_be_read_any_more_were_progress_all_the_same(tmp_path):
    output = open_storage(str(tmp_path))
    for _ in range(2):
        journal = Journal(output, 7, STATS_SCHEMA)
        journal.add({"path": "a.jpg"})
        journal.flush()
    for path in tmp_path.rglob("*.parquet"):
        path.write_bytes(b"half a table")
    journal = Journal(output, 7, STATS_SCHEMA)
    assert (journal.rows, journal.deaths, journal.deaths_without_progress) == ([], 2, 0)


@pytest.mark.parametrize("damage", ["cut", "gone", "a folder"])
def test_a_part_of_a_file_that_is_not_whole_is_not_done(tmp_path, damage):
    segments = Segments(open_storage(str(tmp_path)), 7, STATS_SCHEMA)
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
    segments = Segments(open_storage(str(tmp_path)), 7, STATS_SCHEMA)
    assert (segments.end, [row["path"] for row in segments.all_rows()]) == (1, ["a"])
    assert b"".join(segments.data()) == b"bytes of a"
