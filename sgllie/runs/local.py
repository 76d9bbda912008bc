"""Shards in child processes of the command: for what is done before a cluster would have started."""

import contextlib
import math
import multiprocessing
import os
import signal
import time
from collections import Counter, deque
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NamedTuple

from sgllie.runs import gpu, machine
from sgllie.runs.isolation import blocked, end_with_parent
from sgllie.runs.progress import Counts, Reports
from sgllie.runs.run import Run
from sgllie.runs.shard_runner import MOST_ATTEMPTS_WITHOUT_PROGRESS
from sgllie.runs.totals import Totals
from sgllie.runs.watch import watch
from sgllie.runs.words import say
from sgllie.runs.worker import ShardWorker

POLL_SECONDS = 0.2
LEAVE_SECONDS = 2.0
"""Until a child that was asked to end is killed; it takes less than half of that."""
MOST_SILENT_DEATHS = 2 * MOST_ATTEMPTS_WITHOUT_PROGRESS
"""Of children in a row with one shard, none of which has said a word: its journal would have given up before."""


class Child(NamedTuple):
    """A child process, and this end of the pipe to it."""

    process: SpawnProcess
    pipe: Connection


class LocalPool:
    """Child processes, each with a shard at a time.

    A child that dies gives its shard back, which knows what was done. The shard's journal ends a vicious circle; where
    no child comes so far as to begin one, the job stops.

    Args:
        run: whose shards are left.
        results: gets the totals of each shard that is done.
        niceness: of the children.

    Attributes:
        at_work: the children, and the shard that each has in hand.
        left: shards that nobody has in hand any more, once others are to go on.
        error: why the job must stop, if it must.
    """

    def __init__(self, run: Run[Any], results: dict[int, Totals], niceness: int = 0) -> None:
        self.run = run
        self.for_workers = run.for_workers("cpu")
        self.results = results
        self.niceness = niceness
        self.waiting = deque(run.order)
        self.reports = Reports()
        self.silent_deaths: Counter[int] = Counter()
        self.at_work: dict[Child, int] = {}
        self.left: list[int] = []
        self.ends_at = math.inf
        self.error: str | None = None

    def run_shards(self) -> str | None:
        """Run the shards that are left; return the reason if the run was stopped before its end."""
        try:
            self.begin()
            reason = watch(self.run, self.look, self.is_running)
        finally:
            self.end()
        return reason or self.error

    def begin(self) -> None:
        """Start a child for each processor, or for each shard if there are fewer."""
        if gpu.is_in_reach() and (note := gpu.unused(self.run.settings)):
            say(note)
        for _ in range(min(machine.whole_processors(), len(self.waiting))):
            self._give(begin_child(self.for_workers, self.niceness))

    @property
    def is_leaving(self) -> bool:
        """Whether `leave` has been called."""
        return self.ends_at < math.inf

    def leave(self) -> None:
        """Have the children give back what they have in hand, within a second or two, and end."""
        self.ends_at = time.monotonic() + LEAVE_SECONDS
        self.waiting.clear()
        for child in self.at_work:
            child.process.terminate()

    def end(self) -> None:
        """Ask the children that are at work to end, so that the next command knows what they have done."""
        for child in self.at_work:
            child.process.terminate()
        end = time.monotonic() + LEAVE_SECONDS
        for child in self.at_work:
            child.process.join(max(0, end - time.monotonic()))
            child.process.kill()

    def look(self) -> tuple[Counts, list[str]]:
        """Tell how far the children are, and what is stuck; whoever was stopped is ended."""
        counts, stuck = self.reports.read()
        end_stopped(counts.silent)
        return counts, stuck

    def is_running(self, seconds: float = POLL_SECONDS) -> bool:
        """Take in what the children say, for a moment; tell whether any is still at work."""
        if time.monotonic() > self.ends_at:  # it was stopped, say, or waits for a storage to save what it has done
            for child in self.at_work:
                child.process.kill()
        for pipe in wait([child.pipe for child in self.at_work], seconds):
            child = next(child for child in self.at_work if child.pipe is pipe)
            try:
                self._hear(child, child.pipe.recv())
            except (EOFError, ConnectionError):  # it has died
                self._replace(child)
        return bool(self.at_work) and self.error is None

    def _hear(self, child: Child, message: tuple[Any, ...]) -> None:
        """Note the state of a shard, or that a child has finished its own."""
        if len(message) > 2:
            self.reports.set(*message)
            del self.silent_deaths[message[0]]
            return
        totals, error = message
        self.error = self.error or error or None
        if totals is None:
            self._replace(child)
            return
        self.results[self.at_work.pop(child)] = totals
        self._give(child)

    def _replace(self, child: Child) -> None:
        """Take back the shard of a child that has ended, or is about to, for the next one that is free."""
        shard = self.at_work.pop(child)
        if self.is_leaving:
            self.left.append(shard)
            return
        self.silent_deaths[shard] += 1
        if self.silent_deaths[shard] >= MOST_SILENT_DEATHS:
            self.error = f"{MOST_SILENT_DEATHS} child processes in a row have died without a word"
            return
        self.waiting.appendleft(shard)
        self._give(begin_child(self.for_workers, self.niceness))

    def _give(self, child: Child) -> None:
        """Give a child the next shard, or let it end."""
        shard = self.waiting.popleft() if self.waiting else None
        if shard is not None:
            self.at_work[child] = shard
        with contextlib.suppress(ConnectionError):  # it has died, which the end of its pipe tells next
            child.pipe.send(shard)


def end_stopped(processes: Iterable[int]) -> None:
    """Kill those of some processes of this machine that were stopped, as by SIGSTOP, so that others do their shards.

    What was begun again after that would do them, too; what is killed never is.
    """
    for process in processes:
        with contextlib.suppress(OSError):  # it has ended meanwhile, or this system has no such file
            if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "T":
                os.kill(process, signal.SIGKILL)
                say(f"Process {process} was stopped from outside: it is ended, and its shard is given to others.")


def begin_child(run: Run[Any], niceness: int) -> Child:
    """Start a child process: afresh, since a fork of a process with threads can hang."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    arguments = (run, there, niceness)
    process = context.Process(target=work, args=arguments)  # no daemon, which could have no isolated processes
    with blocked(signal.SIGINT):  # a Ctrl-C of the terminal goes to all processes
        process.start()
    there.close()
    return Child(process, here)


def work(run: Run[Any], pipe: Connection, niceness: int) -> None:
    """Run shards in a child until there is none, it is asked to end by SIGTERM, or its parent is gone."""
    end_with_parent()
    os.nice(niceness)
    try:
        worker = ShardWorker(run, lambda *state: pipe.send(state))
    except Exception as error:  # it would be the same in every child
        pipe.send(({}, f"a child process cannot begin: {error or type(error).__name__}"))
        return
    signal.signal(signal.SIGTERM, worker.leave)
    with contextlib.suppress(EOFError, ConnectionError):
        while (shard := pipe.recv()) is not None:
            pipe.send(worker.run(shard))
            if worker.is_leaving:
                os._exit(0)  # nothing else stops the threads that have images in hand
