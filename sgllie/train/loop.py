"""Epochs: steps, validation, record, checkpoint. Plain torch; what several processes need is handed in.

loop = TrainingLoop(train_step, run, validation)
for row in loop.epochs(batches):
    print(row["training_loss"], row["validation_loss"])
"""

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sgllie.errors import CollapseError
from sgllie.runs.schemas import Row
from sgllie.runs.tables import csv_bytes
from sgllie.train import record
from sgllie.train.record import TRAINING, VALIDATION
from sgllie.train.run import Checkpoint, RunFolder
from sgllie.train.train_step import Batch, TrainStep
from sgllie.train.validation import collapse, examine, merge, to_pixels

CURVES_SECONDS = 30.0
"""Between two drawings of all curves, each of which takes about a second; the last epoch is always drawn."""
PICTURES = 4
"""Validation photographs that are shown before and after in each epoch's picture."""

Tell = Callable[[int, Row], None]
Gather = Callable[[Any], list[Any]]


class TrainingLoop:
    """The epochs of one training process; the process of rank 0 writes what all of them found.

    Args:
        train_step: what is trained; taken back to the run's last checkpoint if there is one.
        run: where the record is kept.
        validation: this process's share of the photographs that are held back; rank 0 has some.
        rank: number of this process.
        gather: gives every process a list of what each of them passes in.
        tell: called with the number of steps done and the last terms, every `display_every` steps.

    Attributes:
        epoch: finished epochs.
    """

    def __init__(
        self,
        train_step: TrainStep,
        run: RunFolder,
        validation: list[Batch],
        rank: int = 0,
        gather: Gather = lambda found: [found],
        tell: Tell = lambda steps, terms: None,
    ) -> None:
        self.train_step, self.run, self.validation = train_step, run, validation
        self.rank, self.gather, self.tell = rank, gather, tell
        self.settings = train_step.settings
        self.epoch = 0
        self.history: list[Row] = []
        self.drawn = 0.0
        checkpoint = run.load()
        if checkpoint:
            self.epoch, self.history = checkpoint.epoch, checkpoint.history
            train_step.load_state(checkpoint.tensors, checkpoint.steps)

    def epochs(self, batches: Iterator[Batch]) -> Iterator[Row]:
        """Train to the end, and yield one row of measurements for each epoch.

        Args:
            batches: of the epochs that are left, `steps_per_epoch` of them for each.

        Raises:
            CollapseError: the training has failed.
        """
        steps_per_epoch = self.train_step.total_steps // self.settings.epochs
        while self.epoch < self.settings.epochs:
            started = time.monotonic()
            steps = [self._step(next(batches)) for _ in range(steps_per_epoch)]
            rate = len(steps) * self.settings.batch_size / (time.monotonic() - started)
            trained = self._mean_of_all(steps)
            findings, shown = self._validate()
            self.epoch += 1
            row: Row = {"epoch": self.epoch, "steps": self.train_step.steps, "seconds": time.monotonic() - started}
            row["images_per_second"] = rate
            row |= {TRAINING + name: value for name, value in trained.items()}
            row |= {VALIDATION + name: value for name, value in findings.items()}
            row[f"{VALIDATION}dead_layers"] = " ".join(findings["dead_layers"])
            self.history.append(row)
            if self.rank == 0:
                self.run.check_owner()
                self._record(steps, shown)
            reason = collapse(findings)
            if reason and not (findings["dead_layers"] and self.settings.dead_layers == "warn"):
                raise CollapseError(f"after epoch {self.epoch} {reason}")
            if self.rank == 0:
                self._save()
            yield row

    def _step(self, batch: Batch) -> Row:
        terms = self.train_step.step(batch)
        steps = self.train_step.steps
        row = terms | {"loss": sum(terms.values())}
        if self.rank == 0 and steps % self.settings.display_every == 0:
            self.tell(steps, row)
        if self.rank == 0 and steps % self.settings.snapshot_every == 0:
            self.run.snapshot(self.train_step.weights(self._origin()))
        return row

    def _mean_of_all(self, steps: list[Row]) -> Row:
        mine = {name: float(np.mean([step[name] for step in steps])) for name in steps[0]}
        everyone = self.gather(mine)
        return {name: float(np.mean([row[name] for row in everyone])) for name in mine}

    def _validate(self) -> tuple[Row, bytes]:
        model = self.train_step.validated_model()
        findings, before, after = [], [], []
        for batch in self.validation:
            finding, pixels = examine(model, self.train_step.objective, batch)
            findings.append(finding)
            before += list(to_pixels(batch.images))
            after += list(pixels)
        everyone = [finding for found in self.gather(findings) for finding in found]
        shown = record.pictures([before[:PICTURES], after[:PICTURES]]) if self.rank == 0 else b""
        return merge(everyone), shown

    def _record(self, steps: list[Row], shown: bytes) -> None:
        """Write what people look at; a run that is resumed writes it again."""
        row = self.history[-1]
        first = self.train_step.steps - len(steps)
        every = self.settings.display_every
        scalars = [
            (first + place, {TRAINING + name: value for name, value in step.items()})
            for place, step in enumerate(steps, 1)
            if place % every == 0
        ]
        measured = {name: value for name, value in row.items() if isinstance(value, float)}
        scalars.append((self.train_step.steps, {k: v for k, v in measured.items() if k.startswith(VALIDATION)}))
        write = self.run.storage.write
        write(f"samples/epoch-{self.epoch:05d}.png", shown)
        write(f"events/{record.events_name(self.epoch)}", record.events(scalars))
        write("metrics.csv", csv_bytes(self.history))
        if self.epoch == self.settings.epochs or time.monotonic() - self.drawn > CURVES_SECONDS:
            write("curves.png", record.curves(self.history))
            self.drawn = time.monotonic()

    def _save(self) -> None:
        checkpoint = Checkpoint(self.epoch, self.train_step.steps, self.history, self.train_step.state())
        self.run.save(checkpoint, self.train_step.weights(self._origin()))

    def _origin(self) -> str:
        return f"trained, preset {self.settings.preset}, seed {self.settings.seed}, {self.train_step.steps} steps"
