"""What the displays say of how long a job will take."""

from types import SimpleNamespace

import pytest

from sgllie.runs import progress
from sgllie.runs import watch as watching
from sgllie.runs.progress import LogDisplay, State, counts_of, display


@pytest.fixture
def clock(monkeypatch):
    """A clock that is set by hand."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_the_start_of_workers_does_not_count_in_the_rate(clock, capsys):
    shown = LogDisplay(1010, "images")
    for seconds, done in ((15, 0), (30, 10), (40, 110)):
        clock[0] = seconds
        shown.update({"": (done, 1)})
    assert capsys.readouterr().out.splitlines() == [
        "0 of 1,010 images, 0 images/s, 1 failed, time left is not known yet",
        "10 of 1,010 images, 0 images/s, 1 failed, time left is not known yet",
        "110 of 1,010 images, 10 images/s, 1 failed, 1 min 30 s left",
    ]


def test_a_log_has_a_line_every_ten_seconds(clock, capsys):
    shown = LogDisplay(100, "images")
    for seconds in range(1, 31):
        clock[0] = seconds
        shown.update({"": (seconds, 0)})
    assert capsys.readouterr().out.count("\n") == 3


def test_it_is_said_once_that_a_storage_asks_to_slow_down(monkeypatch, capsys):
    monkeypatch.setattr(watching, "stop_on_sigterm", lambda: None)
    run = SimpleNamespace(
        settings=SimpleNamespace(max_failures=None),
        plan=SimpleNamespace(items=10),
        failed=lambda _: 0,
        display=lambda: display(10, "images"),
        noun="images",
    )
    states = iter([False, True, True, False])
    rounds = iter([True] * 3)
    look = lambda: (counts_of([State(1, 0, "", "", "", slowed) for slowed in (False, next(states))]), [])  # noqa: E731
    assert watching.watch(run, look, lambda: next(rounds, False)) is None
    assert capsys.readouterr().out.splitlines() == [watching.SLOWED]
