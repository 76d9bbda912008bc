"""Run a million small images from the listing to the report, killed once in the middle and resumed.

    python benchmarks/million.py [--images 1000000] [--scratch FOLDER]

Real pixels (JPEGs of 64x64), real job, local disk; eight gigabytes of it for a million. Printed are the seconds of each
phase, the greatest memory of the driver and of any worker in each tenth of the time, the cost of an image in each tenth
of the images (by the clock, and in processor time of the command's own code and of the system on its behalf), and the
size of manifest and statistics. The kill takes the driver and all its processes at once when
half of the shards are committed; the time between the last image before it and the first one after it is left out of
the tenths.
"""

import argparse
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from numpy.typing import NDArray
from pictures import fill
from processes import below, kill_all, memory_of, processor_times_of
from rows import finished_times
from scale import tiny_jpegs

LOOK_SECONDS = 0.5


class Command:
    """A command and all its processes, of which the memory is watched.

    Attributes:
        memory: seconds since the epoch, and megabytes of the driver and of the greatest other process.
        processor: for each of these moments, the seconds that processors have worked for all processes, so far: their
            own code, and the system.
    """

    def __init__(self, *arguments: object) -> None:
        self.began = time.time()
        self.memory: list[tuple[float, float, float]] = []
        self.processor: list[tuple[float, float]] = []
        command = [sys.executable, "-m", "sgllie", *map(str, arguments)]
        self.process = psutil.Popen(command, stdout=subprocess.DEVNULL)
        threading.Thread(target=self.watch, daemon=True).start()

    def watch(self) -> None:
        """Note the memory of all processes until the command ends."""
        spent: dict[int, tuple[float, float]] = {}
        while self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE:
            children = below(self.process)
            self.memory.append((time.time(), memory_of(self.process), max(map(memory_of, children), default=0.0)))
            for process in (self.process, *children):
                spent[process.pid] = max(spent.get(process.pid, (0.0, 0.0)), processor_times_of(process))
            own, system = (sum(times) for times in zip(*spent.values(), strict=True))
            self.processor.append((own, system))
            time.sleep(LOOK_SECONDS)

    def kill(self) -> None:
        """End the driver and all its processes at once."""
        kill_all([*below(self.process), self.process])
        self.process.wait()

    def wait(self) -> float:
        """Wait for the end; return the seconds from the beginning."""
        if code := self.process.wait():
            raise SystemExit(f"the command ended with {code}")
        return time.time() - self.began


def wait_for(command: Command, is_so: Callable[[], bool]) -> float:
    """Wait until something is so, while the command runs; return the seconds since it began."""
    while not is_so():
        if command.process.poll() is not None:
            raise SystemExit("the command ended too soon")
        time.sleep(LOOK_SECONDS / 5)
    return time.time() - command.began


def files_in(folder: Path) -> int:
    """Count the files of a folder; none where it is not there."""
    return sum(1 for _ in folder.iterdir()) if folder.is_dir() else 0


def tenths(finished: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the milliseconds of an image in each tenth of them, the longest pause left out."""
    steps = np.diff(finished)
    steps[np.argmax(steps)] = 0
    return np.array([part.mean() * 1000 for part in np.array_split(steps, 10)])


def print_processor(commands: list[Command], finished: NDArray[np.float64]) -> None:
    """Print the milliseconds of processors for an image in each tenth of the images."""
    of_commands = finished[finished < commands[1].began], finished[finished >= commands[1].began]
    for place, whose in enumerate(("own code", "system")):
        steps = []
        for command, own in zip(commands, of_commands, strict=True):
            moments = [sample[0] for sample in command.memory]
            steps.append(np.diff(np.interp(own, moments, [spent[place] for spent in command.processor])))
        parts = np.array_split(np.concatenate(steps), 10)
        print(f"ms/image of processors, {whose}: {' '.join(f'{part.mean() * 1000:.3f}' for part in parts)}")


def megabytes(folder: Path) -> str:
    """Write how many files a folder has, and how large they are."""
    sizes = [path.stat().st_size for path in folder.iterdir()]
    return f"{len(sizes):,} files, {sum(sizes) / 1e6:,.1f} MB"


def print_memory(commands: list[Command]) -> None:
    """Print the greatest memory of the driver and of any other process, in each tenth of each command's time."""
    for name, command in zip(("killed", "resumed"), commands, strict=True):
        for place, who in ((1, "driver"), (2, "worker")):
            parts = np.array_split(np.array([sample[place] for sample in command.memory]), 10)
            print(f"memory of the {who}, {name}, MB: {' '.join(f'{part.max():.0f}' for part in parts if len(part))}")


def measure(source: Path, output: Path) -> None:
    """Run the job on a folder, killed and resumed, and print what it took."""
    job = ("enhance", source, output, "--device", "cpu")
    first = Command(*job)
    planned = wait_for(first, (output / "run.json").exists)
    print(f"listed and planned after {planned:8.1f} s", flush=True)
    shards = files_in(output / "manifest")
    half = wait_for(first, lambda: files_in(output / "commits") >= shards // 2)
    first.kill()
    print(f"killed after             {half:8.1f} s, with half of {shards:,} shards committed", flush=True)
    second = Command(*job)
    whole = second.wait()
    finished = finished_times(output)
    again = finished[finished > second.began]
    print(f"resumed, first image after {again[0] - second.began:6.1f} s")
    last = again[-1] - second.began
    print(f"last image after         {last:8.1f} s, the end {whole - last:.1f} s later")
    costs = tenths(finished)
    print(f"ms/image in each tenth: {' '.join(f'{cost:.3f}' for cost in costs)}")
    print(f"dearest of the middle eight against the cheapest: {costs[1:-1].max() / costs[1:-1].min():.2f} (goal 1.1)")
    print_processor([first, second], finished)
    print_memory([first, second])
    for folder in ("manifest", "commits", "stats"):
        print(f"{folder:8} {megabytes(output / folder)}")
    print(f"{len(finished):,} rows; the finished job again: {Command(*job).wait():.1f} s", flush=True)
    print(f"report: {Command('report', output).wait():.1f} s, {(output / 'report.html').stat().st_size / 1e6:.2f} MB")


def main() -> None:
    """Make the images, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    parser.add_argument("--scratch", type=Path, help="folder for images and output; by default that of the system")
    options = parser.parse_args()
    with TemporaryDirectory(prefix="sgllie-benchmark-", dir=options.scratch) as folder:
        measure(fill(Path(folder, "in"), tiny_jpegs(), options.images), Path(folder, "out"))


if __name__ == "__main__":
    main()
