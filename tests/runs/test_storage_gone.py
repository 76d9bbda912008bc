"""A storage that goes away in the middle of a job: the job stops, no item is blamed, the same command ends it."""

import errno
import os
import subprocess
from collections.abc import Callable
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

import sgllie.storage.s3
from breaking_proxy import BreakingProxy
from clips import pan, write_clip
from commands import command, make_corpus
from sgllie.compare.run import prepare as prepare_compare
from sgllie.compare.settings import CompareSettings
from sgllie.enhance.run import prepare as prepare_enhance
from sgllie.enhance.settings import EnhanceSettings
from sgllie.evaluate.run import prepare as prepare_evaluate
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.runs.job import InProcess, run_job
from sgllie.storage import S3Options, open_storage
from sgllie.storage.s3 import S3Storage
from sgllie.video.run import prepare as prepare_video
from sgllie.video.settings import VideoSettings


class Job(NamedTuple):
    """A job from bucket to bucket: how it is prepared, its settings, and how many rows it ends with."""

    prepare: Callable
    settings: Callable
    rows: int


JOBS = {
    "enhance": Job(
        prepare_enhance, lambda o: EnhanceSettings("s3://bucket/in", "s3://bucket/out", device="cpu", **o), 30
    ),
    "video": Job(
        prepare_video,
        lambda o: VideoSettings("s3://bucket/clips", "s3://bucket/out", device="cpu", preset="ultrafast", **o),
        4,
    ),
    "evaluate": Job(
        prepare_evaluate,
        lambda o: EvaluateSettings(
            images="s3://bucket/in", before="s3://bucket/in", output="s3://bucket/out", metrics="brightness", **o
        ),
        30,
    ),
    "compare": Job(
        prepare_compare,
        lambda o: CompareSettings(
            input="s3://bucket/in", output="s3://bucket/out", methods="gamma", metrics="brightness", shown=0, **o
        ),
        60,
    ),
}


@pytest.fixture(params=JOBS)
def job(request) -> Job:
    """Each of the jobs over shards."""
    return JOBS[request.param]


@pytest.fixture
def s3(ceph, empty_bucket, tmp_path, monkeypatch) -> S3Options:
    """The real server with images and clips; what does not answer is not asked for long."""
    monkeypatch.setattr(sgllie.storage.s3, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(sgllie.storage.s3, "LONGEST_PAUSE", 0.01)
    options = empty_bucket(ceph.endpoint)
    storage = open_storage("s3://bucket", options)
    for path in make_corpus(tmp_path / "in", 30).rglob("*.jpg"):
        storage.upload(f"in/{path.name}", path)
    write_clip(tmp_path / "clip.mp4", pan(4, (48, 64)), sound=False)
    for number in range(4):
        storage.upload(f"clips/{number}.mp4", tmp_path / "clip.mp4")
    return options


def rows(options: S3Options) -> list[dict]:
    """All rows that are committed."""
    storage = open_storage("s3://bucket/out", options)
    tables = [pq.read_table(storage.open(f"commits/{entry.path}")) for entry in storage.list("commits")]
    return [row for table in tables for row in table.to_pylist()]


def then(prepare: Callable, patch: pytest.MonkeyPatch, happen: Callable[[], object]) -> Callable:
    """Prepare a job as `prepare` does, and have something happen before its third request for an input."""
    retrying, asked = S3Storage._retrying, []

    def counting(self, request, what, *others):
        if self.uri.endswith(("/in", "/clips")):
            asked.append(what)
            if len(asked) == 3:
                happen()
        return retrying(self, request, what, *others)

    def prepare_and_watch(settings):
        run = prepare(settings)
        patch.setattr(S3Storage, "_retrying", counting)
        return run

    return prepare_and_watch


def test_the_gateway_goes_and_comes_back(job, s3, ceph, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        try:
            assert run_job(then(job.prepare, patch, ceph.kill_gateway), job.settings({"s3": s3}), InProcess()) == 1
        finally:
            ceph.start_gateway()
    assert "Stopped: s3://bucket/" in capsys.readouterr().out
    assert all(row["status"] == "ok" for row in rows(s3))
    assert run_job(job.prepare, job.settings({"s3": s3}), InProcess()) == 0
    found = rows(s3)
    assert (len(found), {row["status"] for row in found}) == (job.rows, {"ok"})


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
def test_keys_that_are_refused_in_the_middle(job, s3, monkeypatch, capsys, code):
    proxy = BreakingProxy(s3.endpoint_url)
    proxy.start()
    through = S3Options(endpoint_url=proxy.endpoint, region="us-east-1")
    try:
        with monkeypatch.context() as patch:
            watched = then(job.prepare, patch, lambda: proxy.refuse(code))
            assert run_job(watched, job.settings({"s3": through}), InProcess()) == 1
        assert "Stopped: s3://bucket/" in capsys.readouterr().out
        assert all(row["status"] == "ok" for row in rows(s3))
        proxy.admit()
        assert run_job(job.prepare, job.settings({"s3": through}), InProcess()) == 0
    finally:
        proxy.stop()
    found = rows(s3)
    assert (len(found), {row["status"] for row in found}) == (job.rows, {"ok"})


LOCAL = {
    "enhance": (prepare_enhance, lambda i, o: EnhanceSettings(str(i / "in"), str(o), device="cpu"), 30),
    "video": (prepare_video, lambda i, o: VideoSettings(str(i / "clips"), str(o), device="cpu"), 2),
    "evaluate": (
        prepare_evaluate,
        lambda i, o: EvaluateSettings(images=str(i / "in"), output=str(o), metrics="brightness"),
        30,
    ),
    "compare": (
        prepare_compare,
        lambda i, o: CompareSettings(
            input=str(i / "in"), output=str(o), methods="gamma", metrics="brightness", shown=0
        ),
        60,
    ),
}


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS], ids=["disk-full", "read-only"])
@pytest.mark.parametrize("name", LOCAL)
def test_an_output_that_cannot_be_written_any_more(name, error, tmp_path, monkeypatch, capsys):
    prepare, settings, count = LOCAL[name]
    make_corpus(tmp_path / "in", 30)
    (tmp_path / "clips").mkdir()
    for number in range(2):
        write_clip(tmp_path / f"clips/{number}.mp4", pan(4, (48, 64)), sound=False)
    chosen, output = settings(tmp_path, tmp_path / "out"), tmp_path / "out"
    replace = os.replace

    def refusing(source, target):
        if (output / "run.json").exists():
            raise OSError(error, os.strerror(error))
        replace(source, target)

    with monkeypatch.context() as patch:
        patch.setattr("sgllie.storage.local.os.replace", refusing)
        assert run_job(prepare, chosen, InProcess()) == 1
    assert f"Stopped: {output} cannot be written: {os.strerror(error)}" in capsys.readouterr().out
    assert not (output / "stats").exists()
    assert run_job(prepare, chosen, InProcess()) == 0
    found = pq.read_table(output / "stats").to_pylist()
    assert (len(found), {row["status"] for row in found}) == (count, {"ok"})


@pytest.mark.slow
@pytest.mark.long
def test_a_training_whose_photographs_are_gone(ceph, empty_bucket, tmp_path):
    """In its first inspection of them, and on the way."""
    options = empty_bucket(ceph.endpoint)
    storage = open_storage("s3://bucket", options)
    for path in make_corpus(tmp_path / "in", 60, (96, 96)).rglob("*.jpg"):
        storage.upload(f"in/{path.name}", path)
    line = command("train", "s3://bucket/in", tmp_path / "run", "--preset", "published", "--epochs", 2, "--guide.name")
    line += ["none", "--loss.semantic", "0", "--images.size", "64", "--validation.size", "64", "--cache", "none"]
    line += ["--s3.endpoint-url", options.endpoint_url, "--s3.region", "us-east-1"]
    ceph.kill_gateway()
    try:
        gone = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    finally:
        ceph.start_gateway()
    assert gone.returncode in (1, 2)
    assert "Could not connect" in gone.stdout + gone.stderr
    assert subprocess.run(line, capture_output=True, timeout=600, check=False).returncode == 0
