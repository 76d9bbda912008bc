"""What a command does while its workers work: draw, count failures, and be interrupted."""

import math
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from sgllie.runs.progress import Counts, total
from sgllie.runs.run import Run
from sgllie.runs.settings import failures_allowed
from sgllie.runs.words import examples, plural, say

SLOWED = "The storage asks to slow down: it is asked less often, as fast as it allows, and nothing is lost."

REMIND_SECONDS = 60.0
"""Between two times that what is stuck is named."""


def watch(run: Run[Any], look: Callable[[], tuple[Counts, list[str]]], is_running: Callable[[], bool]) -> str | None:
    """Show how far a run is until its workers are done; return the reason if it is to be stopped before its end.

    Args:
        run: whose workers are at work.
        look: tells what they have done, and what is stuck.
        is_running: waits a moment, and tells whether they are still at work.
    """
    stop_on_sigterm()
    failed_before = run.failed({})
    told = False
    reminded = -math.inf
    try:
        with run.display() as display:
            while is_running():
                done, stuck = look()
                display.update(done)
                if done.slowed and not told:
                    told = True
                    say(SLOWED)
                if stuck and time.monotonic() - reminded > REMIND_SECONDS:
                    reminded = time.monotonic()
                    say(f"Waiting: {examples(stuck, separator='; ')}")
                if reason := too_many(run, failed_before + total(done)[1]):
                    return reason
            display.update(look()[0])
    except KeyboardInterrupt:
        return "interrupted"
    return None


def too_many(run: Run[Any], failed: int) -> str | None:
    """Return why a run is to be stopped of which so many items have failed; None where the user allows them."""
    limit = run.settings.max_failures
    if failed <= failures_allowed(limit, run.plan.items):
        return None
    advice = "allow more, or try them once more with --retry-failed"
    return f"{plural(failed, run.noun)} failed, more than --max-failures {limit} allows ({advice})"


def stop_on_sigterm() -> None:
    """Let SIGTERM, with which schedulers end a job, raise KeyboardInterrupt, as Ctrl-C does.

    Once more when connected to a cluster: Ray's core takes the signal over, to print its own stack and die. Only the
    main thread may set a handler; in another one the program around it has its own ways.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
