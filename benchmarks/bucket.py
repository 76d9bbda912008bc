"""Measure what it takes to list a bucket of a million keys, each page of which comes 50 ms after it was asked for.

    python benchmarks/bucket.py [--keys 1000000] [--delay 0.05]

The server is a stub that invents the keys (benchmarks/stub_s3.py) and shares the processors with what is measured.
Compared with `S3Storage.list` are pages one after another by s3fs and botocore, and the same with our parser.
"""

import argparse
import os
import resource
import time
from collections.abc import Iterator
from typing import Any

import s3fs
from stub_s3 import running

from sgllie.storage import S3Options, open_storage
from sgllie.storage.s3 import connect


def one_after_another(connection: Any) -> Iterator[str]:
    """Yield the keys page by page."""
    where: dict[str, str] = {}
    while True:
        page = connection.call_s3("list_objects_v2", Bucket="bucket", Prefix="in/", **where)
        yield from (found["Key"] for found in page["Contents"])
        if not page["IsTruncated"]:
            return
        where = {"ContinuationToken": page["NextContinuationToken"]}


def main() -> None:
    """List the bucket in each of the ways, and print the seconds of each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--delay", type=float, default=0.05)
    chosen = parser.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    with running(keys=chosen.keys, delay=chosen.delay) as endpoint:
        options = S3Options(endpoint_url=endpoint, region="us-east-1")
        plain = s3fs.S3FileSystem(endpoint_url=endpoint, skip_instance_cache=True)
        ways = {
            "S3Storage.list": lambda: (f"in/{entry.path}" for entry in open_storage("s3://bucket/in", options).list()),
            "one page after another, our parser": lambda: one_after_another(connect(options)),
            "one page after another, botocore": lambda: one_after_another(plain),
        }
        seconds: dict[str, float] = {}
        for name, keys in ways.items():
            began, busy = time.perf_counter(), time.process_time()
            count = sum(1 for _ in keys())
            assert count == chosen.keys, f"{name}: {count} keys"
            seconds[name] = time.perf_counter() - began
            ratio = seconds[name] / seconds["S3Storage.list"]
            memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(
                f"{name}: {seconds[name]:.1f} s ({ratio:.1f} times as long), {time.process_time() - busy:.1f} s of a "
                f"processor, at most {memory:.0f} MB so far",
                flush=True,
            )


if __name__ == "__main__":
    main()
