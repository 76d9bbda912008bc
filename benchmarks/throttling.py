"""Measure how much of what a server allows is used.

    python benchmarks/throttling.py [--rates 20 100 300] [--seconds 60]

The server is a stub (benchmarks/stub_s3.py) that answers GET after 10 ms, admits so many requests/s, in bursts of a
tenth of a second, and tells all others to slow down. The first ten seconds, in which the rate is found, do not count.
"""

import argparse
import os
import time
from concurrent.futures import ThreadPoolExecutor

from stub_s3 import running

from sgllie.storage import S3Options, Storage, open_storage

THREADS = 26
"""Of one worker: `--threads` and WAITING_THREADS."""
WARM_UP_SECONDS = 10


def main() -> None:
    """Read at each rate, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", type=float, nargs="+", default=[20, 100, 300])
    parser.add_argument("--seconds", type=float, default=60)
    chosen = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    for rate in chosen.rates:
        with running(keys=1, delay=0.01, rate=rate) as endpoint:
            storage = open_storage("s3://bucket", S3Options(endpoint_url=endpoint, region="us-east-1"))
            done = measure(storage, chosen.seconds)
        print(f"{rate:g} requests/s allowed: {done / chosen.seconds / rate:.2f} of that answered, no request failed")


def measure(storage: Storage, seconds: float) -> int:
    """Return how many objects are read within so many seconds, after the warm-up."""
    begin = time.monotonic() + WARM_UP_SECONDS
    end = begin + seconds

    def read() -> int:
        done = 0
        while time.monotonic() < end:
            storage.read("a")
            done += time.monotonic() >= begin
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        return sum(future.result() for future in [pool.submit(read) for _ in range(THREADS)])


if __name__ == "__main__":
    main()
