"""Training over several nodes, of which one loses its training process, or is lost: raylets of one machine."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import faults
import pytest

from commands import command, sgllie, start
from disturbances import wait_for
from trainings import OPTIONS, fingerprint, history, photographs, training_processes

pytestmark = [pytest.mark.timeout(900), pytest.mark.jobs, pytest.mark.long]

ALL = "training_|validation_"
"""How the columns begin that times play no part in."""


def measured(run: Path, columns: str = ALL) -> list[dict[str, str]]:
    """The columns of the metrics table whose names match."""
    return [{name: value for name, value in row.items() if re.match(columns, name)} for row in history(run)]


def test_a_training_shrinks_with_its_machines_and_grows_again(tmp_path):
    """Of two nodes one is lost, with the photographs that it keeps, and another comes; no command is given again."""
    data, run = tmp_path / "photographs", tmp_path / "run"
    photographs(data)
    options = [*OPTIONS, "--epochs", "40", "--cache", "memory", "--num-workers", "2", "--min-workers", "1"]
    with faults.closing(faults.Nodes()) as nodes:
        other = nodes.add()
        arguments = command("train", data, run, *options, "--address", nodes.address)
        job = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        wait_for(lambda: finished(run), beside=job)
        nodes.kill(other)
        epoch = finished(run)
        wait_for(lambda: finished(run) > epoch + 1, beside=job)
        other = nodes.add()
        wait_for(lambda: training_processes(faults.raylets(other)[0]), beside=job)
        said, _ = job.communicate(timeout=400)
        assert job.returncode == 0, said
    assert "Training with 1 of 2 processes." in said
    assert said.index("Training with 1 of 2") < said.index("Training with 2 of 2 processes.")
    assert [row["epoch"] for row in history(run)] == [str(1 + n) for n in range(40)]


HELD = """
import sys, time, ray
ray.init(sys.argv[1], log_to_driver=False)

@ray.remote(num_cpus=1, resources={"other": 1})
class Other:
    pass

other = Other.remote()
ray.get(other.__ray_ready__.remote())
print("held", flush=True)
time.sleep(10**6)
"""


def test_a_training_goes_on_beside_a_node_that_another_job_uses(tmp_path, monkeypatch):
    """It waits for its room once, and begins anew once that job has ended, not after each epoch before."""
    data, run = tmp_path / "photographs", tmp_path / "run"
    photographs(data)
    monkeypatch.setenv("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "5")
    options = [*OPTIONS, "--epochs", "40", "--num-workers", "2", "--min-workers", "1"]
    with faults.closing(faults.Nodes()) as nodes:
        nodes.add(resources={"other": 1})
        other = subprocess.Popen([sys.executable, "-c", HELD, nodes.address], stdout=subprocess.PIPE, text=True)
        try:
            assert other.stdout.readline() == "held\n"
            arguments = command("train", data, run, *options, "--address", nodes.address)
            job = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
            wait_for(lambda: finished(run) > 3, beside=job)
        finally:
            other.kill()
            other.wait()
        said, _ = job.communicate(timeout=400)
    assert job.returncode == 0, said
    told = [line for line in said.splitlines() if line.startswith(("Waiting", "Training with"))]
    assert told == [
        "Waiting for room for 2 training processes of 1 CPU each: the cluster has room for 2, and others leave room "
        "for 1.",
        "Training with 1 of 2 processes.",
        "Training with 2 of 2 processes.",
    ]
    assert [row["epoch"] for row in history(run)] == [str(1 + n) for n in range(40)]


def finished(run: Path) -> int:
    """How many epochs are done."""
    return max((int(path.parent.name[6:]) for path in run.glob("checkpoints/*/state.json")), default=0)


def test_a_lost_process_costs_its_epoch_and_a_lost_node_its_place(tmp_path):
    """Of two nodes one loses its training process after each of two epochs, though only one failure is allowed: a
    finished epoch is a new beginning. Then the node is lost, and the same command goes on with one process.
    """
    data, whole, killed, fewer = (tmp_path / name for name in ("photographs", "whole", "killed", "fewer"))
    photographs(data)
    options = [*OPTIONS, "--epochs", "8", "--cache", "memory", "--max-failures", "1"]

    with faults.closing(faults.Nodes()) as nodes:
        other = nodes.add()
        options += ["--address", nodes.address]
        result = sgllie("train", data, whole, *options, "--num-workers", "2")
        assert result.returncode == 0, result.stdout + result.stderr

        job = start("train", data, killed, *options, "--num-workers", "2")
        epoch = 0
        for _ in range(2):
            wait_for(lambda epoch=epoch: finished(killed) > epoch, beside=job)
            (process,) = wait_for(lambda: training_processes(faults.raylets(other)[0]), beside=job)
            epoch = finished(killed)
            process.kill()
        assert job.wait(400) == 0

        job = start("train", data, fewer, *options, "--num-workers", "2")
        wait_for(lambda: finished(fewer), beside=job)
        nodes.kill(other)
        job.send_signal(signal.SIGINT)
        assert job.wait(60) == 1
        result = sgllie("train", data, fewer, *options, "--num-workers", "1")
        assert result.returncode == 0, result.stdout + result.stderr
        assert "Going on after epoch" in result.stdout
    assert fingerprint(killed) == fingerprint(whole)
    assert measured(killed) == measured(whole)
    losses = rf"({ALL})(loss|total_variation|spatial|colour|exposure)$"
    for one, two in zip(measured(fewer, losses), measured(whole, losses), strict=True):
        assert {name: float(value) for name, value in one.items()} == pytest.approx(
            {name: float(value) for name, value in two.items()}, rel=1e-3
        )
