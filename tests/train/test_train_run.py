"""The folder of a training, and the loop that fills it, in one process and without Ray."""

import json
import shutil
from copy import copy
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from sgllie.errors import CollapseError, StorageError, UsageError
from sgllie.network import weights as weights_module
from sgllie.runs.run_file import header
from sgllie.train.loop import TrainingLoop
from sgllie.train.run import OWNER, Checkpoint, RunFolder, begin_or_resume, best_epoch
from sgllie.train.train_step import TrainStep
from trainings import batches, settings


def test_a_run_without_a_finished_epoch_takes_other_settings(tmp_path):
    data = {"photographs": 3, "digest": "a"}
    for epochs in (4, 5):
        wanted = settings(run=str(tmp_path / "run"), epochs=epochs)
        run = RunFolder(wanted)
        assert not begin_or_resume(run, wanted, data)
        assert run.describe()["output_settings"]["epochs"] == epochs


def run_json(**changes) -> str:
    """What run.json of a training says, or would say if it were another's."""
    return json.dumps(header(settings(), ()) | {"data": {}} | changes)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("mine.txt", "mine", "holds other files"),
        ("run.json", '{"outcome": {}}', "was written by something else"),
        ("run.json", "[]", "no JSON object"),
        ("run.json", '{"schema_version": 4, "com', "is no JSON"),
        ("run.json", run_json(schema_version=1), r"\(schema 1 there, 4 here\); use that version, or another folder$"),
        ("run.json", run_json(schema_version=5), "by another version of sgllie"),
        ("run.json", run_json(command="enhance", shards=[1]), "belongs to a run of sgllie enhance; choose another"),
        ("run.json", run_json(data=None), "is damaged: 'data' is missing"),
        ("run.json", run_json(output_settings=[]), "is damaged: 'output_settings' is missing or of the wrong type"),
    ],
)
def test_a_folder_that_is_no_run(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    run = RunFolder(settings(run=str(tmp_path)))
    with pytest.raises(UsageError, match=sentence):
        run.describe() or run.claim(is_new=True)
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff"])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path, file, content):
    run = RunFolder(settings(run=str(tmp_path)))
    run.claim(is_new=True)
    run.save(Checkpoint(1, 4, [{"validation_loss": 0.5}], {"a": np.zeros(2)}), weights_module.load("sgllie"))
    assert run.load().steps == 4
    (tmp_path / "checkpoints/epoch-00001" / file).write_bytes(content)
    with pytest.raises(UsageError, match=r"epoch-00001 is damaged .* begins anew"):
        run.load()


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
def test_one_bit_of_a_checkpoint_that_has_changed_is_told(tmp_path, file):
    run = RunFolder(settings(run=str(tmp_path)))
    run.claim(is_new=True)
    run.save(Checkpoint(1, 4, [{"validation_loss": 0.5}], {"a": np.zeros(2)}), weights_module.load("sgllie"))
    path = tmp_path / "checkpoints/epoch-00001" / file
    data = bytearray(path.read_bytes())
    place = data.index(b'"steps": 4') + 9 if file == "state.json" else len(data) - 3
    data[place] ^= 1
    path.write_bytes(data)
    with pytest.raises(UsageError, match="its bytes are not those that were written"):
        run.load()


def test_folders_of_others_are_no_checkpoints(tmp_path):
    (tmp_path / "checkpoints/epoch-of-mine").mkdir(parents=True)
    (tmp_path / "checkpoints/epoch-of-mine/state.json").write_text("{}")
    assert RunFolder(settings(run=str(tmp_path))).epochs_done() == 0


@pytest.mark.parametrize("content", ["", '{"epochs"', "[]", "{}", '{"epochs": 2}', '{"epochs": 2, "best": [1]}'])
def test_a_damaged_result_is_no_end(tmp_path, content):
    (tmp_path / "_SUCCESS").write_text(content)
    assert RunFolder(settings(run=str(tmp_path))).finished() is None


def test_of_two_commands_that_train_in_one_folder_the_later_goes_on(tmp_path):
    earlier, later = (RunFolder(settings(run=str(tmp_path))) for _ in range(2))
    earlier.claim(is_new=True)
    earlier.check_owner()
    later.claim(is_new=True)
    later.check_owner()
    with pytest.raises(StorageError, match="another command has begun to train in"):
        earlier.save(Checkpoint(1, 4, [], {}), weights_module.load("sgllie"))
    with pytest.raises(StorageError, match="another command has begun to train in"):
        earlier.snapshot(weights_module.load("sgllie"))
    with pytest.raises(StorageError, match="another command has begun to train in"):
        earlier.next_attempt()
    later.check_owner()
    assert [entry.path for entry in later.storage.list()] == [OWNER]


def test_a_process_that_is_left_of_an_earlier_attempt_writes_nothing_and_ends_nothing(tmp_path):
    run = RunFolder(settings(run=str(tmp_path)))
    run.claim(is_new=True)
    left = copy(run)
    run.next_attempt()
    with pytest.raises(RuntimeError, match="a later attempt"):  # no error of ours, which would end the training
        left.save(Checkpoint(1, 4, [{"validation_loss": 0.5}], {}), weights_module.load("sgllie"))
    run.check_owner()
    assert [entry.path for entry in run.storage.list()] == [OWNER]


def test_only_earlier_checkpoints_are_removed(tmp_path):
    run = RunFolder(settings(run=str(tmp_path)))
    history, found = [{"validation_loss": 0.5}] * 2, weights_module.load("sgllie")
    run.save(Checkpoint(1, 4, history[:1], {}), found)
    for name in ("epoch-00001-mine", "mine"):
        shutil.copytree(tmp_path / "checkpoints/epoch-00001", tmp_path / "checkpoints" / name)
    (tmp_path / "checkpoints/notes.txt").write_text("mine")
    run.save(Checkpoint(2, 8, history, {}), found)
    run.save(Checkpoint(1, 4, history[:1], {}), found)  # of a process that was slow
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {"epoch-00001", "epoch-00001-mine", "epoch-00002", "mine", "notes.txt"}
    assert run.load().steps == 8


def test_what_says_that_an_epoch_is_done_outlasts_a_power_cut(tmp_path, monkeypatch):
    run = RunFolder(settings(run=str(tmp_path)))
    done = []
    for name in ("write", "commit", "remove"):
        call = getattr(run.storage, name)
        monkeypatch.setattr(
            run.storage, name, lambda path, *data, name=name, call=call: (done.append((name, path)), call(path, *data))
        )
    history, found = [{"validation_loss": 0.5}] * 2, weights_module.load("sgllie")
    run.save(Checkpoint(1, 4, history[:1], {}), found)
    run.save(Checkpoint(2, 8, history, {}), found)
    run.finish()
    last = "checkpoints/epoch-00002/state.json"
    assert done.index(("commit", last)) < done.index(("remove", "checkpoints/epoch-00001"))
    assert ("commit", "_SUCCESS") in done


def test_a_checkpoint_that_gives_way_to_the_next_while_it_is_read_is_not_damaged(tmp_path, monkeypatch):
    run, other = (RunFolder(settings(run=str(tmp_path))) for _ in range(2))
    history, found = [{"validation_loss": 0.5}] * 2, weights_module.load("sgllie")
    run.save(Checkpoint(1, 4, history[:1], {}), found)
    read = run.storage.read

    def read_late(path: str) -> bytes:
        if path.startswith("checkpoints/epoch-00001"):
            other.save(Checkpoint(2, 8, history, {}), found)
        return read(path)

    monkeypatch.setattr(run.storage, "read", read_late)
    assert run.load().epoch == 2


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "owner"}


@pytest.mark.jobs
def test_who_trains_where_another_command_has_begun_leaves_its_record_alone(tmp_path):
    training = loop(tmp_path)
    training.run.claim(is_new=True)
    rows = training.epochs(iter(batches(16)))
    next(rows)
    record = contents(tmp_path)
    RunFolder(training.settings).claim(is_new=False)
    with pytest.raises(StorageError, match="another command has begun to train in"):
        next(rows)
    assert contents(tmp_path) == record


def loop(folder, epochs: int = 4, **changes) -> TrainingLoop:
    options = replace(settings(epochs=epochs, **changes), run=str(folder))
    return TrainingLoop(TrainStep(options, total_steps=4 * epochs), RunFolder(options), batches(2, seed=9))


@pytest.mark.jobs
def test_an_interrupted_loop_ends_as_an_undisturbed_one(tmp_path):
    data = batches(16)
    rows = list(loop(tmp_path / "whole").epochs(iter(data)))
    half = loop(tmp_path / "halves")
    taken = half.epochs(iter(data))
    next(taken)
    next(taken)
    for batch in data[8:10]:
        half.train_step.step(batch)  # in the middle of the third epoch it is killed
    rest = loop(tmp_path / "halves")
    assert rest.epoch == 2
    list(rest.epochs(iter(data[8:])))
    for name in ("last", "best"):
        one, other = (
            weights_module.load(str(tmp_path / run / f"weights/{name}.safetensors")) for run in ("whole", "halves")
        )
        assert one.fingerprint == other.fingerprint
    for row in (*rows, *rest.history):
        del row["seconds"], row["images_per_second"]
    # NaN (no NIQE of pictures that small) equals itself in text only.
    assert json.dumps(rest.history) == json.dumps(rows)


@pytest.mark.jobs
def test_what_a_loop_leaves_behind(tmp_path):
    list(loop(tmp_path, epochs=2).epochs(iter(batches(8))))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        "checkpoints/epoch-00002/state.json",
        "checkpoints/epoch-00002/state.safetensors",
        "checkpoints/epoch-00002/weights.safetensors",
        "weights/best.safetensors",
        "weights/last.safetensors",
        "metrics.csv",
        "curves.png",
        "samples/epoch-00001.png",
        "samples/epoch-00002.png",
        "events/events.out.tfevents.0000000001.sgllie",
        "events/events.out.tfevents.0000000002.sgllie",
    }
    table = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(table) == 3
    assert {"training_loss", "validation_brightness", "validation_clipped", "validation_niqe"} <= set(
        table[0].split(",")
    )


@pytest.mark.jobs
def test_a_checkpoint_without_its_state_does_not_count(tmp_path):
    first = loop(tmp_path)
    next(first.epochs(iter(batches(4))))
    half_written = tmp_path / "checkpoints/epoch-00002"
    half_written.mkdir()
    (half_written / "state.safetensors").write_bytes(b"cut off")
    assert loop(tmp_path).epoch == 1


@pytest.mark.jobs
@pytest.mark.parametrize("refused", ["metrics.csv", "weights/last.safetensors", "checkpoints/epoch-00002/state.json"])
def test_a_checkpoint_that_cannot_be_written_stops_the_loop_and_leaves_the_one_before(tmp_path, monkeypatch, refused):
    training = loop(tmp_path)
    rows = training.epochs(iter(batches(16)))
    next(rows)
    storage = training.run.storage

    def unless_refused(write, path: str, data: bytes) -> None:
        if path == refused:
            raise StorageError("the disk is full")
        write(path, data)

    for name in ("write", "commit"):
        monkeypatch.setattr(storage, name, partial(unless_refused, getattr(storage, name)))
    with pytest.raises(StorageError, match="the disk is full"):
        next(rows)
    assert loop(tmp_path).epoch == 1


@pytest.mark.jobs
@pytest.mark.parametrize("action", ["stop", "warn"])
def test_dead_layers_stop_the_loop_unless_told_otherwise(tmp_path, action):
    training = loop(tmp_path, epochs=1, dead_layers=action)
    torch.nn.init.constant_(training.train_step.network.e_conv3.point_conv.bias, -1e3)
    rows = training.epochs(iter(batches(4)))
    if action == "warn":
        assert "e_conv3" in next(rows)["validation_dead_layers"]
    else:
        with pytest.raises(CollapseError, match=r"layers e_conv3.* are dead"):
            next(rows)
        assert RunFolder(training.settings).epochs_done() == 0


def test_best_epoch_is_the_first_with_the_lowest_loss():
    assert best_epoch([{"validation_loss": value} for value in (3.0, 1.0, 2.0, 1.0)]) == 2
