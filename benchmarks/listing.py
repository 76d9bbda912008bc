"""Measure the memory and the time that planning a million images takes, and reading an S3 Inventory of as many.

    python benchmarks/listing.py [--images 1000000]

Makes a tree of so many (linked) files, asks for a dry run, and prints the greatest memory of the driver. Then an
inventory is written to the local disk, as CSV and as Parquet, and read from there.
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet as pq

from sgllie.corpus.inventory import Inventory
from sgllie.storage import LocalStorage


def inventory_seconds(folder: Path, count: int, file_format: str) -> float:
    """Return the seconds that it takes to read an inventory of so many keys, as CSV or as Parquet."""
    numbers = range(count)
    keys = [f"train/drive-{number // 1000:05d}/frame-{number:08d}.jpg" for number in numbers]
    columns = {
        "bucket": ["bucket"] * count,
        "key": keys,
        "size": list(numbers),
        "e_tag": [f"{n:032x}" for n in numbers],
    }
    if file_format == "CSV":
        rows = zip(*columns.values(), strict=True)
        with gzip.open(folder / "data", "wt", compresslevel=6) as text:
            text.writelines(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows)
    else:
        pq.write_table(pa.table(columns), folder / "data")
    manifest = {"sourceBucket": "bucket", "fileFormat": file_format, "files": [{"key": "data"}]}
    (folder / "manifest.json").write_text(json.dumps(manifest | {"fileSchema": "Bucket, Key, Size, ETag"}))
    with patch("sgllie.corpus.inventory.open_storage", lambda uri, s3: LocalStorage(str(folder))):
        started = time.perf_counter()
        assert sum(1 for _ in Inventory("s3://bucket/manifest.json", None)) == count
        return time.perf_counter() - started


def main() -> None:
    """Make the tree, plan it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    count = parser.parse_args().images
    with TemporaryDirectory(prefix="sgllie-benchmark-") as folder:
        scratch = Path(folder)
        for number in range(count):
            drive = scratch / f"in/drive-{number // 1000:05d}"
            first = drive / f"frame-{number // 1000 * 1000:08d}.jpg"
            if number % 1000 == 0:  # a link for each of the others, since a file has room for only so many
                drive.mkdir(parents=True)
                first.write_bytes(b"")
            else:
                os.link(first, drive / f"frame-{number:08d}.jpg")
        started = time.perf_counter()
        command = [sys.executable, "-m", "sgllie", "enhance", str(scratch / "in"), str(scratch / "out"), "--dry-run"]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{count:,} images planned in {seconds:.1f} s with at most {memory:.0f} MB (goal 1,000 MB)")
        for file_format in ("CSV", "Parquet"):
            seconds = inventory_seconds(scratch, count, file_format)
            print(f"an S3 Inventory of {count:,} keys ({file_format}) read in {seconds:.1f} s")


if __name__ == "__main__":
    main()
