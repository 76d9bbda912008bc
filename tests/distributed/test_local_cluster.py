"""What a local cluster shows of itself: nothing to other machines or users, and nothing when it is over."""

import ipaddress
import json
import os
import signal as signals
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from disturbances import wait_for

pytestmark = pytest.mark.jobs

LEFT = """
import sys, time
from sgllie.distributed.cluster import Connection

with Connection(None) as connection:
    connection.wait()
    print(connection.folder.name, flush=True)
    time.sleep(600)
"""

JOB = """
import json, os, stat, sys
import psutil
import ray
from sgllie.distributed.cluster import Connection

os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
with Connection(None) as connection:
    connection.wait()
    ray.get(ray.remote(lambda: 0).remote())  # one worker at least
    job = psutil.Process()
    listening = [
        (process.name(), socket.laddr.ip)
        for process in (job, *job.children(recursive=True))
        for socket in process.net_connections("inet")
        if socket.status == psutil.CONN_LISTEN
    ]
    folder = connection.folder.name
    seen = {"listening": listening, "folder": folder, "mode": stat.S_IMODE(os.stat(folder).st_mode)}
    json.dump(seen | {"processors": ray.cluster_resources()["CPU"]}, sys.stdout)
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """What was seen during a local job, the home of its user, and what it left in Ray's own place."""
    home, place = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("ray")
    hidden = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_ADDRESS")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    environment |= {"HOME": str(home), "RAY_TMPDIR": str(place)}
    seen = json.loads(subprocess.check_output([sys.executable, "-c", JOB], env=environment, timeout=300))
    return seen | {"home": home, "left": list(place.iterdir())}


def test_all_ports_are_on_the_loopback_interface(job):
    addresses = {ipaddress.ip_address(address.removeprefix("::ffff:")) for _, address in job["listening"]}
    assert len(job["listening"]) > 3
    assert all(address.is_loopback for address in addresses)


def test_it_has_the_processors_that_the_job_may_use(job):
    assert job["processors"] == 1


def test_nothing_is_left_and_nobody_else_may_look(job):
    assert job["mode"] == 0o700
    assert not Path(job["folder"]).exists()
    assert not job["left"]


def test_no_token_is_written_where_others_can_read_it(job):
    assert not list(job["home"].rglob("*token*"))


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM", pytest.param("SIGKILL", marks=pytest.mark.slow)])
def test_nothing_is_left_of_a_command_that_is_ended(signal):
    with subprocess.Popen([sys.executable, "-c", LEFT], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as job:
        folder = Path(job.stdout.readline().decode().strip())
        assert folder.is_dir()
        below = psutil.Process(job.pid).children(recursive=True)
        job.send_signal(getattr(signals, signal))
        job.wait(60)
    wait_for(lambda: not folder.exists(), 60)
    _, alive = psutil.wait_procs(below, 120)
    assert not alive
