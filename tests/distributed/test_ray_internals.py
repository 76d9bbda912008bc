"""What is used of Ray without being promised by it: still there, and still doing what it is used for."""

import importlib
import subprocess
import sys
from types import SimpleNamespace

import psutil
import pytest
import ray

from sgllie.distributed import ray_internals
from sgllie.distributed.ray_internals import ENVIRONMENT, INTERNALS, Internal

pytestmark = pytest.mark.jobs


def found(name: str) -> bool:
    """Whether a dotted name leads to a thing: a module, then attributes, or fields that only an instance has."""
    module, _, rest = name.rpartition(".")
    attributes = [rest]
    while True:
        try:
            thing = importlib.import_module(module)
            break
        except ImportError:
            module, _, rest = module.rpartition(".")
            attributes.insert(0, rest)
            if not module:
                return False
    for attribute in attributes:
        if not hasattr(thing, attribute) and attribute not in getattr(thing, "__dataclass_fields__", {}):
            return False
        thing = getattr(thing, attribute, None)
    return True


@pytest.mark.parametrize("internal", INTERNALS, ids=lambda internal: internal.name)
def test_ray_has_not_moved(internal: Internal):
    assert found(internal.name), (
        f"Ray {ray.__version__} no longer has {internal.name}, which is used for {internal.purpose}. "
        f"Look for what does that now; best of all {internal.replacement}."
    )


def test_a_part_that_is_gone_is_noticed():
    for gone in ("ray._private.node.Node.begin", "ray.nowhere.Node", "ray.data.DataContext.pace"):
        assert not found(gone)


def test_a_local_cluster_has_no_service_that_a_job_does_not_use(ray_session):
    below = psutil.Process().children(recursive=True)
    lines = [" ".join(process.as_dict(["cmdline"], ad_value=[])["cmdline"]) for process in below]  # of zombies nothing
    assert any("raylet" in line for line in lines)
    for service in ("autoscaler/_private/monitor.py", "log_monitor.py", "dashboard/dashboard.py"):
        assert not any(service in line for line in lines), f"{service} runs: Ray starts it by other means now"


def test_the_scheduler_is_paced(ray_session, monkeypatch):
    """Ray Data makes the class that it was given, and calls it at each step."""
    slept = []
    monkeypatch.setattr(ray_internals, "time", SimpleNamespace(sleep=slept.append))
    context = ray.data.DataContext.get_current().copy()
    ray_internals.pace_scheduler(context)
    with ray.data.DataContext.current(context):
        assert len(ray.data.range(8, override_num_blocks=2).map_batches(lambda batch: batch).take_all()) == 8
    assert slept.count(ray_internals.PACE_SECONDS) > 0


def test_whoever_calls_ray_without_a_cluster_gets_none():
    code = "import sgllie.distributed.cluster, ray; ray.put(1)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 1
    assert "ray.init" in result.stderr


def test_the_core_reads_how_much_it_is_to_report():
    """Its C++ is not to be asked, but holds the name of the variable."""
    from ray import _raylet

    assert "RAY_BACKEND_LOG_LEVEL" in ENVIRONMENT
    with open(_raylet.__file__, "rb") as library:
        assert b"RAY_BACKEND_LOG_LEVEL" in library.read()
