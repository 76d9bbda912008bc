"""What benchmarks/gpu.py does on a machine without a GPU, and where a process of it fails."""

import os
import subprocess
from concurrent.futures.process import BrokenProcessPool

import gpu
import pytest

from places import ROOT
from sgllie.errors import UsageError

HOOKS = ROOT / "tests/support/hooks"
KILLER = b"KILL THE DECODER"


@pytest.mark.jobs
@pytest.mark.timeout(120)
def test_a_process_that_fails_ends_the_measurement_of_its_team():
    with pytest.raises(UsageError, match="zero-dce comes without weights"):
        gpu.rate(gpu.photograph((64, 48)), gpu.Team("cpu", 2, 1), gpu.Network("zero-dce", None, 12), 0.1)


@pytest.mark.jobs
@pytest.mark.timeout(120)
def test_a_process_that_dies_ends_the_measurement_of_its_team(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(HOOKS))
    with pytest.raises(BrokenProcessPool):
        gpu.rate(gpu.photograph((64, 48)) + KILLER, gpu.Team(None, 2, 1), gpu.Network("sgz", None, 12), 0.1)


@pytest.mark.jobs
def test_a_training_step():
    from steps import measured

    assert " ms" in measured("default", "cpu", 0)


@pytest.mark.parametrize("failing", ["pytest", "python"])
def test_the_benchmark_runs_though_a_test_on_the_gpu_has_failed(tmp_path, failing):
    for name in ("pip", "pytest", "python"):
        script = tmp_path / name
        script.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/ran\nexit {int(name == failing)}\n')
        script.chmod(0o755)
    line = ["make", "gpu", f"BIN={tmp_path}", "--assume-old", ".venv/tests"]
    result = subprocess.run(line, cwd=ROOT, env=os.environ, capture_output=True)
    assert result.returncode != 0
    ran = (tmp_path / "ran").read_text().splitlines()
    assert [words.split()[0] for words in ran] == ["pip", "pytest", "python"]
    assert ".[dev,gpu]" in ran[0]
