"""A training run in its folder: begun, resumed or refused; its checkpoints; what each epoch leaves behind.

    RUN/run.json                        settings, data, versions
    RUN/checkpoints/epoch-00012/        the last epoch that is finished: weights, state.safetensors, and state.json last
    RUN/weights/{best,last}.safetensors
    RUN/metrics.csv, curves.png, samples/epoch-00012.png, events/ (TensorBoard)
    RUN/_SUCCESS                        written when all epochs are done

Every file is written whole or not at all, and state.json comes after all else, so that a run which is killed at any
moment is as it was after its last finished epoch.
"""

import hashlib
import json
import re
import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors

from sgllie.errors import ReadError, StorageError, UsageError
from sgllie.network import weights
from sgllie.network.weights import Weights
from sgllie.runs.names import RUN
from sgllie.runs.run import mark_finished
from sgllie.runs.run_file import as_json, changed_options, header, now, read_result, read_run, refuse_changes
from sgllie.runs.schemas import Row
from sgllie.runs.start import refuse_other_files
from sgllie.settings import output_settings
from sgllie.storage import SCRATCH, Storage, absolute_uri, open_storage
from sgllie.train.settings import TrainSettings

CHECKPOINTS = "checkpoints"
OWNER = f"{SCRATCH}/owner"
"""Holds what the command that trains here calls itself, and the number of its attempt."""
PACKAGES = ("sgllie", "numpy", "ray", "torch", "torchvision", "timm")

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Checkpoint:
    """The state of a training after `epoch` epochs.

    Attributes:
        epoch: finished epochs.
        steps: finished steps.
        history: one row of measurements for each epoch.
        tensors: what the train step needs to go on.
    """

    epoch: int
    steps: int
    history: list[Row]
    tensors: Tensors


class RunFolder:
    """Where a run is kept; local or on S3."""

    def __init__(self, settings: TrainSettings) -> None:
        self.storage: Storage = open_storage(absolute_uri(settings.run), settings.s3)
        self.command, self.attempt = "", 0

    def describe(self) -> Row | None:
        """Return what run.json says, if a run was begun here; UsageError if something else was."""
        return read_run(
            self.storage, "train", {"data": dict, "output_settings": dict, "data.digest": str, "data.photographs": int}
        )

    def claim(self, is_new: bool) -> None:
        """Make the run this command's own, before all photographs are read, which may take hours.

        A command that trains in the same folder by now stops at the end of its epoch.

        Raises:
            UsageError: nothing can be written there, or a new run would lie among other files.
        """
        if is_new:
            refuse_other_files(self.storage)
        self.command = uuid.uuid4().hex
        try:
            self.storage.write(OWNER, self.token)
        except StorageError as error:
            raise UsageError(f"RUN cannot be begun: {error}") from error

    def next_attempt(self) -> None:
        """Begin this command's next attempt: processes that are left of one before write nothing any more.

        Raises:
            StorageError: another command has claimed the run.
        """
        self.check_owner()
        self.attempt += 1
        self.storage.write(OWNER, self.token)

    @property
    def token(self) -> bytes:
        """What stands in OWNER while this attempt of this command trains."""
        return f"{self.command} {self.attempt}".encode()

    def check_owner(self) -> None:
        """Find out whether the run is still that of this attempt.

        Raises:
            StorageError: another command has claimed it.
            RuntimeError: a later attempt of the same command has begun, which this must not end.
        """
        if not self.command:
            return
        owner = b""
        with suppress(FileNotFoundError):
            owner = self.storage.read(OWNER)
        if owner == self.token:
            return
        if owner.startswith(self.command.encode()):
            raise RuntimeError("a later attempt of the same command trains here")
        raise StorageError(f"another command has begun to train in {self.storage.uri}")

    def finished(self) -> Row | None:
        """Return what _SUCCESS says, if the run has finished; None where that is damaged, too."""
        found = read_result(self.storage) or {}
        is_sound = isinstance(found.get("epochs"), int) and isinstance(found.get("best"), dict)
        return found if is_sound and "epoch" in found["best"] else None

    def epochs_done(self) -> int:
        """Return how many epochs are finished: the number of the last checkpoint that is whole."""
        return max(self._epochs(r"state\.json"), default=0)

    def _epochs(self, names: str) -> set[int]:
        """Return the numbers of the checkpoints that have a file of such a name."""
        found = (re.fullmatch(rf"epoch-(\d+)/{names}", entry.path) for entry in self.storage.list(CHECKPOINTS))
        return {int(name[1]) for name in found if name}

    def load(self) -> Checkpoint | None:
        """Read the last checkpoint that is finished; None where there is none, UsageError where it is damaged."""
        epoch = self.epochs_done()
        if not epoch:
            return None
        try:
            state = json.loads(self.storage.read(f"{folder(epoch)}/state.json"))
            data = self.storage.read(f"{folder(epoch)}/state.safetensors")
            if state.pop("sha256") != digest(state, data):
                raise ValueError("its bytes are not those that were written")
            best_epoch(state["history"])
            return Checkpoint(epoch, int(state["steps"]), state["history"], read_tensors(data))
        except (SafetensorError, ReadError, OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            if self.epochs_done() > epoch:
                return self.load()  # whoever trains here has gone on meanwhile
            raise UsageError(
                f"the checkpoint {self.storage.uri}/{folder(epoch)} is damaged ({error}): without this folder the "
                "training begins anew; its weights are also in weights/last.safetensors"
            ) from error

    def save(self, checkpoint: Checkpoint, found: Weights) -> None:
        """Write a checkpoint, weights/last and perhaps weights/best; then earlier checkpoints are removed."""
        self.check_owner()
        name, data = folder(checkpoint.epoch), weights.to_bytes(found)
        self.storage.write("weights/last.safetensors", data)
        if best_epoch(checkpoint.history) == checkpoint.epoch:
            self.storage.write("weights/best.safetensors", data)
        self.storage.write(f"{name}/weights.safetensors", data)
        tensors = write_tensors(checkpoint.tensors)
        self.storage.write(f"{name}/state.safetensors", tensors)
        state: Row = {"epoch": checkpoint.epoch, "steps": checkpoint.steps, "history": checkpoint.history}
        state["sha256"] = digest(state, tensors)
        self.storage.commit(f"{name}/state.json", as_json(state))
        for epoch in self._epochs(".*"):
            if epoch < checkpoint.epoch:
                self.storage.remove(folder(epoch))

    def snapshot(self, found: Weights) -> None:
        """Replace weights/last in the middle of an epoch."""
        self.check_owner()
        self.storage.write("weights/last.safetensors", weights.to_bytes(found))

    def finish(self) -> Row:
        """Mark a run whose epochs are all done as finished, and return what _SUCCESS says."""
        checkpoint = self.load()
        assert checkpoint is not None
        history = checkpoint.history
        best = history[best_epoch(history) - 1]
        summary = {"epochs": len(history), "best": best, "finished": now()}
        mark_finished(self.storage, summary)
        return summary


def folder(epoch: int) -> str:
    """Return the folder of the checkpoint after `epoch` epochs."""
    return f"{CHECKPOINTS}/epoch-{epoch:05d}"


def digest(state: Row, tensors: bytes) -> str:
    """Return a hash of all that a training goes on with: one flipped bit of a tensor shows nowhere else."""
    return hashlib.sha256(json.dumps(state).encode() + tensors).hexdigest()


def best_epoch(history: list[Row]) -> int:
    """Return the number, from 1, of the first epoch with the lowest loss on the validation images."""
    return min(range(len(history)), key=lambda index: history[index]["validation_loss"]) + 1


def begin_or_resume(run: RunFolder, settings: TrainSettings, data: Row) -> bool:
    """Write run.json, or check that the photographs are still those of the run that lies there.

    A run without a finished epoch has nothing to be kept, and is begun anew with the settings of now.

    Args:
        run: the run.
        settings: of the present command.
        data: what the photographs came to: `photographs`, `digest` and more.

    Returns:
        Whether an earlier run is resumed.

    Raises:
        UsageError: the run has other photographs.
        StorageError: another command has claimed the run.
    """
    earlier = run.describe()
    run.check_owner()
    if earlier is None or not run.epochs_done():
        run.storage.commit(RUN, as_json(description(settings, data)))
        return False
    if earlier["data"]["digest"] != data["digest"]:
        then, here = earlier["data"]["photographs"], data["photographs"]
        raise UsageError(
            f"{settings.run} was begun with other photographs ({then} then, {here} now, or with other contents). "
            "Use the same photographs to go on, or another RUN to begin anew"
        )
    return True


def refuse_differences(earlier: Row, settings: TrainSettings) -> None:
    """Raise UsageError unless the settings are those that the run in run.json was begun with."""
    changes = changed_options(earlier["output_settings"], output_settings(settings))
    refuse_changes(changes, settings.run, "or another RUN to begin anew")


def description(settings: TrainSettings, data: Row) -> Row:
    """Return what run.json says."""
    return header(settings, PACKAGES) | {"data": data}
