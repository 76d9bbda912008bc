"""Fixtures that every test may use."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sgllie.storage import S3Options

# A machine that is busy with the jobs of other tests is no fault of the property that is tested.
settings.register_profile("sgllie", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sgllie")

SHARED = Path(os.environ.get("SGLLIE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all jobs that run inside the test process."""
    import ray

    ray.init(num_cpus=4, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with reference values and photographs; tests that need it skip without it, and fail in CI."""
    if not (SHARED / "reference").is_dir():
        message = "the folder with reference values is absent (set SGLLIE_SHARED to it)"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def s3_server():
    """A moto server; its endpoint."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL
    )
    endpoint = f"http://127.0.0.1:{port}"
    for _ in range(300):
        try:
            urllib.request.urlopen(endpoint)
            break
        except OSError:
            time.sleep(0.1)
    yield endpoint
    server.kill()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """Options for the moto server, with credentials in the environment and an empty bucket `bucket`."""
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    options = S3Options(endpoint_url=s3_server, region="us-east-1")
    filesystem = s3fs.S3FileSystem(endpoint_url=s3_server, skip_instance_cache=True)
    if filesystem.exists("bucket"):
        filesystem.rm("bucket", recursive=True)
    filesystem.mkdir("bucket")
    return options
