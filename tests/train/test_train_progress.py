"""What a training tells of its steps."""

import pytest
from rich.console import Console

from sgllie.runs.progress import live_progress
from sgllie.train import progress
from sgllie.train.progress import LiveDisplay, LogDisplay

TERMS = {"spatial": 0.25, "loss": 1.5}


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand, in seconds."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    return now


def row(epoch: int, steps: int) -> dict:
    """An epoch, as the loop reports it."""
    validation = {"validation_loss": 2.0, "validation_brightness": 0.5, "validation_clipped": 0.0}
    more = {"validation_niqe": 4.0, "validation_dead_layers": "", "training_loss": 1.0, "seconds": 3.0}
    return {"epoch": epoch, "steps": steps} | validation | more


def test_a_line_every_ten_seconds_with_the_time_left(clock, capsys):
    shown = LogDisplay(total=16, done=0)
    shown.update(0, {})
    clock[0] += 30  # processes start
    shown.update(2, TERMS)
    clock[0] += 4
    shown.update(4, TERMS)
    clock[0] += 8
    shown.update(8, TERMS)
    assert capsys.readouterr().out.splitlines() == [
        "step 2 of 16: loss 1.5 (spatial 0.25)",
        "step 8 of 16: loss 1.5 (spatial 0.25), 16 s left",
    ]


def test_steps_of_a_finished_epoch_are_not_told_again(clock, capsys):
    """The last report of a single step stands on the board until the training has been wound up."""
    shown = LogDisplay(total=16, done=8)
    shown.update(10, TERMS)
    shown.epoch(row(2, 16))
    for _ in range(3):
        clock[0] += progress.LOG_SECONDS + 1
        shown.update(10, TERMS)
        shown.update(16, TERMS)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("epoch 2: loss 1; validation: loss 2, ")


def test_steps_of_an_earlier_command_say_nothing_of_the_time_left(clock, capsys):
    shown = LogDisplay(total=1000, done=900)
    shown.update(900, {})
    clock[0] += 60
    shown.update(900, {})
    shown.update(910, TERMS)
    clock[0] += 20
    shown.update(930, TERMS)
    assert capsys.readouterr().out.splitlines()[-1].endswith(", 1 min 10 s left")


def test_a_process_that_starts_anew_goes_back_without_a_negative_time(clock, capsys):
    shown = LogDisplay(total=100, done=0)
    shown.update(50, TERMS)
    clock[0] += 20
    shown.update(20, TERMS)
    assert capsys.readouterr().out == "step 20 of 100: loss 1.5 (spatial 0.25)\n"


def test_the_live_bar_ends_full():
    with (
        live_progress(Console(force_terminal=True, width=120), "steps, {task.fields[terms]},") as bar,
        bar.console.capture() as seen,
    ):
        shown = LiveDisplay(bar, total=16, done=0)
        shown.update(10, TERMS)
        shown.epoch(row(1, 16))
        shown.update(10, TERMS)
        assert bar.tasks[0].completed == 16
        bar.refresh()
    assert "elapsed," in seen.get()
    assert "epoch 1: loss 1;" in seen.get()
