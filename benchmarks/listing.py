"""Measure the memory and the time that planning a million images takes.

    python benchmarks/listing.py [--images 1000000]

Makes a tree of so many (linked) files, asks for a dry run, and prints the greatest memory of the driver.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def main() -> None:
    """Make the tree, plan it, and print what that took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1_000_000)
    count = parser.parse_args().images
    scratch = Path(tempfile.mkdtemp(prefix="sgllie-benchmark-"))
    try:
        for number in range(count):
            folder = scratch / f"in/drive-{number // 1000:05d}"
            first = folder / f"frame-{number // 1000 * 1000:08d}.jpg"
            if number % 1000 == 0:  # a link for each of the others, since a file has room for only so many
                folder.mkdir(parents=True)
                first.write_bytes(b"")
            else:
                os.link(first, folder / f"frame-{number:08d}.jpg")
        started = time.perf_counter()
        command = [sys.executable, "-m", "sgllie", "enhance", str(scratch / "in"), str(scratch / "out"), "--dry-run"]
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        print(f"{count:,} images planned in {seconds:.1f} s with at most {memory:.0f} MB (goal 1,000 MB)")
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
