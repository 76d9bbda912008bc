"""Helpers of the tests that run whole jobs: make a corpus, run the command, check what came out against the promise."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import processes
import psutil
import pyarrow.dataset as ds
from pictures import make_corpus as make_corpus  # which tests of jobs find here

from sgllie.runs.journal import folder_of
from sgllie.runs.run_file import identity_of
from sgllie.storage import open_storage


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
    driver = psutil.Process(job.pid)
    processes.kill_all([driver, *processes.below(driver)])
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
