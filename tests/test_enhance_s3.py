"""The whole command from S3 to S3 and between S3 and folders, against moto."""

import io

import pyarrow.parquet as pq
import pytest

from jobs import make_corpus, sgllie
from sgllie.storage import open_storage

ODD_NAMES = ["a b+c.jpg", "ü/ñ%2F.jpg", "q?x=1&y#z.jpg", "[x].jpg", "=.jpg"]


@pytest.fixture
def bucket(s3, tmp_path):
    """Five images with odd names under s3://bucket/in, and the bytes of each."""
    source = open_storage("s3://bucket/in", s3)
    files = sorted(make_corpus(tmp_path / "local", len(ODD_NAMES)).rglob("*.jpg"))
    contents = {name: file.read_bytes() for name, file in zip(ODD_NAMES, files, strict=True)}
    for name, data in contents.items():
        source.write(name, data)
    source.write("notes.txt", b"no image")
    return contents


def rows_below(storage):
    names = [entry.path for entry in storage.list("stats")]
    return [row for name in names for row in pq.read_table(io.BytesIO(storage.read(f"stats/{name}"))).to_pylist()]


def test_from_bucket_to_bucket_and_again(bucket, s3):
    options = ("--s3.endpoint-url", s3.endpoint_url, "--s3.region", "us-east-1")
    result = sgllie("enhance", "s3://bucket/in", "s3://bucket/out", *options)
    assert result.returncode == 0, result.stderr
    output = open_storage("s3://bucket/out", s3)
    assert {row["path"] for row in rows_below(output)} == set(bucket)
    found = {entry.path for entry in output.list()}
    assert {f"images/{name}" for name in bucket} <= found
    assert {name.split("/")[0] for name in found} == {"images", "stats", "manifest", "run.json", "_SUCCESS"}
    again = sgllie("enhance", "s3://bucket/in", "s3://bucket/out", *options)
    assert (again.returncode, "All of it was there already" in again.stdout) == (0, True)


def test_from_bucket_to_folder_by_the_usual_variables(bucket, s3, tmp_path):
    environment = {"AWS_ENDPOINT_URL": s3.endpoint_url, "AWS_DEFAULT_REGION": "us-east-1"}
    result = sgllie("enhance", "s3://bucket/in", tmp_path / "out", **environment)
    assert result.returncode == 0, result.stderr
    written = {str(path.relative_to(tmp_path / "out/images")) for path in (tmp_path / "out/images").rglob("*.jpg")}
    assert written == set(bucket)


def test_a_missing_bucket_is_one_sentence(s3, tmp_path):
    options = ("--s3.endpoint-url", s3.endpoint_url, "--s3.region", "us-east-1")
    for arguments in (("s3://absent/in", tmp_path / "out"), (tmp_path / "local", "s3://absent/out")):
        make_corpus(tmp_path / "local", 1)
        result = sgllie("enhance", *arguments, *options)
        assert result.returncode == 2
        assert "bucket does not exist" in result.stderr
        assert result.stderr.count("\n") == 1
