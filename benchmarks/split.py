"""Lay out the photographs of the bundled weights for a training.

    python benchmarks/split.py FOLDER OUT [--without-sa]

FOLDER holds the files that `sgllie/network/pretrained/CREDITS.csv` names. They are copied, by the part that stands
there, to OUT/data/training, OUT/data/validation and OUT/test; with `--without-sa` those that must be shared alike are
left out.
"""

import argparse
import csv
import shutil
from pathlib import Path

from sgllie.network.weights import BUNDLED

PLACES = {"training": "data/training", "validation": "data/validation", "test": "test"}


def main() -> None:
    """Copy the files, and say how many there are of each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", metavar="FOLDER", type=Path)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("--without-sa", action="store_true")
    options = parser.parse_args()
    with open(BUNDLED / "CREDITS.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not (options.without_sa and "SA" in row["licence"])]
    for part, place in PLACES.items():
        (options.out / place).mkdir(parents=True, exist_ok=True)
        names = [row["file"] for row in rows if row["part"] == part]
        for name in names:
            shutil.copy(options.source / name, options.out / place / name)
        print(f"{part}: {len(names)} photographs in {options.out / place}")


if __name__ == "__main__":
    main()
