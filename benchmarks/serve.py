"""The service under load on this machine: images per second beside the job's, times of answers, and above capacity.

    python benchmarks/serve.py --cores 2 --seconds 20

The job and the service run on the same local cluster, one after the other, with a worker or replica for each core. The
clients are threads of this process, on the same machine, and each asks again as soon as it has its answer.
"""

import argparse
import statistics
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import cv2
import psutil
import ray
from pictures import SAMPLE
from ray import serve
from rows import finished_times

from sgllie.cli import main as sgllie
from sgllie.distributed.cluster import start_local
from sgllie.distributed.serve import Enhancement, parse
from sgllie.images import decode

PORT = 8765
ADDRESS = f"http://127.0.0.1:{PORT}/"


def main() -> None:
    """Run the job, then the service with as many clients as it has threads, then twice with many more."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=800)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--clients", type=int, default=64, help="above capacity")
    settings = parser.parse_args()
    stored = decode(SAMPLE.read_bytes()).pixels[..., ::-1]
    pixels = cv2.resize(stored, (settings.width, settings.height), interpolation=cv2.INTER_CUBIC)
    data = cv2.imencode(".jpg", pixels)[1].tobytes()
    start_local(num_cpus=settings.cores)
    try:
        print(f"{settings.width} x {settings.height} JPEG, {len(data) / 1e3:.0f} kB, {settings.cores} cores")
        print(f"job                     {job_rate(data, settings.images, settings.cores):7.1f} images/s")
        serve.start(http_options={"host": "127.0.0.1", "port": PORT})
        service: Any = Enhancement  # what the decorator makes of the class
        application = service.options(num_replicas=settings.cores).bind(*parse({}))
        serve.run(application, name="sgllie", route_prefix="/")
        ask(data)
        for clients in (1, 2 * settings.cores, settings.clients, settings.clients):
            load(data, clients, settings.seconds)
    finally:
        serve.shutdown()
        ray.shutdown()


def job_rate(data: bytes, images: int, cores: int) -> float:
    """Return the images per second of `sgllie enhance`, without its start and its end."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder) / "in", Path(folder) / "out"
        source.mkdir()
        for number in range(images):
            (source / f"{number:05d}.jpg").write_bytes(data)
        small = str(max(images // (10 * cores), 1))
        with redirect_stdout(StringIO()):
            sgllie(["enhance", str(source), str(output), "--num-actors", str(cores), "--shard-images", small])
        moments = finished_times(output)
    first, last = images // 5, images - images // 5
    return (last - first) / (moments[last] - moments[first])


def load(data: bytes, clients: int, seconds: float) -> None:
    """Ask with so many clients for so long, and print what came of it."""
    before = replica_bytes()
    answers: list[tuple[int, float]] = []
    end = time.monotonic() + seconds

    def client() -> None:
        while time.monotonic() < end:
            begun = time.monotonic()
            answers.append((ask(data), time.monotonic() - begun))

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    counts = Counter(status for status, _ in answers)
    times = statistics.quantiles([1000 * spent for status, spent in answers if status == 200], n=100)
    others = ", ".join(f"{count} x {status}" for status, count in sorted(counts.items()) if status != 200) or "none"
    after = replica_bytes()
    print(
        f"service, {clients:3} clients    {counts[200] / seconds:7.1f} images/s   p50 {times[49]:6.0f} ms   "
        f"p99 {times[98]:6.0f} ms   refused: {others}   replicas {before / 1e6:.0f} -> {after / 1e6:.0f} MB"
    )


def ask(data: bytes) -> int:
    """Return the status of one answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(ADDRESS, data), timeout=120) as answer:
            answer.read()
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.read()
        return error.code


def replica_bytes() -> int:
    """Return the resident memory of all replicas."""
    found = [process for process in psutil.process_iter(["name", "cmdline"]) if "Replica" in str(process.info)]
    return sum(process.memory_info().rss for process in found)


if __name__ == "__main__":
    main()
