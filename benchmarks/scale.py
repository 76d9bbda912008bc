"""Compare the cost of an image among 100,000 with that among 2,000, and the memory of all processes.

    python benchmarks/scale.py [--images 100000]

Runs the whole job on small synthetic images, once on 2,000 and once on many, and prints the time per image in the
steady state (between the first and the last tenth) and the greatest memory of the driver and of the workers. The job
on 2,000 lasts two seconds, in which Ray's own processes still start beside the workers; whether an image costs the same
whatever came before it is told by the tenths of the job on many. Then it runs the finished job again, which must touch
nothing.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
from pictures import dark, encode, fill
from processes import memory_of, named_below
from rows import finished_times

FEW = 2_000
SIDE = 64


def tiny_jpegs() -> list[bytes]:
    """Return a hundred small JPEGs, all different."""
    generator = np.random.default_rng(0)
    return [encode(dark(generator, (SIDE, SIDE))) for _ in range(100)]


def run(source: Path, output: Path) -> tuple[float, dict[str, float]]:
    """Run the command; return its seconds, and the peak resident memory in MB of the driver and of any one worker."""
    started = time.perf_counter()
    job = psutil.Popen([sys.executable, "-m", "sgllie", "enhance", source, output], stdout=subprocess.DEVNULL)
    greatest = {"driver": 0.0, "worker": 0.0}
    while job.poll() is None:
        workers = [memory_of(worker) for worker in named_below(job, "MapWorker")]
        greatest["driver"] = max(greatest["driver"], memory_of(job))
        greatest["worker"] = max([greatest["worker"], *workers])
        time.sleep(0.5)
    if job.returncode:
        raise SystemExit(f"the job ended with {job.returncode}")
    return time.perf_counter() - started, greatest


def tenths(output: Path) -> list[float]:
    """Return the milliseconds between two images, in each tenth of a job."""
    finished = finished_times(output)
    edges = finished[np.linspace(0, len(finished) - 1, 11).astype(int)]
    return list(np.diff(edges) / len(finished) * 10_000)


def main() -> None:
    """Run both jobs, and print costs and memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    many = parser.parse_args().images
    with TemporaryDirectory(prefix="sgllie-benchmark-") as folder:
        scratch = Path(folder)
        costs, memory = {}, {}
        for count in (FEW, many):
            source, output = fill(scratch / f"in-{count}", tiny_jpegs(), count), scratch / f"out-{count}"
            seconds, memory[count] = run(source, output)
            parts = tenths(output)
            costs[count] = float(np.mean(parts[1:-1]))
            print(
                f"{count:8,} images: {seconds:7.1f} s whole, {costs[count]:.3f} ms/image steady, "
                f"driver {memory[count]['driver']:.0f} MB, worker {memory[count]['worker']:.0f} MB",
                flush=True,
            )
        print(f"cost of an image among many against few: {costs[many] / costs[FEW]:.2f} (goal 0.9 to 1.1)")
        print(f"ms/image in each tenth of {many:,}: {' '.join(f'{part:.3f}' for part in parts)}")
        print(f"ninth tenth against second: {parts[8] / parts[1]:.2f}")
        again, _ = run(source, output)
        print(f"the finished job of {many:,} again: {again:.1f} s")


if __name__ == "__main__":
    main()
