"""Training over several nodes, of which one loses its training process: raylets of one machine."""

import sys
from pathlib import Path

import psutil
import pytest
from test_train_job import OPTIONS, fingerprint, history, photographs, wait_for

from jobs import sgllie, start

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import faults

pytestmark = [pytest.mark.timeout(900), pytest.mark.jobs, pytest.mark.slow]


def training_processes(node) -> list[psutil.Process]:
    """Those of a node."""
    found = [child for raylet in faults.raylets(node) for child in faults.children(raylet)]
    return [process for process in found if "RayTrainWorker" in faults.name_of(process)]


def measured(run: Path) -> list[dict[str, str]]:
    """The metrics table, without times."""
    return [{name: value for name, value in row.items() if "second" not in name} for row in history(run)]


def test_a_training_process_is_killed_on_one_node_of_two_and_the_weights_are_the_same(tmp_path):
    """After each of two epochs, though only one failure is allowed: a finished epoch is a new beginning."""
    data, whole, disturbed = photographs(tmp_path / "photographs"), tmp_path / "whole", tmp_path / "disturbed"
    options = [*OPTIONS, "--epochs", "8", "--num-workers", "2", "--cache", "memory", "--max-failures", "1"]

    def finished() -> int:
        return max((int(path.parent.name[6:]) for path in disturbed.glob("checkpoints/*/state.json")), default=0)

    with faults.closing(faults.Nodes()) as nodes:
        other = nodes.add()
        options += ["--address", nodes.address]
        result = sgllie("train", data, whole, *options)
        assert result.returncode == 0, result.stdout + result.stderr
        job = start("train", data, disturbed, *options)
        epoch = 0
        for _ in range(2):
            wait_for(lambda epoch=epoch: finished() > epoch, job)
            (process,) = wait_for(lambda: training_processes(other), job)
            epoch = finished()
            process.kill()
        assert job.wait(400) == 0
    assert fingerprint(disturbed) == fingerprint(whole)
    assert measured(disturbed) == measured(whole)
