"""Files as damage or malice could have made them: one sentence for each, and no crash, no waiting, no memory lost.

The mutations are drawn from fixed seeds. A finding is mended, and gets a test of its own beside what it was found in.
"""

import os
import subprocess
import sys

import pytest

from places import ROOT

FUZZERS = ROOT / "tests/support/fuzzers.py"


@pytest.mark.fuzz
@pytest.mark.parametrize(
    ("target", "mutations"), [("images", 500), ("lists", 200), ("run_files", 150), ("weights", 200)]
)
def test_mutated_files_are_refused_in_one_sentence(tmp_path, target, mutations):
    command = [sys.executable, "-W", "ignore", FUZZERS, target, tmp_path, str(mutations)]
    environment = os.environ | {"OPENCV_LOG_LEVEL": "SILENT", "PYTHONPATH": str(ROOT / "benchmarks")}
    run = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert run.stdout == ""
    assert run.returncode == 0, ((tmp_path / "current").read_text(), run.stderr[-1000:])
