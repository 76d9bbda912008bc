"""How fast an endpoint is asked, by a clock that the tests turn."""

import itertools
import math
import time

import pytest

import sgllie.storage.pace
from sgllie.storage.pace import Pace, hurry, pace_of


class Clock:
    """Stands in for the module `time`: whoever sleeps turns it on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(sgllie.storage.pace, "time", clock)
    return clock


def ask(pace, clock, rate, seconds, latency=0.001):
    """Ask an endpoint that admits `rate` requests/s, in bursts of a tenth of a second; how many it admits, refuses."""
    tokens, filled = 1.0, clock.now
    admitted = refused = 0
    end = clock.now + seconds
    while clock.now < end:
        begun = pace.wait()
        clock.now += latency
        tokens, filled = min(tokens + (clock.now - filled) * rate, max(rate / 10, 1)), clock.now
        if tokens >= 1:
            tokens, admitted = tokens - 1, admitted + 1
        else:
            refused += 1
            pace.slow_down(begun)
    return admitted, refused


@pytest.mark.parametrize("rate", [20, 50, 200, 800])
def test_it_finds_what_an_endpoint_allows(clock, rate):
    pace = Pace()
    ask(pace, clock, rate, 20)
    admitted, refused = ask(pace, clock, rate, 60)
    assert 0.8 * rate < admitted / 60 <= rate
    assert refused < 0.05 * admitted


def test_it_follows_an_endpoint_that_allows_more(clock):
    pace = Pace()
    ask(pace, clock, 20, 20)
    assert ask(pace, clock, math.inf, 30)[0] > 0.5 * 30 / 0.001


def test_nobody_waits_until_somebody_is_refused():
    pace = Pace()
    began = time.monotonic()
    for _ in range(1000):
        pace.wait()
    assert time.monotonic() - began < 0.5
    assert pace.slow_downs == 0


def test_a_refusal_halves_once_for_all_requests_under_way(clock):
    pace = Pace()
    turns = []
    for _ in range(100):
        turns.append(pace.wait())
        clock.now += 0.01
    for turn in turns:
        pace.slow_down(turn)
    assert (pace.slow_downs, pace.rate(clock.now)) == (1, pytest.approx(50, abs=1))


def test_refusals_without_end_leave_a_request_every_other_second(clock):
    pace = Pace()
    turns = []
    for _ in range(100):
        turns.append(pace.wait())
        pace.slow_down(turns[-1])
        clock.now += 0.001
    pauses = [after - before for before, after in itertools.pairwise(turns[20:])]
    assert max(pauses) < 2.1
    assert min(pauses) > 0.5


def test_a_process_that_ends_waits_no_longer(clock, monkeypatch):
    monkeypatch.setattr(sgllie.storage.pace, "PACES", {})
    pace, other = pace_of("here"), pace_of("there")
    for each in (pace, other):
        ask(each, clock, 1, 20)
    hurry()
    began = clock.now
    assert ask(pace, clock, math.inf, 1)[0] == ask(other, clock, math.inf, 1)[0] == pytest.approx(1000, abs=2)
    assert clock.now - began == pytest.approx(2, abs=0.1)
