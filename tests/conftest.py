"""Fixtures that every test may use."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from disturbances import wait_for
from emulators import azurite, empty_place, gcs_emulator
from radosgw import OWNER, Ceph, answers, free_port, obstacle, start_ceph
from sgllie import Enhancer
from sgllie.cli import main
from sgllie.storage import S3Options

# A machine that is busy with the jobs of other tests is no fault of the property that is tested.
settings.register_profile("test", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("check", settings.get_profile("test"), max_examples=20)

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
SHARED = Path(os.environ.get("SGLLIE_SHARED", Path(__file__).resolve().parents[2] / "shared"))


STARTS = {"ray_session", "ceph", "moto", "azure", "gcs", "s3", "empty_bucket", "browser"}
"""Fixtures that start a cluster, a server or a browser."""


def is_check(config: pytest.Config) -> bool:
    """Tell whether this is the fast loop."""
    return "not jobs" in config.option.markexpr


def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples are drawn of a property."""
    settings.load_profile("check" if is_check(config) else "test")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave a file unread whose tests are all marked `jobs` where these are left out: its imports take seconds."""
    if is_check(config) and collection_path.suffix == ".py":
        return bool(re.search(r"(?m)^pytestmark = .*pytest\.mark\.jobs\b", collection_path.read_text())) or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that start something, which `make check` leaves out."""
    for item in items:
        parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
        if STARTS & {*getattr(item, "fixturenames", ()), *map(str, parameters)}:  # `elsewhere` starts what it is told
            item.add_marker(pytest.mark.jobs)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray for all jobs that run inside the test process."""
    import ray

    from sgllie.distributed.cluster import start_local

    with pytest.MonkeyPatch.context() as patch:
        for name in CREDENTIALS:  # the workers have the environment of this moment
            patch.setenv(name, OWNER)
        start_local(num_cpus=4)
    yield
    ray.shutdown()


@pytest.fixture
def here(ray_session, capsys) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `sgllie` with these arguments inside the test process: several times as fast as a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main(list(map(str, arguments)))
        return subprocess.CompletedProcess(arguments, code, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def enhancer() -> Enhancer:
    """The bundled weights on the CPU."""
    return Enhancer.load(device="cpu")


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
def ceph() -> Iterator[Ceph]:
    """A real S3 server; tests that need it skip where it is not installed, and fail in CI."""
    server = start_ceph()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def moto() -> Iterator[str]:
    """The endpoint of a moto server."""
    port = free_port()
    line = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}"
    wait_for(lambda: answers(endpoint))
    yield endpoint
    server.kill()
    server.wait()


def is_removed(filesystem) -> bool:
    """Remove the bucket `bucket` and tell whether it is gone.

    A gateway that was just killed and started again may fail to remove it, or remove it and fail to say so.
    """
    if filesystem.exists("bucket"):
        with suppress(OSError):
            filesystem.rm("bucket", recursive=True)
    return "bucket" not in filesystem.ls("", refresh=True)


@pytest.fixture(scope="session")
def azure() -> Iterator[str]:
    """The connection string of an Azure server."""
    with azurite() as place:
        yield place


@pytest.fixture(scope="session")
def gcs() -> Iterator[str]:
    """The address of a Google Cloud Storage server."""
    with gcs_emulator() as place:
        yield place


@pytest.fixture
def elsewhere(request) -> str:
    """An empty place of the kind that a test names: `memory`, `azure` or `gcs`; its url."""
    return empty_place(request, request.param)


@pytest.fixture
def empty_bucket(monkeypatch) -> Callable[[str], S3Options]:
    """Makes the bucket `bucket` at an endpoint, with credentials in the environment; how to reach it."""
    import s3fs

    def make(endpoint: str) -> S3Options:
        for name in CREDENTIALS:
            monkeypatch.setenv(name, OWNER)
        s3fs.S3FileSystem.clear_instance_cache()  # another test's may have other credentials
        filesystem = s3fs.S3FileSystem(endpoint_url=endpoint, skip_instance_cache=True)
        wait_for(lambda: is_removed(filesystem))
        filesystem.mkdir("bucket")
        return S3Options(endpoint_url=endpoint, region="us-east-1")

    return make


@pytest.fixture
def s3(request, empty_bucket) -> S3Options:
    """How to reach the empty bucket `bucket` of the server that a test names; by default Ceph, or moto without it."""
    real = os.environ.get("CI") == "true" or not obstacle()
    server = request.getfixturevalue(getattr(request, "param", "ceph" if real else "moto"))
    return empty_bucket(getattr(server, "endpoint", server))
