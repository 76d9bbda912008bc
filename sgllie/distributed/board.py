"""What training processes and their loading tasks tell the driver."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import ray

from sgllie.errors import CollapseError, SgllieError
from sgllie.runs.schemas import Row

GOES_ON = "The same command goes on from the last finished epoch."


class State(NamedTuple):
    """How far a training is: steps done, the terms of the latest, and the rows of epochs that were not known yet."""

    steps: int
    terms: Row
    rows: list[Row]


@ray.remote(num_cpus=0)
class Board:
    """Keeps the state of a training, and why it must end, for the driver to read."""

    def __init__(self) -> None:
        self.steps = 0
        self.terms: Row = {}
        self.rows: list[Row] = []
        self.reason: str | None = None

    def tell(self, steps: int, terms: Row) -> None:
        """Note the terms after so many steps."""
        self.steps, self.terms = steps, terms

    def epoch(self, row: Row) -> None:
        """Note a finished epoch."""
        self.rows.append(row)

    def read(self, known_rows: int) -> State:
        """Return the state, with the rows after the first `known_rows`."""
        return State(self.steps, self.terms, self.rows[known_rows:])

    def end(self, reason: str) -> None:
        """Note why the training must end; the first reason counts."""
        self.reason = self.reason or reason

    def ending(self) -> str | None:
        """Return why the training must end, if it must."""
        return self.reason


@contextmanager
def ends_training(board: Any) -> Iterator[None]:
    """Let the whole training end where the block raises an error of ours.

    Ray Train starts all training processes anew after an exception in one of them; they then find the reason on the
    board, and return. One process alone must not return: the others would wait for its gradients.
    """
    try:
        yield
    except SgllieError as error:
        ray.get(board.end.remote(reason_to_stop(error)))
        raise


def reason_to_stop(error: SgllieError) -> str:
    """Return what stands behind `Stopped:`; a training that has collapsed would do so again."""
    if isinstance(error, CollapseError):
        return f"the training has collapsed: {error}."
    return f"{str(error).rstrip('.')}. {GOES_ON}"
