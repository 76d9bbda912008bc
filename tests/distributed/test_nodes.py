"""Small versions of what benchmarks/faults.py plays: clusters of several nodes, which are lost."""

import json
import platform
import random
import subprocess
import time

import faults
import pytest
from processes import kill_all
from ray._raylet import GcsClient
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

from commands import assert_complete, make_corpus
from disturbances import slowed
from kuberay import KUBERAY
from places import HOOKS

pytestmark = [pytest.mark.timeout(600), pytest.mark.jobs]


@pytest.mark.slow
def test_nodes_share_the_work_one_joins_one_is_killed_and_the_driver_too(tmp_path, monkeypatch):
    source, output = slowed(make_corpus(tmp_path / "in", 1600)), tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", HOOKS)
    with faults.closing(faults.Nodes()) as nodes:
        gpu = nodes.add(num_gpus=2)
        job = faults.Job(source, output, "--address", nodes.address, "--device", "cpu")
        job.wait_for(lambda: all(len(nodes.workers(node)) == 1 for node in (nodes.cluster.head_node, gpu)))
        job.wait_for_images(20)
        joined = nodes.add(2)
        job.wait_for(lambda: len(nodes.workers(joined)) == 2)  # Ray Data looks for new nodes every 20 seconds
        nodes.kill(gpu)
        job.wait_for_images(20)
        kill_all([random.Random(0).choice(nodes.workers(joined))])
        job.wait_for_images(20)
        job.kill()
        assert not (output / "_SUCCESS").exists()
        job.begin()
        job.end()
    rows = assert_complete(source, output)
    assert max(row["attempt"] for row in rows) > 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "workers", "cpus", "gpus"),
    [
        ([], [3, 4], 1, 0.25),  # a CPU for each, though four might share a GPU
        # They have the CPUs that they use.
        pytest.param(["--threads", "2"], [1, 2], 2, 0.25, marks=pytest.mark.long),
        pytest.param(["--workers-per-gpu", "1"], [1, 2], 2, 1, marks=pytest.mark.long),
    ],
)
def test_workers_go_where_the_gpus_are(tmp_path, monkeypatch, options, workers, cpus, gpus):
    """The GPUs are pretended: of three nodes two have some, and the job is told nothing of it."""
    source, output = slowed(make_corpus(tmp_path / "in", 400)), tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", HOOKS)
    monkeypatch.setenv("PRETEND_CUDA", "yes")
    with faults.closing(faults.Nodes()) as nodes:
        one, two = nodes.add(3, num_gpus=1), nodes.add(4, num_gpus=2)
        job = faults.Job(source, output, "--address", nodes.address, "--scale-factor", "2", *options)
        job.wait_for(lambda: [len(nodes.workers(node)) for node in (one, two)] == workers)
        assert len(nodes.workers()) == sum(workers)
        said = job.end()
    assert "1 CPUs of nodes without a GPU are not used" in said
    assert {row["device"] for row in assert_complete(source, output)} == {"cuda"}
    spent = json.loads((output / "_SUCCESS").read_text())
    assert spent["core_seconds"] / spent["gpu_seconds"] == pytest.approx(cpus / gpus, rel=1e-3), "by what Ray gave them"


@pytest.mark.slow
def test_a_job_that_waits_for_a_gpu_is_cut_to_the_node_that_has_it(tmp_path, monkeypatch):
    """The GPU is pretended."""
    source, output = slowed(make_corpus(tmp_path / "in", 100)), tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", HOOKS)
    monkeypatch.setenv("PRETEND_CUDA", "yes")
    with faults.closing(faults.Nodes()) as nodes:
        job = faults.Job(source, output, "--address", nodes.address, "--device", "cuda", "--workers-per-gpu", 1)
        job.wait_for(lambda: list(output.glob("manifest/*")))
        nodes.add(4, num_gpus=1)
        said = job.end()
    assert "Computing on the GPUs, with up to 1 workers of 4 CPUs." in said
    assert {row["device"] for row in assert_complete(source, output)} == {"cuda"}
    spent = json.loads((output / "_SUCCESS").read_text())
    assert spent["core_seconds"] / spent["gpu_seconds"] == pytest.approx(4, rel=1e-3)


@pytest.mark.slow
def test_a_gpu_that_does_not_work_gets_no_more_work_and_no_image_is_blamed(tmp_path, monkeypatch):
    """It is pretended, and fails at every image as torch says that a GPU has failed; retries are done on the CPU."""
    source, output = make_corpus(tmp_path / "in", 30), tmp_path / "out"
    for name, value in {"PYTHONPATH": HOOKS, "PRETEND_CUDA": "yes", "BROKEN_GPU": "at every image"}.items():
        monkeypatch.setenv(name, value)
    with faults.closing(faults.Nodes()) as nodes:
        nodes.add(num_gpus=1)
        options = ("--device", "cuda", "--shard-images", 10)
        said = faults.Job(source, output, "--address", nodes.address, *options).end()
    rows = assert_complete(source, output)
    assert {row["device"] for row in rows} == {"cpu"}
    assert sorted(row["attempt"] for row in rows) == [1] * 10 + [2] * 20
    told = f"Computing on the CPU instead: on {platform.node()} the GPU does not work: CUDA error: an illegal memory"
    assert said.count(told) == 1


@pytest.mark.slow
def test_where_no_gpu_can_be_opened_the_cpu_takes_over_unless_a_gpu_is_demanded(tmp_path, monkeypatch):
    """It is pretended, and has no room for a worker."""
    source, output = make_corpus(tmp_path / "in", 30), tmp_path / "out"
    for name, value in {"PYTHONPATH": HOOKS, "PRETEND_CUDA": "yes", "BROKEN_GPU": "full"}.items():
        monkeypatch.setenv(name, value)
    told = f"the GPU of {platform.node()} cannot be opened (the memory of the GPU is full); there `python -c "
    with faults.closing(faults.Nodes()) as nodes:
        nodes.add(num_gpus=1)
        said = faults.Job(source, output, "--address", nodes.address, "--device", "cuda").end(1)
        assert f"Stopped: {told}" in said
        assert not list(output.glob("images/*/*"))
        said = faults.Job(source, output, "--address", nodes.address, "--scale-factor", 2, "--overwrite").end()
        assert said.count(f"Computing on the CPU instead: {told}") == 1
    assert {(row["device"], row["attempt"]) for row in assert_complete(source, output)} == {("cpu", 1)}


@pytest.mark.slow
def test_a_node_that_is_drained_is_left(tmp_path, monkeypatch):
    """As the autoscaler drains a spot machine that is taken back: what is done is kept, and no image is blamed."""
    source, output = slowed(make_corpus(tmp_path / "in", 400)), tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", HOOKS)
    with faults.closing(faults.Nodes()) as nodes:
        drained = nodes.add()
        job = faults.Job(source, output, "--address", nodes.address, "--device", "cpu")
        job.wait_for(lambda: nodes.workers(drained))
        job.wait_for_images(60)
        (worker,) = nodes.workers(drained)
        # As `ray drain-node` does, which takes seconds to start.
        client, spot = GcsClient(address=nodes.address), DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        accepted, _ = client.drain_node(drained.node_id, spot, "", int(time.time() + 30) * 1000)
        assert accepted
        asked = time.monotonic()
        job.wait_for(lambda: list(output.glob(".partial/shard-*/left-1")))
        left = time.monotonic() - asked
        before = {path: path.stat().st_ino for path in output.glob("images/*/*.jpg")}
        job.wait_for(lambda: not worker.is_running())
        job.end()
    rows = assert_complete(source, output)
    # None, where the drain came just as the last image of a shard was done.
    assert len({row["shard"] for row in rows if row["attempt"] == 2}) <= 1
    assert {row["attempt"] for row in rows} <= {1, 2}
    twice = [path for path, number in before.items() if path.stat().st_ino != number]
    assert len(twice) <= 3, "what the worker had in hand, with two threads and one that waits"
    assert left < 10, "a second or two, on a machine that is not busy"


@pytest.mark.slow
@pytest.mark.alone
def test_workers_of_a_pod_that_is_to_end_save_what_they_have_done(tmp_path, monkeypatch):
    """By what Kubernetes runs in it first, for which all workers of this machine are in the pod."""
    source, output = slowed(make_corpus(tmp_path / "in", 300)), tmp_path / "out"
    monkeypatch.setenv("PYTHONPATH", HOOKS)
    (workers,) = KUBERAY["rayjob-enhance"]["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    hook = workers["template"]["spec"]["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    with faults.closing(faults.Nodes()) as nodes:
        job = faults.Job(source, output, "--address", nodes.address, "--device", "cpu")
        job.wait_for_images(42)  # in the middle of the second shard of 32
        subprocess.run(hook, check=True)
        assert list(output.glob(".partial/shard-*/left-1"))
        before = {path: path.stat().st_ino for path in output.glob("images/*/*.jpg")}
        job.end()
    rows = assert_complete(source, output)
    assert {row["attempt"] for row in rows} == {1, 2}
    assert sum(path.stat().st_ino != number for path, number in before.items()) <= 3, "what the worker had in hand"


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [faults.head_killed, faults.disk_full])
def test_the_end_of_a_cluster_and_of_a_disk(tmp_path, scenario):
    source, output = make_corpus(tmp_path / "in", 1000, size=(240, 320)), tmp_path / "out"
    try:
        scenario(source, output)
    except faults.SkippedError as error:
        pytest.skip(str(error))
    assert_complete(source, output)
