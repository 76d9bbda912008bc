"""Helpers of the tests that run whole jobs: make a corpus, run the command, check what came out against the promise."""

import contextlib
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import psutil
import pyarrow.dataset as ds

from sgllie.runs.journal import folder_of
from sgllie.runs.run_file import identity_of
from sgllie.storage import open_storage


def make_corpus(folder: Path, count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    """`count` dark JPEGs, all different, a hundred in each sub-folder."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        path = folder / f"{number // 100:03d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = cv2.resize(generator.integers(0, 90, (6, 8, 3), dtype=np.uint8), size[::-1])
        cv2.imwrite(str(path), pixels)
    return folder


def command(*arguments: object) -> list[str]:
    """The command line of `sgllie` with the Python that runs the tests."""
    return [sys.executable, "-m", "sgllie", *map(str, arguments)]


def sgllie(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command to its end."""
    merged = os.environ | environment
    return subprocess.run(command(*arguments), capture_output=True, text=True, env=merged, timeout=600, check=False)


def start(*arguments: object, **environment: str) -> subprocess.Popen[bytes]:
    """Begin the command beside this process."""
    merged, nowhere = os.environ | environment, subprocess.DEVNULL
    return subprocess.Popen(command(*arguments), stdout=nowhere, stderr=nowhere, env=merged)


def kill_all(job: subprocess.Popen[bytes]) -> None:
    """End a driver and all that it started at once, as a power cut would, unless it has ended."""
    if job.poll() is not None:
        return
    below = psutil.Process(job.pid).children(recursive=True)
    for process in (job, *below):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    job.wait()


def rows_of(output: Path, folder: str = "stats") -> list[dict[str, object]]:
    """All rows of statistics; those of an unfinished run are among its commits."""
    return ds.dataset(output / folder).to_table().to_pylist()


def journal_of(output: Path, shard: int) -> Path:
    """The folder of the journal of a shard."""
    return output / folder_of(shard, identity_of(open_storage(str(output))))


def assert_complete(source: Path, output: Path, failed: int = 0) -> list[dict[str, object]]:
    """One row for each input, each ok row with an output whose hash matches, and nothing else in the output."""
    rows = rows_of(output)
    listed = sorted(str(path.relative_to(source)) for path in source.rglob("*") if path.is_file())
    assert sorted(row["path"] for row in rows) == listed
    good = [row for row in rows if row["status"] in ("ok", "copied")]
    assert len(rows) - len(good) == failed
    for row in good:
        assert hashlib.sha256((output / row["output"]).read_bytes()).hexdigest() == row["sha256_out"]
    written = {str(path.relative_to(output)) for path in (output / "images").rglob("*") if path.is_file()}
    assert written == {row["output"] for row in good}
    top = {path.name for path in output.iterdir()}
    assert top - {"images"} == {"stats", "commits", "manifest", "run.json", "_SUCCESS"}
    totals = json.loads((output / "_SUCCESS").read_text())
    assert (totals["images"], totals["failed"]) == (len(listed), failed)
    return rows
