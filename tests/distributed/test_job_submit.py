"""All jobs as people send them to a cluster: `ray job submit` to a real head with a dashboard that asks for a token."""

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from clips import static, write_clip
from commands import assert_complete, kill_all, make_corpus, rows_of
from disturbances import wait_for
from places import HOOKS, ROOT
from trainings import EPOCHS, OPTIONS, history, photographs

pytestmark = [pytest.mark.timeout(600), pytest.mark.jobs]

RAY = str(Path(sys.executable).with_name("ray"))
SECONDS = 300
"""For whatever is waited for: a start of Ray takes a minute on a machine that is busy."""


@dataclass(frozen=True)
class Head:
    """A Ray head on this machine.

    Attributes:
        address: of the dashboard, where jobs are sent.
        environment: of whoever sends them, with the token.
        folder: Ray's own files.
    """

    address: str
    environment: dict[str, str]
    folder: Path

    def job(self, *arguments: object, **changes: str) -> subprocess.CompletedProcess[str]:
        """Run `ray job ...`, from the root of the checkout, to its end."""
        line = [RAY, "job", *map(str, arguments)]
        environment = self.environment | changes
        return subprocess.run(
            line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
        )

    def submit(self, *entrypoint: object, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Send a job and follow it."""
        line = ["python", *map(str, entrypoint)]
        return self.job("submit", "--address", self.address, "--working-dir", ".", *options, "--", *line)

    def stop_after_first(self, output: Path, pattern: str, *entrypoint: object) -> None:
        """Send a job, and stop it once a file of its output matches the pattern; none of its workers writes another."""
        name = f"stopped-{secrets.token_hex(4)}"
        hold = json.dumps({"env_vars": {"PYTHONPATH": HOOKS, "HOLD": pattern}})
        options = ("--no-wait", "--submission-id", name, "--runtime-env-json", hold)
        sent = self.submit(*entrypoint, options=options)
        assert sent.returncode == 0, sent.stdout + sent.stderr
        wait_for(lambda: any(output.glob(pattern)), SECONDS)
        stopped = self.job("stop", "--address", self.address, name)
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
        status = self.job("status", "--address", self.address, name)
        assert "stopped" in status.stdout.lower(), status.stdout + status.stderr
        assert not (output / "_SUCCESS").exists()


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [bound.getsockname()[1] for bound in sockets]
    finally:
        for bound in sockets:
            bound.close()


def status_without_token(address: str) -> int:
    """What the dashboard answers to a stranger who asks for the jobs; 0 if it does not answer."""
    try:
        with urllib.request.urlopen(f"{address}/api/jobs/") as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Started as on a cluster, ended with all that it started."""
    gcs, dashboard, agent, client, metrics = free_ports(5)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {
        # Entrypoints say `python`, and get the one that Ray was started with.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }
    ports = f"--port {gcs} --dashboard-port {dashboard} --dashboard-agent-listen-port {agent}"
    ports += f" --ray-client-server-port {client} --metrics-export-port {metrics}"
    sizes = "--num-cpus 2 --object-store-memory 200000000 --disable-usage-stats"
    # Not pytest's own folder: the names of Ray's sockets must stay below 108 characters.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        line = f"{RAY} start --head --block --dashboard-host 127.0.0.1 --temp-dir {folder} {ports} {sizes}"
        address = f"http://127.0.0.1:{dashboard}"
        process = subprocess.Popen(line.split(), env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: process.poll() is not None or status_without_token(address), SECONDS)
            assert process.poll() is None, "Ray did not start"
            yield Head(address, environment, Path(folder))
        finally:
            kill_all(process)


def test_a_job_is_followed_to_its_end(head, tmp_path):
    source, output = make_corpus(tmp_path / "in", 60), tmp_path / "out"
    job = head.submit("jobs/enhance.py", source, output)
    assert job.returncode == 0, job.stdout + job.stderr
    assert "60 images: 60 enhanced" in job.stdout
    assert "succeeded" in job.stdout
    assert_complete(source, output)
    # What was sent is the code of the jobs, and nothing else of the checkout.
    packages = head.folder.glob("session_latest/runtime_resources/working_dir_files/_ray_pkg_*/*")
    assert {path.name for path in packages} == {"jobs", "sgllie"}


def test_a_job_that_failed_says_so(head, tmp_path):
    source, output = make_corpus(tmp_path / "in", 10), tmp_path / "out"
    (source / "000/00003.jpg").write_bytes(b"no image")
    job = head.submit("jobs/enhance.py", source, output)
    assert job.returncode == 1
    assert "failed with exit code 3" in job.stdout
    assert "9 enhanced, 1 failed (1 not_an_image)" in job.stdout
    assert_complete(source, output, failed=1)


@pytest.mark.parametrize("script", ["enhance", "train", "video", "evaluate", "compare"])
def test_a_mistake_is_one_sentence(head, tmp_path, script):
    named = () if script in ("enhance", "train", "video") else ("--out",)
    job = head.submit(f"jobs/{script}.py", tmp_path / "nowhere", *named, tmp_path / "out")
    assert job.returncode == 1
    assert "failed with exit code 2" in job.stdout
    assert re.search(rf"^sgllie {script}: .*nowhere", job.stdout, re.MULTILINE)
    assert "Traceback" not in job.stdout


@pytest.mark.slow
def test_stopped_in_the_middle_and_submitted_again(head, tmp_path):
    source, output = make_corpus(tmp_path / "in", 600), tmp_path / "out"
    job = ("jobs/enhance.py", source, output, "--shard-images", 100)
    head.stop_after_first(output, "commits/*.parquet", *job)
    first = {path: path.stat().st_mtime_ns for path in output.glob("commits/*.parquet")}
    assert 0 < len(first) < 6
    again = head.submit(*job)
    assert again.returncode == 0, again.stdout + again.stderr
    assert_complete(source, output)
    assert all(path.stat().st_mtime_ns == written for path, written in first.items())


@pytest.mark.slow
def test_training_stopped_and_submitted_again(head, tmp_path):
    data, run = photographs(tmp_path / "photographs"), tmp_path / "run"
    job = ("jobs/train.py", data, run, *OPTIONS)
    head.stop_after_first(run, "checkpoints/*/state.json", *job)
    again = head.submit(*job)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "Going on after epoch" in again.stdout
    assert [int(row["epoch"]) for row in history(run)] == list(range(1, EPOCHS + 1))


@pytest.mark.slow
@pytest.mark.long
def test_videos_stopped_and_submitted_again(head, tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for number in range(3):
        write_clip(source / f"{number}.mp4", static(60), sound=False)
    job = ("jobs/video.py", source, output, "--preset", "ultrafast", "--threads", 1, "--segment-seconds", 0.5)
    head.stop_after_first(output, "segments/*.parquet", *job)
    again = head.submit(*job)
    assert again.returncode == 0, again.stdout + again.stderr
    totals = json.loads((output / "_SUCCESS").read_text())
    assert (totals["videos"], totals["ok"]) == (3, 3)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("script", ["evaluate", "compare"])
def test_measurements_stopped_and_submitted_again(head, tmp_path, script):
    source, output = make_corpus(tmp_path / "in", 600, size=(200, 250)), tmp_path / "out"
    options = {"evaluate": ("--metrics", "niqe"), "compare": ("--metrics", "brisque", "--methods", "gamma,lime")}[
        script
    ]
    job = (f"jobs/{script}.py", source, "--out", output, "--shard-images", 50, *options)
    head.stop_after_first(output, "commits/*.parquet", *job)
    again = head.submit(*job)
    assert again.returncode == 0, again.stdout + again.stderr
    rows = rows_of(output)
    measured = {(row["path"], row.get("method")) for row in rows}
    assert len(measured) == len(rows) == 600 * (1 if script == "evaluate" else 3)
    assert all(row["status"] == "ok" for row in rows)


def test_a_stranger_is_turned_away(head):
    assert status_without_token(head.address) == 401
    listed = head.job("list", "--address", head.address, RAY_AUTH_TOKEN="guessed")
    assert listed.returncode != 0
    assert "token" in listed.stderr.lower()
