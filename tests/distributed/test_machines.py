"""The page's section on a few machines, its commands word for word, on two.

Each has a network, processes, a host name, a home and a /tmp of its own, as Linux's namespaces give them.
"""

import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from ray._private.utils import get_num_cpus

from commands import assert_complete, make_corpus
from places import HOOKS, ROOT
from sgllie.distributed.cluster import STARTS
from trainings import OPTIONS, fingerprint, photographs, training_processes

pytestmark = pytest.mark.jobs

SECTION = (ROOT / "cluster/README.md").read_text().split("\n## A few machines\n")[1].split("\n## ")[0]
FIRST, SECOND = "10.213.7.1", "10.213.7.2"


class Machine:
    """Looks like a machine from within; what it is to share with others lies in `shared`.

    Attributes:
        address: of its only network; its host name is made of it, and known to nobody.
    """

    def __init__(self, address: str, shared: Path) -> None:
        self.address, self.shared = address, shared
        self.home = shared / "homes" / address
        self.home.mkdir(parents=True)
        kept = dict(enumerate((ROOT, Path(sys.prefix), shared)))  # any of them may lie in /tmp
        lines = [
            "set -e",
            f"echo m-{address.replace('.', '-')} > /proc/sys/kernel/hostname",
            "mount -t tmpfs tmpfs /mnt",
        ]
        lines += [f"mkdir /mnt/{number}; mount --bind {path} /mnt/{number}" for number, path in kept.items()]
        lines += ["mount -t tmpfs tmpfs /tmp", "mount -t tmpfs tmpfs /dev/shm"]
        lines += [f"mkdir -p {path}; mount --bind /mnt/{number} {path}" for number, path in kept.items()]
        lines += ["ip link set lo up", "echo up", "exec sleep infinity"]
        line = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        self.process = subprocess.Popen([*line, "bash", "-c", "\n".join(lines)], stdout=subprocess.PIPE, text=True)
        if self.process.stdout.readline() != "up\n":
            pytest.skip("not allowed to make namespaces")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        self.inside = children.read_text().strip()

    def run(self, commands: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run shell commands there, in the checkout, to their end."""
        here = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(self.home)} | environment
        line = ["nsenter", "--target", self.inside, "--net", "--mount", "--uts", "--pid", f"--wd={ROOT}"]
        return subprocess.run(
            [*line, "bash", "-ec", commands], env=here, capture_output=True, text=True, timeout=150, check=False
        )

    def stop(self) -> None:
        """Cut the power."""
        self.process.kill()
        self.process.wait()


@pytest.fixture
def machines(tmp_path):
    """Two, joined by a cable."""
    if shutil.which("ip") is None or os.geteuid():
        pytest.skip("iproute2 is not installed, or this is not root")
    one, two = Machine(FIRST, tmp_path), Machine(SECOND, tmp_path)
    cable = f"ip link add eth0 netns {one.inside} type veth peer name eth0 netns {two.inside}"
    subprocess.run(cable.split(), check=True)
    for machine in (one, two):
        # Ray knows a machine by the address from which it would go out into the world.
        up = machine.run(
            f"ip addr add {machine.address}/24 dev eth0; ip link set eth0 up; ip route add default dev eth0"
        )
        assert up.returncode == 0, up.stderr
    yield one, two
    for machine in (one, two):
        machine.stop()


def start_ray(machine: Machine, commands: str) -> None:
    """Ray waits half a minute for its own processes, which is too little on a machine that is busy."""
    for _ in range(STARTS):
        started = machine.run(commands, PYTHONPATH=str(HOOKS))
        if started.returncode == 0:
            return
        machine.run("ray stop --force")
    pytest.fail(started.stdout + started.stderr)


@pytest.mark.long
def test_a_few_machines_by_the_page(machines, tmp_path):
    one, two = machines
    start_first, start_others, submit = re.findall(r"^```\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)
    copy = f'scp() {{ cp "{tmp_path}/homes/${{1/://}}" "$2"; }}\n'  # no machine has a server for the real one
    for machine, commands in ((one, start_first), (two, copy + start_others.replace("FIRST", FIRST))):
        start_ray(machine, commands)

    def send(job: str) -> str:
        before, given, _ = submit.partition("python jobs/enhance.py s3://my-bucket/dark s3://my-bucket/bright")
        assert given, "the page sends another job"
        sent = one.run(before + job, RAY_AUTH_MODE="token")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        return sent.stdout

    source, output = make_corpus(tmp_path / "in", 200), tmp_path / "out"
    for path in source.rglob("*.jpg"):
        path.write_bytes(path.read_bytes() + b"WAIT WITH ME")
    send(f"python jobs/enhance.py {source} {output}")
    rows = assert_complete(source, output)
    assert len({row["node"] for row in rows}) == 2

    # One training process has room on a machine, so the two must find each other over the network.
    pictures, whole, disturbed = (tmp_path / name for name in ("photographs", "whole", "disturbed"))
    photographs(pictures)
    options = f"{' '.join(OPTIONS)} --epochs 6 --num-workers 2 --cpus-per-worker {get_num_cpus()}"
    assert "Finished" in send(f"python jobs/train.py {pictures} {whole} {options}")
    with ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send, f"python jobs/train.py {pictures} {disturbed} {options}")
        while not list(disturbed.glob("checkpoints/*/state.json")):
            assert not sent.done(), sent.result()
            time.sleep(0.02)
        (process,) = training_processes(psutil.Process(int(two.inside)))
        process.kill()
        assert "Finished" in sent.result()
    assert fingerprint(disturbed) == fingerprint(whole)
