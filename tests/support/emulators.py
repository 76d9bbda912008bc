"""Servers that speak for Azure and Google Cloud: Azurite (npm), and gcp-storage-emulator (PyPI)."""

import os
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from disturbances import wait_for
from radosgw import answers, free_port

ODD_NAMES = ["a b+c.jpg", "ü/ñ%2F.jpg", "q?x=1&y#z.jpg", "[x].jpg", "=.jpg", "deep/er/than/most/a.jpg", "~'\".jpg"]
"""Names of objects that are easily mistaken."""

os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # asks by gRPC, which the emulator does not speak
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""Of every Azurite: they are published, and open nothing else."""


@contextmanager
def azurite() -> Iterator[str]:
    """A server of Azure blobs; its connection string. The test is skipped where the program is missing."""
    pytest.importorskip("adlfs")
    program = shutil.which("azurite-blob")
    if program is None:
        pytest.skip("azurite-blob is not installed (npm install --global azurite)")
    port = free_port()
    line = [program, "--blobPort", str(port), "--inMemoryPersistence", "--silent", "--skipApiVersionCheck"]
    line.append("--disableTelemetry")
    server = subprocess.Popen(line, stdout=subprocess.DEVNULL)
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    wait_for(lambda: answers(endpoint))
    yield f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
    server.kill()
    server.wait()


@contextmanager
def gcs_emulator() -> Iterator[str]:
    """A server of Google Cloud Storage; its address. The test is skipped where a package is missing."""
    pytest.importorskip("gcsfs")
    module = pytest.importorskip("gcp_storage_emulator.server")
    port = free_port()
    server = module.create_server("127.0.0.1", port, in_memory=True)
    server.start()
    yield f"http://127.0.0.1:{port}"
    server.stop()


def empty_place(request: pytest.FixtureRequest, kind: str) -> str:
    """Make an empty place in `memory`, or at the server `azure` or `gcs`, with access in the environment; its url."""
    if kind == "memory":
        MemoryFileSystem.store.clear()
        return "memory://container"
    server, monkeypatch = request.getfixturevalue(kind), request.getfixturevalue("monkeypatch")
    scheme = {"azure": "az", "gcs": "gs"}[kind]
    if kind == "azure":
        monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", server)
    else:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", server)
        monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon", "project": "test"})
        urllib.request.urlopen(f"{server}/wipe").close()
    fsspec.get_filesystem_class(scheme).clear_instance_cache()
    filesystem = fsspec.filesystem(scheme, use_listings_cache=False)
    if filesystem.exists("container"):
        filesystem.rm("container", recursive=True)
    filesystem.mkdir("container")
    return f"{scheme}://container"
