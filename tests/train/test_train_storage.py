"""A storage that is gone ends a training with a sentence; photographs are blamed only for what is theirs."""

import io
import pickle
import sys
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import ray
from PIL import Image
from ray.exceptions import NodeDiedError, OutOfMemoryError, WorkerCrashedError

from sgllie.distributed import ingest, inspection, train
from sgllie.distributed.board import Board, ends_training
from sgllie.distributed.cluster import get
from sgllie.distributed.ingest import TrainingData, blocks
from sgllie.distributed.inspection import fits, inspect_all
from sgllie.errors import CollapseError, ReadError, StorageError, UnreachableError, UsageError
from sgllie.storage import Entry, S3Options, open_storage, s3
from sgllie.train import photographs
from sgllie.train.run import RunFolder
from sgllie.train.sampling import sample, steps_per_epoch
from sgllie.train.settings import TrainSettings

pytestmark = pytest.mark.jobs

ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers do not find the tests

GONE = UnreachableError("s3://bucket/data: the credentials have expired")


def photograph(seed: int = 0) -> bytes:
    """A small PNG."""
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(file, "png")
    return file.getvalue()


@dataclass
class Shelf:
    """Photographs in memory, some of which raise."""

    files: dict[str, bytes | Exception] = field(default_factory=lambda: {f"{n}.png": photograph(n) for n in range(6)})
    uri: str = "s3://bucket/data"

    def read(self, path: str) -> bytes:
        content = self.files.get(path, FileNotFoundError(path))
        if isinstance(content, Exception):
            raise content
        return content

    def list(self) -> "list[Entry]":
        """What a listing tells, so that nothing need be asked for each."""
        return [Entry(path, None, None) for path in self.files]

    def but(self, **changes: bytes | Exception) -> "Shelf":
        """The same with other content: `but(_3=...)` for 3.png."""
        return replace(self, files=self.files | {f"{name[1:]}.png": content for name, content in changes.items()})


SHELF = Shelf()
SETTINGS = TrainSettings("in", "run", batch_size=2, images=replace(TrainSettings("in", "run").images, size=32))


def training_data(storage: Shelf, kept: list | None = None) -> TrainingData:
    """Of the photographs of SHELF, as an earlier inspection found them."""
    rows, _ = photographs.inspect(SHELF, SHELF.list(), 32)
    chosen = sample(rows, SETTINGS)
    steps = steps_per_epoch(chosen, SETTINGS)
    digests = pa.array([bytes.fromhex(row.digest) for row in rows])
    return TrainingData(
        *(storage, pa.array(list(SHELF.files)), digests, kept, chosen, SETTINGS, steps),
        *(RunFolder(SETTINGS), Board.remote()),
    )


@pytest.mark.parametrize("which", ["_0", "_5"])
def test_an_inspection_of_a_storage_that_is_gone_ends_the_training(ray_session, which):
    with pytest.raises(UnreachableError) as raised:
        inspect_all(SHELF.but(**{which: GONE}), SHELF.list(), 32, True)
    assert str(raised.value) == str(GONE), "no account of Ray's"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (ReadError("Permission denied"), "the photograph cannot be read: Permission denied"),
        (FileNotFoundError("3.png"), "the photograph was listed but is not there now"),
        (b"", "empty"),
        (photograph()[:200], "ends before"),
    ],
)
def test_an_inspection_blames_one_photograph_for_what_is_its_own(ray_session, content, sentence):
    rows, pixels = inspect_all(SHELF.but(_3=content), SHELF.list(), 32, True)
    assert sentence in rows[3].error
    assert [bool(row.error) for row in rows] == [False, False, False, True, False, False]
    assert [one is None for one in ray.get(pixels)] == [False, False, False, True, False, False]


@pytest.mark.parametrize(
    ("deaths", "is_blamed"),
    [
        ([NodeDiedError("gone")] * 3, False),
        ([WorkerCrashedError()], False),
        ([NodeDiedError("gone"), OutOfMemoryError("full"), NodeDiedError("gone")], False),
        # A photograph that ends its process each time is all alone at last.
        ([WorkerCrashedError()] * 2 + [NodeDiedError("gone")] + [WorkerCrashedError()] * 2, True),
        ([WorkerCrashedError()] * 2 + [NodeDiedError("gone"), OutOfMemoryError("full"), NodeDiedError("gone")], False),
    ],
    ids=lambda value: "-".join(type(one).__name__ for one in value) if isinstance(value, list) else str(value),
)
def test_a_machine_that_is_lost_makes_no_photograph_unusable(monkeypatch, deaths, is_blamed):
    """The tasks are pretended: they do what they do, but first as many as there are deaths come to nothing."""
    left = list(deaths)

    def begin(storage, listed, size, keep, crashers=frozenset()):
        rows, pixels = photographs.inspect(storage, listed, size, crashers)
        return [left.pop(0) if left else rows, *(pixels if keep else [])]

    def get(found):
        if isinstance(found, Exception):
            raise found
        return found

    monkeypatch.setattr(inspection, "begin", begin)
    monkeypatch.setattr(inspection, "get", get)
    rows, pixels = inspect_all(SHELF, SHELF.list(), 32, True)
    blamed = [row.path for row in rows if row.error == "decoding it killed its process"]
    assert blamed == (["0.png"] if is_blamed else [])
    assert [one is None for one in pixels] == [is_blamed, *[False] * 5]
    assert not left


def test_each_photograph_that_is_kept_is_an_object_of_its_own(ray_session):
    """Of which another machine fetches those that it needs, and those only."""
    rows, pixels = inspect_all(SHELF, SHELF.list(), 256, True)
    assert len(set(pixels)) == len(rows) == len(SHELF.files)
    assert ray.get(pixels[3]).shape == (256, 256, 3)
    assert inspect_all(SHELF, SHELF.list(), 256, False) == (rows, [])


def test_photographs_are_kept_where_the_smallest_node_has_room_for_all():
    size = 512
    photograph_bytes = 3 * size**2
    nodes = [{"object_store_memory": 100 * photograph_bytes}, {"object_store_memory": 20 * photograph_bytes}]
    assert fits(9, size, nodes)
    assert not fits(11, size, nodes)
    assert fits(11, size, nodes[:1])
    assert not fits(1, size, [*nodes, {"CPU": 1}])
    assert not fits(1, size, [])


@pytest.mark.parametrize(
    ("change", "error", "sentence"),
    [
        (GONE, UnreachableError, "the credentials have expired"),
        (StorageError("this machine cannot go on: disk full"), StorageError, "disk full"),
        (ReadError("Permission denied"), ReadError, "3.png of s3://bucket/data could be used .* Permission denied"),
        (FileNotFoundError("3.png"), ReadError, "3.png of s3://bucket/data could be used .* is not there now"),
        (b"no image any more", ReadError, "3.png of s3://bucket/data could be used when the training began, but"),
        (photograph(99), ReadError, "3.png of s3://bucket/data could be used when the training began, but .*replaced"),
    ],
)
def test_what_was_usable_and_cannot_be_loaded_any_more_ends_the_training(ray_session, change, error, sentence):
    known = training_data(SHELF.but(_3=change))
    assert known.read(2, 32).shape == (32, 32, 3)
    with pytest.raises(error, match=sentence):
        known.read(3, 32)


def test_a_loading_task_says_why_the_training_must_end(ray_session):
    known = training_data(SHELF.but(**{f"_{number}": GONE for number in range(6)}))
    source = ray.put(known)
    with pytest.raises(UnreachableError):
        list(blocks(source, range(2), known.steps_per_epoch, 0, 1))
    reason = ray.get(known.board.ending.remote())
    assert reason == f"{GONE}. The same command goes on from the last finished epoch."


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (CollapseError("the loss is not finite"), "the training has collapsed: the loss is not finite."),
        (UsageError("the weights are gone"), "the weights are gone. The same command goes on from the last finished"),
        (StorageError("RUN cannot be written."), "RUN cannot be written. The same command"),
    ],
)
def test_the_first_error_of_ours_is_the_reason(ray_session, error, reason):
    board = Board.remote()
    for raised in (error, GONE):
        with pytest.raises(type(raised)), ends_training(board):
            raise raised
    assert ray.get(board.ending.remote()).startswith(reason)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (GONE, f"Stopped: {GONE}. The same command goes on from the last finished epoch.\n"),
        (ray.exceptions.RaySystemError("the head is gone."), "Stopped: the cluster gave up: System error: the head is"),
    ],
)
def test_what_the_driver_meets_is_told_in_a_line(here, monkeypatch, tmp_path, error, sentence):
    def raises(*_: object) -> None:
        raise error

    monkeypatch.setattr(train, "open_corpus", raises)
    Path(tmp_path / "a.png").write_bytes(photograph())
    result = here("train", tmp_path, tmp_path / "run")
    assert (result.returncode, result.stderr) == (1, "")
    assert result.stdout.startswith(sentence)
    assert result.stdout.count("\n") == 1


def test_a_storage_that_is_gone_after_it_was_listed(here, monkeypatch, tmp_path):
    """No photograph is named as one that cannot be used, and no run is begun."""
    gone = Shelf({f"{number}.png": GONE for number in range(6)})
    monkeypatch.setattr(train, "list_photographs", lambda _: (gone, gone.list()))
    result = here("train", "s3://bucket/data", tmp_path / "run")
    assert result.returncode == 1
    assert result.stdout == f"Stopped: {GONE}. The same command goes on from the last finished epoch.\n"
    assert not (tmp_path / "run/run.json").exists()


def test_a_storage_that_cannot_be_listed_is_wrong_usage(here, tmp_path):
    address = ["--s3.endpoint-url", "http://127.0.0.1:9", "--s3.region", "us-east-1", "--s3.anonymous"]
    result = here("train", "s3://bucket/data", tmp_path / "run", *address)
    assert result.returncode == 2
    assert "s3://bucket/data cannot be listed" in result.stderr
    assert not (tmp_path / "run").exists()


def test_a_storage_that_the_driver_has_reached_is_given_time_by_all_processes(monkeypatch):
    """A server that is started again answers after some seconds, and new processes start at any time."""
    pauses = []
    monkeypatch.setattr(s3, "time", SimpleNamespace(sleep=pauses.append, monotonic=time.monotonic))
    storage = open_storage("s3://bucket/data", S3Options("http://127.0.0.1:9", region="us-east-1", anonymous=True))
    waited = []
    for each in (storage, pickle.loads(pickle.dumps(storage))):
        with pytest.raises(UnreachableError):
            each.read("a.png")
        waited.append(sum(pauses))
        pauses.clear()
    assert waited[0] < 5
    assert waited[1] > 20


def test_a_bug_is_no_reason_to_end(ray_session):
    """Ray Train tries again, as often as it may."""
    board = Board.remote()
    with pytest.raises(ZeroDivisionError), ends_training(board):
        raise ZeroDivisionError
    assert ray.get(board.ending.remote()) is None


def test_photographs_that_were_lost_with_their_machine_are_read_again(monkeypatch, ray_session):
    """`test_train_nodes` loses a real one."""

    def lost(reference: object) -> None:
        raise ray.exceptions.ObjectReconstructionFailedError(reference, "", None)

    monkeypatch.setattr(ingest, "get", lost)
    kept = ["a reference"] * len(SHELF.files)
    np.testing.assert_array_equal(training_data(SHELF, kept).photograph(3), SHELF_PIXELS[3])
    with pytest.raises(UnreachableError):
        training_data(SHELF.but(_3=GONE), kept).photograph(3)


def test_failures_count_since_the_last_finished_epoch():
    epochs = iter([2, 2, 2, 3, 3])
    failures = train.Failures(lambda: next(epochs))
    assert [failures.one_more() for _ in range(4)] == [1, 2, 1, 2]


SHELF_PIXELS = photographs.inspect(SHELF, SHELF.list(), 32)[1]


@ray.remote
def fails(error: Exception) -> None:
    """Raise in another process."""
    raise error


@pytest.mark.parametrize("error", [GONE, CollapseError("it has"), ReadError("x")])
def test_an_error_of_ours_comes_back_from_a_task_as_it_was(ray_session, error):
    with pytest.raises(type(error)) as raised:
        get(fails.remote(error))
    assert (type(raised.value), str(raised.value)) == (type(error), str(error))
    with pytest.raises(ray.exceptions.RayTaskError):
        get(fails.remote(ZeroDivisionError()))
