"""The whole command from S3 to S3 and between S3 and folders; against Ceph where it is installed, else moto."""

import dataclasses
import hashlib
import io
import json

import pyarrow.parquet as pq
import pytest
import s3fs

from commands import make_corpus, sgllie
from radosgw import STRANGER, free_port
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess, run_job
from sgllie.storage import Storage, open_storage
from sgllie.storage.s3 import S3Storage

ODD_NAMES = ["a b+c.jpg", "ü/ñ%2F.jpg", "q?x=1&y#z.jpg", "[x].jpg", "=.jpg", "/slash.jpg", "a//b.jpg", "夜.jpg"]
LONG_NAME = "long/" + "/".join(["n" * 90] * 10) + ".jpg"  # 914 of the 1,024 bytes that a key may have


@pytest.fixture
def bucket(s3, tmp_path):
    """Images with odd names under s3://bucket/in, and the bytes of each."""
    source = open_storage("s3://bucket/in", s3)
    names = [*ODD_NAMES, LONG_NAME]
    files = sorted(make_corpus(tmp_path / "local", len(names)).rglob("*.jpg"))
    contents = {name: file.read_bytes() for name, file in zip(names, files, strict=True)}
    for name, data in contents.items():
        source.write(name, data)
    source.write("notes.txt", b"no image")
    return contents


@pytest.fixture
def enhance(here, s3):
    """Runs the command inside the test process."""
    options = ("--s3.endpoint-url", s3.endpoint_url, "--s3.region", "us-east-1")
    return lambda *arguments: here("enhance", *arguments, *options)


def rows_below(storage: Storage) -> list[dict[str, object]]:
    """All rows of statistics."""
    names = [entry.path for entry in storage.list("stats")]
    return [row for name in names for row in pq.read_table(io.BytesIO(storage.read(f"stats/{name}"))).to_pylist()]


def assert_bucket_complete(output: Storage, listed: set[str]) -> list[dict[str, object]]:
    """One ok row for each input, each with an output whose hash matches, and nothing else in the output."""
    rows = rows_below(output)
    assert sorted(row["path"] for row in rows) == sorted(listed)
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        assert hashlib.sha256(output.read(row["output"])).hexdigest() == row["sha256_out"]
    found = {entry.path for entry in output.list()}
    written = {path for path in found if path.startswith("images/")}
    assert written - {"images/notes.txt"} == {row["output"] for row in rows}
    top = {path.split("/")[0] for path in found}
    assert top - {"others"} == {"images", "commits", "stats", "manifest", "run.json", "_SUCCESS"}
    assert json.loads(output.read("_SUCCESS"))["ok"] == len(listed)
    return rows


@pytest.mark.parametrize("s3", ["ceph", "moto"], indirect=True)
def test_from_bucket_to_bucket_again_resumed_and_overwritten(bucket, s3, enhance):
    output = open_storage("s3://bucket/out", s3)
    result = enhance("s3://bucket/in", output.uri, "--shard-images", 4)
    assert result.returncode == 0, result.stderr
    rows = assert_bucket_complete(output, set(bucket))
    assert {row["output"] for row in rows} == {f"images/{name}" for name in bucket}
    again = enhance("s3://bucket/in", output.uri)
    assert (again.returncode, "All of it was there already" in again.stdout) == (0, True)
    for name in ("_SUCCESS", "commits/part-00000.parquet"):
        output.remove(name)
    output.write(rows[0]["output"], b"of a worker that was killed")
    assert enhance("s3://bucket/in", output.uri).returncode == 0
    assert_bucket_complete(output, set(bucket))
    open_storage("s3://bucket/in", s3).remove("=.jpg")
    refused = enhance("s3://bucket/in", output.uri, "--check-input")
    assert (refused.returncode, "the input" in refused.stderr) == (2, True)
    assert enhance("s3://bucket/in", output.uri, "--overwrite").returncode == 0
    assert_bucket_complete(output, set(bucket) - {"=.jpg"})


def test_what_is_overwritten_is_removed_by_few_requests(s3, tmp_path, monkeypatch):
    """A million images would take hours, one by one."""
    monkeypatch.setattr("sgllie.storage.s3.REMOVALS", 10)
    settings = EnhanceSettings(str(make_corpus(tmp_path / "in", 25)), "s3://bucket/out", device="cpu", s3=s3)
    assert run_job(prepare, settings, InProcess()) == 0
    asked, call = [], S3Storage._call

    def counted(storage, operation, *arguments, **options):
        if operation.startswith("delete"):
            several = options.get("Delete", {"Objects": [options]})["Objects"]
            asked.append([one["Key"] for one in several])
        return call(storage, operation, *arguments, **options)

    monkeypatch.setattr(S3Storage, "_call", counted)
    prepare(dataclasses.replace(settings, overwrite=True))
    found = {entry.path.split("/")[0] for entry in open_storage("s3://bucket/out", s3).list()}
    assert found == {"manifest", "run.json"}
    of_images = [keys for keys in asked if any(key.startswith("out/images") for key in keys)]
    assert sorted(map(len, of_images)) == [6, 10, 10], "25, and the name of the folder itself"
    assert len(asked) < 25, "one or two for everything else that a run writes"


def test_from_bucket_to_folder_by_the_usual_variables(bucket, s3, tmp_path):
    environment = {"AWS_ENDPOINT_URL": s3.endpoint_url, "AWS_DEFAULT_REGION": "us-east-1"}
    result = sgllie("enhance", "s3://bucket/in", tmp_path / "out", **environment)
    assert result.returncode == 0, result.stderr
    written = {str(path.relative_to(tmp_path / "out/images")) for path in (tmp_path / "out/images").rglob("*.jpg")}
    assert written == {name.replace("//", "/").lstrip("/") for name in bucket}


def test_two_keys_that_would_be_one_file(s3, enhance, tmp_path):
    source = open_storage("s3://bucket/in", s3)
    for name in ("a//b.jpg", "a/b.jpg"):
        source.write(name, b"")
    result = enhance("s3://bucket/in", tmp_path / "out")
    assert result.returncode == 2
    assert "'a//b.jpg' and 'a/b.jpg' would both be written to 'a/b.jpg'" in result.stderr


def test_a_key_that_has_no_room_for_the_output(s3, enhance, tmp_path):
    source = open_storage("s3://bucket/in", s3)
    data = next(make_corpus(tmp_path / "local", 1).rglob("*.jpg")).read_bytes()
    for name in ("n" * 1010 + ".jpg", "good.jpg"):
        source.write(name, data)
    result = enhance("s3://bucket/in", "s3://bucket/a/longer/prefix")
    assert result.returncode == 3, result.stderr
    assert "1 enhanced, 1 failed (1 write)" in result.stdout


def test_an_address_where_nothing_answers(s3, here, tmp_path):
    """Told soon, since it is most often a mistyped one."""
    places = ("s3://bucket/in", tmp_path / "out")
    result = here("enhance", *places, "--s3.endpoint-url", f"http://127.0.0.1:{free_port()}")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "Could not connect to the endpoint URL" in result.stderr


@pytest.mark.parametrize("command", ["enhance", "train"])
@pytest.mark.parametrize("side", ["in", "out"])
@pytest.mark.parametrize(
    ("keys", "uri", "sentence"),
    [
        (None, "s3://absent/x", ": the bucket does not exist"),
        (("nobody", "test"), "s3://bucket/x", "the access key is not known there"),
        (("test", "wrong"), "s3://bucket/x", "the secret key does not fit the access key"),
        ((STRANGER, STRANGER), "s3://bucket/x", "AccessDenied (check the credentials and their rights"),
        (("", ""), "s3://bucket/x", "credentials"),
    ],
)
def test_a_mistake_is_one_sentence(ceph, empty_bucket, here, monkeypatch, tmp_path, command, side, keys, uri, sentence):
    """Against Ceph alone, since moto does not look at keys."""
    s3 = empty_bucket(ceph.endpoint)
    local = make_corpus(tmp_path / "local", 1)
    for name, value in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), keys or (), strict=False):
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()  # with the credentials of the owner
    places = (uri, tmp_path / "out") if side == "in" else (local, uri)
    result = here(command, *places, "--s3.endpoint-url", s3.endpoint_url, "--s3.region", s3.region)
    assert result.returncode == 2, result.stdout
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
