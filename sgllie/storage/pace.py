"""How fast a process asks an endpoint: as fast as it likes, until it is asked to slow down."""

import math
import threading
import time
from collections import deque

KEPT = 0.5
"""The share of its rate that a process keeps when it is asked to slow down."""
GROWTH = 2.0
"""Requests/s by which the rate grows, times the cube of the seconds: five times the constant of RFC 9438, which counts
segments of a connection that is one of many; a process is to be back at work within seconds."""
LEAST_RATE = 0.5
"""Requests/s that are asked however often the answer is no, so that it is seen when the endpoint has recovered."""
CATCH_UP_SECONDS = 0.05
"""For how long turns that were missed are kept, since sleep is never exact."""


class Pace:
    """Paces the requests of this process to one endpoint, over all its threads.

    Additive increase and multiplicative decrease, by the curve of CUBIC (RFC 9438, section 4.1): an answer that asks to
    slow down halves the rate; then it rises steeply, flattens where it was too high before, and rises steeply again. So
    the rate stays near what the endpoint allows without being told what that is, be it one request/s or thousands.

    Attributes:
        slow_downs: how often the rate was halved.
    """

    def __init__(self) -> None:
        self.slow_downs = 0
        self._limit = (math.inf, 0.0)
        self._last_second: deque[float] = deque()
        self._next = 0.0
        self._turn = threading.Lock()
        self._hurried = False
        self._slowing = threading.Lock()

    def wait(self) -> float:
        """Wait until it is this request's turn; return the time (of `time.monotonic`) at which it was."""
        with self._turn:  # held while waiting: whoever comes later is served later
            now = time.monotonic()
            rate = math.inf if self._hurried else self.rate(now)
            if rate < math.inf:
                self._next = max(self._next, now - CATCH_UP_SECONDS) + 1 / rate
                time.sleep(max(self._next - now, 0))
                now = time.monotonic()
            self._last_second.append(now)
            while self._last_second[0] < now - 1:
                self._last_second.popleft()
            return now

    def hurry(self) -> None:
        """Let all requests go from now on: this process is about to end, and has something to save."""
        self._hurried = True

    def rate(self, now: float) -> float:
        """Return how many requests are allowed in a second, at a time of `time.monotonic`."""
        limit, since = self._limit
        if limit == math.inf:
            return limit
        seconds_to_limit = math.cbrt(limit * (1 - KEPT) / GROWTH)
        return max(GROWTH * (now - since - seconds_to_limit) ** 3 + limit, LEAST_RATE)

    def slow_down(self, begun: float) -> None:
        """Halve the rate, once for all requests that were under way: `begun` is what `wait` returned for this one."""
        with self._slowing:
            if begun <= self._limit[1]:
                return
            now = time.monotonic()
            asked = sum(moment > begun - 1 for moment in self._last_second.copy())
            self._limit = (max(min(self.rate(now), asked), LEAST_RATE), now)
            self.slow_downs += 1


PACES: dict[str | None, Pace] = {}
"""The pace of this process at each endpoint; None is that of AWS."""


def pace_of(endpoint: str | None) -> Pace:
    """Return the pace of this process at an endpoint."""
    return PACES.setdefault(endpoint, Pace())


def hurry() -> None:
    """Let no request of this process wait any longer; it is about to end."""
    for pace in list(PACES.values()):
        pace.hurry()


def slow_downs() -> int:
    """Count how often this process was asked to slow down."""
    return sum(pace.slow_downs for pace in list(PACES.values()))
