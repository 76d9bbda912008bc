"""Lay out the photographs of the bundled weights for a training: `python benchmarks/split.py FOLDER OUT`.

FOLDER holds the files that `sgllie/network/pretrained/CREDITS.csv` names. They are copied, by the part that stands
there, to OUT/data/training, OUT/data/validation and OUT/test.
"""

import csv
import shutil
import sys
from pathlib import Path

from sgllie.network.weights import BUNDLED

PLACES = {"training": "data/training", "validation": "data/validation", "test": "test"}


def main(source: Path, out: Path) -> None:
    """Copy the files, and say how many there are of each part."""
    with open(BUNDLED / "CREDITS.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for part, place in PLACES.items():
        (out / place).mkdir(parents=True, exist_ok=True)
        names = [row["file"] for row in rows if row["part"] == part]
        for name in names:
            shutil.copy(source / name, out / place / name)
        print(f"{part}: {len(names)} photographs in {out / place}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
