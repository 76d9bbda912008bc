"""A Ceph of one node with its S3 gateway on loopback, its data in memory: a real S3 server that is strict.

Debian packages: ceph-mon ceph-osd radosgw. Started as root, since Ceph looks for folders that only root may make.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest

from disturbances import wait_for

PROGRAMS = ("ceph", "ceph-mon", "ceph-osd", "monmaptool", "radosgw", "radosgw-admin")
OWNER, STRANGER = "test", "stranger"
"""Users; each one's key and secret are its name."""

CONFIGURATION = """
[global]
fsid = {fsid}
mon initial members = a
mon host = [v1:127.0.0.1:{monitor}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
auth cluster required = none
auth service required = none
auth client required = none
run dir = {folder}/run
log file = {folder}/log/$name.log
admin socket = {folder}/run/$name.asok
pid file = {folder}/run/$name.pid
osd crush chooseleaf type = 0
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 4
osd pool default pg autoscale mode = off
# Pools are made one after another, each after a round of the monitor, which by default waits for a second.
paxos propose interval = 0.02
paxos min wait = 0.01
mon allow pool size one = true
mon max pg per osd = 1000
[mon.a]
mon data = {folder}/mon
mon data avail crit = 1
[osd.0]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
# A gateway tells all that watch of what it changes, and waits half a minute for one that was killed.
osd client watch timeout = 2
[client.rgw.a]
rgw data = {folder}/rgw
rgw frontends = beast endpoint=127.0.0.1:{gateway}
rgw thread pool size = 32
rgw cache enabled = false
"""


class Ceph:
    """Monitor, storage and gateway in a temporary folder.

    Attributes:
        endpoint: of the gateway.
    """

    def __init__(self) -> None:
        # Not pytest's own folder: the names of sockets must stay below 108 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="ceph-"))
        for name in ("mon", "osd", "log", "run", "rgw"):
            (self.folder / name).mkdir()
        self.fsid = str(uuid.uuid4())
        self.monitor, self.gateway = free_port(), free_port()
        self.endpoint = f"http://127.0.0.1:{self.gateway}"
        configuration = CONFIGURATION.format(
            fsid=self.fsid, folder=self.folder, monitor=self.monitor, gateway=self.gateway
        )
        (self.folder / "ceph.conf").write_text(configuration)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def start(self) -> None:
        """Start all, and make two users: one who will own buckets, one who has no right to them."""
        map_file = self.folder / "monmap"
        address = f"[v1:127.0.0.1:{self.monitor}]"
        self._run("monmaptool", "--create", "--addv", "a", address, "--fsid", self.fsid, map_file)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", map_file)
        self._start("ceph-mon", "-i", "a")
        disk = str(uuid.uuid4())
        self._run("ceph", "osd", "new", disk)
        self._run("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", disk)
        self._start_disk()
        self.start_gateway()
        for user in (OWNER, STRANGER):
            names = (f"--uid={user}", f"--display-name={user}", f"--access-key={user}", f"--secret={user}")
            self._run("radosgw-admin", "user", "create", *names)

    def start_gateway(self) -> None:
        """Start the gateway, and wait until it answers."""
        self._start("radosgw", "-n", "client.rgw.a")
        wait_for(self._is_ready)

    def _is_ready(self) -> bool:
        if self.processes["ceph-osd"].poll() is not None:
            self._start_disk()  # it gives up for the same reason
        return answers(self.endpoint)

    def _start_disk(self) -> None:
        self._start("ceph-osd", "-i", "0")

    def kill_gateway(self) -> None:
        """End the gateway at once, in the middle of whatever it is doing."""
        process = self.processes["radosgw"]
        process.kill()
        process.wait()

    def stop(self) -> None:
        """End all and forget what was stored."""
        for process in reversed(self.processes.values()):
            process.send_signal(signal.SIGKILL)
            process.wait()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *arguments: object) -> None:
        line = [program, "-c", str(self.folder / "ceph.conf"), *map(str, arguments)]
        for _ in range(20):
            done = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
            if "EPERM" not in done.stderr:  # it asked the monitor before it had learnt the cluster's id
                break
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"

    def _start(self, program: str, *arguments: str) -> None:
        line = [program, "-c", str(self.folder / "ceph.conf"), *arguments, "-f"]
        self.processes[program] = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def obstacle() -> str | None:
    """Why Ceph cannot be started here, if it cannot."""
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        return f"{', '.join(absent)} not installed"
    return None if os.geteuid() == 0 else "Ceph is started by root only"


def start_ceph() -> Ceph:
    """A running Ceph; the test is skipped where it cannot be started, and fails in CI."""
    if why := obstacle():
        if os.environ.get("CI") == "true":
            pytest.fail(why)
        pytest.skip(why)
    ceph = Ceph()
    try:
        ceph.start()
    except BaseException:
        ceph.stop()
        raise
    return ceph


def free_port() -> int:
    """A port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return bound.getsockname()[1]


def answers(endpoint: str) -> bool:
    """Whether a web server is there, whatever it says."""
    try:
        urllib.request.urlopen(endpoint, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
