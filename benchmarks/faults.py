"""Break a job in every way that a cluster breaks, and count what is lost.

    python benchmarks/faults.py [--images 5000] [--only SCENARIO ...]

Several Ray nodes run on this machine. After each scenario every listed image must have exactly one row, every ok row
an output whose hash matches, and the output must hold nothing else. Printed is a table in Markdown. The scenario of
the full disk mounts a small tmpfs, and is left out where that is not allowed.
"""

import argparse
import contextlib
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psutil
import pyarrow.dataset as ds
from pictures import make_corpus
from processes import below, kill_all, named_below
from ray._private.services import node_ip_address_from_perspective
from ray.cluster_utils import Cluster

SIZE = (480, 640)
SECONDS = 900
HOG = """
import os, sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)
held = [ray.put(os.urandom(8 * 2**20)) for _ in range(16)]
print("full", flush=True)
time.sleep(10**6)
"""


@dataclass(frozen=True)
class Outcome:
    """What a scenario came to.

    Attributes:
        faults: what was done to the job, in words.
        rows: rows of statistics.
        lost: listed images without a row, or ok rows without their output.
        doubled: rows beyond the first for an image.
        wrong: outputs whose hash differs from that of their row, failed rows, and files that nobody asked for.
    """

    faults: str
    rows: int
    lost: int
    doubled: int
    wrong: int


class Nodes:
    """A Ray cluster of several nodes on this machine; the first has one CPU, and drivers connect to it."""

    def __init__(self, cpus: int = 1, **head: Any) -> None:
        # Not Ray's usual folder, where other programs would find this cluster, and join it. By the environment, since
        # Ray writes the address of such a cluster where that says, whatever folder the cluster itself is given.
        self.folder = tempfile.mkdtemp(prefix="ray-")
        self.environment = patch.dict(os.environ, RAY_TMPDIR=self.folder)
        self.environment.start()
        # By itself Ray would take the address of a cluster that this process has joined, maybe 127.0.0.1; drivers look
        # for the machine's own.
        self.ip = node_ip_address_from_perspective()
        head |= {"num_cpus": cpus, "include_dashboard": False, "node_ip_address": self.ip}
        self.cluster = Cluster(initialize_head=True, head_node_args=head)
        self.address = str(self.cluster.address)

    def add(self, cpus: int = 1, **options: Any) -> Any:
        """Start one more node."""
        return self.cluster.add_node(num_cpus=cpus, node_ip_address=self.ip, **options)

    def workers(self, node: Any = None) -> list[psutil.Process]:
        """List the processes of a node, or of all nodes, that run shards."""
        nodes = [node] if node else [self.cluster.head_node, *self.cluster.worker_nodes]
        return [worker for each in nodes for raylet in raylets(each) for worker in named_below(raylet, "MapWorker")]

    def kill(self, node: Any) -> None:
        """Kill all processes of a node at once, as if its machine were gone."""
        begun = [info.process.pid for kind in node.all_processes.values() for info in kind]
        alive = [psutil.Process(pid) for pid in begun if psutil.pid_exists(pid)]
        kill_all([each for process in alive for each in [*below(process), process]])
        self.cluster.remove_node(node, allow_graceful=False)

    def stop(self) -> None:
        """End all nodes, and remove their folder."""
        self.cluster.shutdown()
        self.environment.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def raylets(node: Any) -> list[psutil.Process]:
    """Return the raylet of a node, if it is running."""
    running = [info.process.pid for info in node.all_processes.get("raylet", []) if info.process.poll() is None]
    return [psutil.Process(pid) for pid in running]


class Job:
    """The command, begun; shards are small, so that there are many to lose."""

    def __init__(self, source: Path, output: Path, *options: object) -> None:
        self.source, self.output = source, output
        self.line = [sys.executable, "-m", "sgllie", "enhance", source, output, "--shard-images", 50, *options]
        self.process = self.begin()

    def begin(self) -> "subprocess.Popen[str]":
        """Give the command, for the first time or again."""
        line = list(map(str, self.line))
        self.process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return self.process

    def done(self) -> int:
        """Count the outputs that are there."""
        return sum(1 for path in (self.output / "images").rglob("*.jpg") if path.is_file())

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until a condition holds; the job must not end before that."""
        end = time.monotonic() + SECONDS
        while not condition():
            assert self.process.poll() is None, f"the job ended too early: {self.process.communicate()[0]}"
            assert time.monotonic() < end, "waited in vain"
            time.sleep(0.05)

    def wait_for_images(self, count: int) -> None:
        """Wait until so many more images are done."""
        wanted = self.done() + count
        self.wait_for(lambda: self.done() >= wanted)

    def end(self, code: int = 0) -> str:
        """Follow the job to its end, which must have this exit code; return what it said."""
        said, _ = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == code, f"exit code {self.process.returncode}: {said}"
        return said

    def kill(self) -> None:
        """Kill the driver, and nothing else."""
        self.process.kill()
        self.process.communicate()


def node_killed(source: Path, output: Path) -> str:
    """Kill one machine of two, and let another join."""
    with closing(Nodes()) as nodes:
        first = nodes.add()
        job = Job(source, output, "--address", nodes.address)
        job.wait_for_images(len(list(source.rglob("*.jpg"))) // 10)
        assert nodes.workers(first), "a node does nothing"
        nodes.kill(first)
        second = nodes.add(2)
        job.wait_for(lambda: bool(nodes.workers(second)))
        job.end()
    return "1 node of 2 killed, 1 joined and was used"


def workers_killed(source: Path, output: Path) -> str:
    """Kill a worker process at random every few seconds."""
    killed, chance = 0, random.Random(0)
    with closing(Nodes(2)) as nodes:
        job = Job(source, output, "--address", nodes.address)
        job.wait_for_images(1)
        while job.process.poll() is None:
            time.sleep(chance.uniform(4, 8))
            if workers := nodes.workers():
                kill_all([chance.choice(workers)])
                killed += 1
        job.end()
    assert killed, "the job was too short to be disturbed"
    return f"{killed} workers killed, one every 4 to 8 seconds"


def store_too_small(source: Path, output: Path) -> str:
    """Run the job while another program has filled the object store."""
    with closing(Nodes(2, object_store_memory=80 * 2**20)) as nodes:
        hog = subprocess.Popen([sys.executable, "-c", HOG, nodes.address], stdout=subprocess.PIPE, text=True)
        try:
            assert hog.stdout
            assert hog.stdout.readline() == "full\n"
            Job(source, output, "--address", nodes.address).end()
        finally:
            hog.kill()
            hog.wait()
    return "object store of 80 MiB, all of it taken"


def disk_full(source: Path, output: Path) -> str:
    """Let the output's disk fill up, enlarge it, and go on."""
    output.mkdir()
    images = len(list(source.rglob("*.jpg")))
    size = sum(path.stat().st_size for path in source.rglob("*.jpg"))
    command = ["mount", "-t", "tmpfs", "-o", f"size={size // 2}", "tmpfs", str(output)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        raise SkippedError("not allowed to mount a tmpfs")
    try:
        job = Job(source, output)
        said = job.end(1)
        assert "No space left on device" in said, said
        assert "Traceback" not in said, said
        before = job.done()
        assert 0 < before < images
        subprocess.run(["mount", "-o", f"remount,size={size * 20}", str(output)], check=True)
        job.begin()
        job.end()
        kept = output.with_name("kept")
        shutil.copytree(output, kept)
    finally:
        subprocess.run(["umount", str(output)], check=True)
    shutil.rmtree(output)
    kept.rename(output)
    return f"disk full after {before:,} images, then enlarged"


def head_killed(source: Path, output: Path) -> str:
    """Kill the head, and with it the cluster; give the job to a new one."""
    with closing(Nodes()) as nodes:
        nodes.add()
        job = Job(source, output, "--address", nodes.address)
        job.wait_for_images(len(list(source.rglob("*.jpg"))) // 4)
        nodes.kill(nodes.cluster.head_node)
        said = job.end(1)
        assert "Stopped: the cluster gave up" in said, said
        assert "Traceback" not in said, said
    assert not (output / "_SUCCESS").exists()
    with closing(Nodes(2)) as nodes:
        Job(source, output, "--address", nodes.address).end()
    return "head killed, the same command on a new cluster"


def driver_killed(source: Path, output: Path) -> str:
    """Kill only the driver, three times, and give the command again at once."""
    share = len(list(source.rglob("*.jpg"))) // 8
    with closing(Nodes(2)) as nodes:
        job = Job(source, output, "--address", nodes.address)
        for _ in range(3):
            job.wait_for_images(share)
            job.kill()
            job.begin()
        job.end()
    return "driver killed 3 times"


class SkippedError(Exception):
    """A scenario cannot be played here."""


SCENARIOS = {
    "node-killed": node_killed,
    "workers-killed": workers_killed,
    "store-too-small": store_too_small,
    "disk-full": disk_full,
    "head-killed": head_killed,
    "driver-killed": driver_killed,
}


@contextlib.contextmanager
def closing(nodes: Nodes) -> Iterator[Nodes]:
    """End the nodes after the block."""
    try:
        yield nodes
    finally:
        nodes.stop()


def play(scenario: Callable[[Path, Path], str], source: Path, output: Path) -> Outcome:
    """Run a scenario, and count what it left."""
    faults = scenario(source, output)
    rows = ds.dataset(output / "stats").to_table().to_pylist()
    listed = {str(path.relative_to(source)) for path in source.rglob("*.jpg")}
    times = Counter(row["path"] for row in rows)
    written = {str(path.relative_to(output)) for path in (output / "images").rglob("*") if path.is_file()}
    named = {row["output"] for row in rows if row["output"]}
    matching = sum(
        hashlib.sha256((output / row["output"]).read_bytes()).hexdigest() == row["sha256_out"]
        for row in rows
        if row["output"] in written
    )
    top = {path.name for path in output.iterdir()} - {"images", "stats", "commits", "manifest", "run.json", "_SUCCESS"}
    assert (output / "_SUCCESS").exists()
    return Outcome(
        faults,
        rows=len(rows),
        lost=len(listed - set(times)) + len(named - written),
        doubled=sum(count - 1 for count in times.values()),
        wrong=len(rows) - matching + len(written - named) + len(top) + len(set(times) - listed),
    )


def main() -> None:
    """Play all scenarios, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--only", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sgllie-faults-") as folder:
        scratch = Path(folder)
        source = make_corpus(scratch / "in", options.images, SIZE)
        print(f"| faults injected into a job of {options.images:,} images | rows | lost | doubled | wrong | seconds |")
        print("| --- | --- | --- | --- | --- | --- |", flush=True)
        for name in options.only:
            started = time.monotonic()
            try:
                found = play(SCENARIOS[name], source, scratch / name)
            except SkippedError as error:
                print(f"| {name}: {error} | | | | | |", flush=True)
                continue
            print(
                f"| {found.faults} | {found.rows:,} | {found.lost} | {found.doubled} | {found.wrong} "
                f"| {time.monotonic() - started:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
