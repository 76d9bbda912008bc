"""What the handing out of shards costs: how soon 20,000 of them begin, and how long workers idle at the end of 200.

    python benchmarks/shards.py [--shards 20000]

No pixels: a shard sleeps as long as its items would take, on a local cluster of eight workers that share the machine's
processors. Compared are what `sgllie` does, and one block of Ray Data for each shard, in the reverse order of the
listing, with two of them in a worker's hands. `begin` is the time until the first result, `all` until the last,
`memory` what the driver grows by; `tail` is the time from the first worker with nothing left to do until the end.
"""

import argparse
import dataclasses
import logging
import random
import time
from typing import Any
from unittest.mock import patch

import psutil
import ray

from sgllie.distributed import pool
from sgllie.distributed.cluster import start_local
from sgllie.enhance.run import EnhanceRun
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.plan import Plan, cut
from sgllie.runs.run import Pipeline
from sgllie.runs.totals import Totals
from sgllie.storage import Entry, open_storage

WORKERS = 8
SECONDS = 0.001
"""Of one item, on average."""


class Sleeper(Pipeline):
    """A pipeline that takes its time, and notes when each shard was done and by which worker."""

    def __init__(self, seconds: dict[int, float]) -> None:
        self.seconds = seconds
        self.name = float(random.SystemRandom().getrandbits(40))

    def run(self, shard: int) -> Totals:
        """Sleep."""
        time.sleep(self.seconds[shard])
        return {"worker": self.name, "end": time.time()}


@dataclasses.dataclass(frozen=True)
class SleepingRun(EnhanceRun):
    """A run of shards that sleep.

    Attributes:
        seconds: for how long each does.
    """

    seconds: dict[int, float] = dataclasses.field(default_factory=dict)

    def make_pipeline(self, report: Any) -> Sleeper:
        """Make the pipeline of a worker."""
        return Sleeper(self.seconds)

    def check_replaced(self) -> None:
        """Do nothing: there is no output."""


@dataclasses.dataclass(frozen=True)
class PlainRun(SleepingRun):
    """The same in the reverse order of the listing."""

    @property
    def order(self) -> list[int]:
        """The shards, the last of the listing first."""
        return sorted(self.shards, reverse=True)


def make_run(kind: type[SleepingRun], sizes: list[int], each: float) -> SleepingRun:
    """Return a run of shards of these sizes; `each` is the seconds of an item, a few shards being much slower."""
    generator = random.Random(1)
    seconds = {shard: size * each * generator.lognormvariate(0, 0.3) for shard, size in enumerate(sizes)}
    plan = Plan(sum(sizes), 0, sizes, "")
    settings = EnhanceSettings("in", "out", num_actors=WORKERS, device="cpu")
    shards = dict(enumerate(sizes))
    return kind(settings, open_storage("out"), plan, False, {"input": "in"}, [], None, shards, seconds=seconds)


def measure(run: SleepingRun) -> dict[str, float]:
    """Run the shards; return the seconds and megabytes of the figures above."""
    process = psutil.Process()
    before, started, begun = process.memory_info().rss, time.time(), time.monotonic()
    results: dict[int, Totals] = {}
    shards = pool.Shards(run, results)
    shards.start()
    while not results and shards.is_alive():
        time.sleep(0.005)
    begin = time.monotonic() - begun
    shards.join()
    assert shards.error is None, shards.error
    ends: dict[float, float] = {}
    for totals in results.values():
        ends[totals["worker"]] = max(totals["end"], ends.get(totals["worker"], 0))
    last = max(ends.values())
    found = {"begin": begin, "all": last - started, "tail": last - min(ends.values())}
    return found | {"memory": (process.memory_info().rss - before) / 1e6}


def plainly(run: SleepingRun) -> dict[str, float]:
    """Measure with one block for each shard, and two in a worker's hands."""
    from ray.data import ActorPoolStrategy

    def strategy(**options: Any) -> Any:
        return ActorPoolStrategy(**options | {"max_tasks_in_flight_per_actor": 2})

    one_each = patch.object(pool, "in_bunches", lambda order, shards, workers: ([shard] for shard in order))
    with one_each, patch("ray.data.ActorPoolStrategy", strategy):
        return measure(run)


def main() -> None:
    """Measure both, in turns, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    start_local(num_cpus=WORKERS, object_store_memory=256 * 2**20)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    listing = (Entry("a", 1000, None) for _ in range(140_000))
    few = [len(shard) for shard in cut(listing, 1000)]
    measure(make_run(SleepingRun, few[:WORKERS], 0))  # imports
    print(f"tail of {len(few)} shards on {WORKERS} workers, ideal {sum(few) * SECONDS / WORKERS:.1f} s")
    for _ in range(arguments.rounds):
        for name, kind, run in (("plain", PlainRun, plainly), ("sgllie", SleepingRun, measure)):
            found = run(make_run(kind, few, SECONDS))
            print(f"  {name:8} all {found['all']:6.2f} s   tail {found['tail']:6.2f} s", flush=True)
    print(f"{arguments.shards:,} shards")
    for name, kind, run in (("plain", PlainRun, plainly), ("sgllie", SleepingRun, measure)):
        found = run(make_run(kind, [1000] * arguments.shards, 0))
        shown = f"begin {found['begin']:6.1f} s   all {found['all']:6.1f} s   memory {found['memory']:5.0f} MB"
        print(f"  {name:8} {shown}", flush=True)
    ray.shutdown()


if __name__ == "__main__":
    main()
