"""Credentials stay in the environment: neither the output, nor what is printed, nor Ray's logs hold them. No library
reports what is done with it."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import command, make_corpus
from sgllie.corpus.path_list import read_list
from sgllie.distributed.cluster import SESSIONS
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.storage import open_storage
from sgllie.train.settings import TrainSettings
from sgllie.video.settings import VideoSettings

CANARIES = {
    "AWS_ACCESS_KEY_ID": "canary-of-the-key",
    "AWS_SECRET_ACCESS_KEY": "canary-of-the-secret",
    "AWS_SESSION_TOKEN": "canary-of-the-token",
}


def logs() -> list[Path]:
    """All files of the sessions of local clusters that are at work now."""
    return [path for folder in Path(SESSIONS).glob("ray-*/r/session_2*") for path in folder.rglob("*.*")]


def holds_canary(data: bytes) -> bool:
    """Tell whether one of the credentials stands in the data."""
    return any(canary.encode() in data for canary in CANARIES.values())


@pytest.mark.parametrize("options", [(), ("--num-actors", "1")], ids=["without Ray", "with Ray"])
def test_credentials_are_written_nowhere(moto, empty_bucket, tmp_path, monkeypatch, options):
    s3 = empty_bucket(moto)
    for name, canary in CANARIES.items():
        monkeypatch.setenv(name, canary)
    make_corpus(tmp_path / "in", 3)
    where = ("--s3.endpoint-url", moto, "--s3.region", "us-east-1")
    line = command("enhance", tmp_path / "in", "s3://bucket/out", "--device", "cpu", *where, *options)
    before, seen, found = set(logs()), set(), []
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=os.environ) as job:
        while job.poll() is None:
            for path in set(logs()) - before:
                seen.add(path.name)
                found += [path] if path.is_file() and holds_canary(path.read_bytes()) else []
            time.sleep(0.5)
        printed = job.stdout.read()
    assert job.returncode == 0, printed.decode()
    assert not found
    assert not holds_canary(printed)
    assert not options or any(name.startswith("worker-") for name in seen), "Ray's logs were not where they are sought"
    output = open_storage("s3://bucket/out", s3)
    written = {entry.path: output.read(entry.path) for entry in output.list()}
    assert "run.json" in written
    assert not [path for path, data in written.items() if holds_canary(data)]


SIGNED = [
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=canary%2F20260101&X-Amz-Signature=canary",
    "x-amz-security-token=canary",
    "X-Goog-Signature=canary",
    "AWSAccessKeyId=canary&Signature=canary&Expires=1",
    "sv=2026-01-01&sp=r&sig=canary",
    "size=large&access_token=canary",
    "api_key=canary",
    "X%2DAmz%2DSignature=canary",
]


@pytest.mark.parametrize("query", SIGNED)
def test_urls_that_let_whoever_has_them_in_are_refused(query, tmp_path):
    url = f"https://host/folder/a.jpg?{query}"
    (tmp_path / "list.txt").write_text(f"https://host/folder/b.jpg?size=large\n{url}\n")
    for attempt in (lambda: open_storage(url), lambda: read_list(str(tmp_path / "list.txt"), None)):
        with pytest.raises(UsageError, match=r"https://host/folder/a\.jpg\?\*\*\*; it must not hold") as raised:
            attempt()
        assert "canary" not in str(raised.value)


def test_urls_without_secrets_are_taken():
    open_storage("https://host/a?size=large&page=2&keys=3&token")
    open_storage("s3://bucket/a?sig=b")


@pytest.mark.parametrize(
    "make",
    [
        lambda **address: EnhanceSettings("in", "out", **address),
        lambda **address: VideoSettings("in", "out", **address),
        lambda **address: EvaluateSettings(images="in", **address),
        lambda **address: TrainSettings("in", "out", **address),
    ],
)
def test_an_address_of_a_cluster_holds_no_credentials(make):
    with pytest.raises(UsageError, match=r"--address is ray://\*\*\*@head:10001") as raised:
        make(address="ray://user:canary@head:10001")
    assert "canary" not in str(raised.value)
    make(address="ray://head:10001")


def test_onnxruntime_does_not_report_its_use(tmp_path):
    """Where it does, it begins with a file that tells one process from another."""
    known = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    line = [sys.executable, "-c", "import sgllie.network.onnx_graph"]
    subprocess.run(line, env=known | {"TMPDIR": str(tmp_path), "HOME": str(tmp_path)}, check=True)
    assert list(tmp_path.rglob("*")) == []
