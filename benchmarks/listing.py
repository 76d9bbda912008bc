"""Measure the memory and the time that planning a million images takes.

    python benchmarks/listing.py [--images 1000000]

Makes a tree of so many (linked) files, asks for a dry run, and prints the greatest memory of the driver.
"""

import argparse
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory


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


if __name__ == "__main__":
    main()
