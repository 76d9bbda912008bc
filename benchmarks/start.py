"""What the start of a job takes: the parts of a local cluster's, the first image of a large and of a small job, and the
whole of the smallest one, `sgllie enhance samples OUT`.

    python benchmarks/start.py [--images 10000] [--rounds 3]

The parts are measured in a process of their own, one after another; printed are the medians. The large job is run as it
is, where child processes begin while the cluster starts, and with a number of workers, for which they do not.
"""

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
from pictures import fill, photographs

Marks = dict[str, float]
LOOK_SECONDS = 0.02
OBJECT_STORE_BYTES = 2**28
SAMPLES = Path(__file__).parent.parent / "samples"


@contextmanager
def lap(marks: Marks, name: str) -> Iterator[None]:
    """Note the seconds of a block."""
    begun = time.perf_counter()
    yield
    marks[name] = time.perf_counter() - begun


def whole_start() -> Marks:
    """Start a cluster with all services of Ray's."""
    marks: Marks = {}
    from sgllie.distributed.cluster import start_local

    with patch("sgllie.distributed.ray_internals.UNUSED_SERVICES", ()), lap(marks, "ray.init, all services"):
        start_local(object_store_memory=OBJECT_STORE_BYTES)
    return marks


def start() -> Marks:
    """Start a cluster as a job does, and a pool of one worker on it."""
    marks: Marks = {}
    with lap(marks, "import ray"):
        from sgllie.distributed.cluster import start_local
    with lap(marks, "ray.init"):
        start_local(object_store_memory=OBJECT_STORE_BYTES)
    with lap(marks, "import ray.data, which a job does beside ray.init"):
        import ray.data

    class Nothing:  # here, so that Ray sends it along
        def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            return batch

    with lap(marks, "first result of an actor that does nothing"):
        list(ray.data.from_items([{"shard": 0}]).map_batches(Nothing, concurrency=1, batch_size=1).iter_rows())
    with lap(marks, "import of what a worker needs"):
        import sgllie.enhance.pipeline
    assert sgllie.enhance.pipeline
    return marks


def in_a_new_process(function: Callable[[], Marks]) -> Marks:
    """Return the marks of a function that has imported nothing yet."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function).result()


def enhance(source: Path, output: Path, *options: str) -> list[str]:
    """Return the command line of a job."""
    return [sys.executable, "-m", "sgllie", "enhance", str(source), str(output), *options]


def whole_job(source: Path) -> float:
    """Return the seconds of a job from its command to its end."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        subprocess.run(enhance(source, Path(folder) / "out"), stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - begun


def first_image(source: Path, *options: str) -> float:
    """Return the seconds until the first output of a job; the job is ended then."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        output = Path(folder) / "out"
        line = enhance(source, output, *options)
        begun = time.perf_counter()
        job = subprocess.Popen(line, stdout=subprocess.DEVNULL)
        while not next((output / "images").rglob("*.jpg"), None):
            assert job.poll() is None, "the job has ended"
            time.sleep(LOOK_SECONDS)
        seconds = time.perf_counter() - begun
        job.terminate()
        job.wait()
        return seconds


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        jpegs = photographs(None)
        many = fill(Path(folder) / "many", jpegs, options.images)
        few = fill(Path(folder) / "few", jpegs, 6)
        for _ in range(options.rounds):
            marks = in_a_new_process(whole_start) | in_a_new_process(start)
            marks[f"first of {options.images:,} images"] = first_image(many)
            marks["  without child processes"] = first_image(many, "--num-actors", str(os.cpu_count()))
            marks["first of 6 images"] = first_image(few)
            marks["all of sgllie enhance samples OUT"] = whole_job(SAMPLES)
            for name, seconds in marks.items():
                found.setdefault(name, []).append(seconds)
        shutil.rmtree(many)
    for name, values in found.items():
        print(f"{name:52} {np.median(values):6.2f} s   ({', '.join(f'{value:.2f}' for value in values)})")


if __name__ == "__main__":
    main()
