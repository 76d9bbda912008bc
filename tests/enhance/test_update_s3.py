"""`sgllie enhance --update` of a bucket that grows, on a real S3 server, with commands that are killed."""

import hashlib
import json
import random
import time
from collections import Counter

import pytest

from commands import kill_all, make_corpus, sgllie, start
from disturbances import wait_for
from sgllie.runs.tables import read_rows
from sgllie.storage import open_storage

FIRST, MORE = 120, 80


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("s3", ["ceph"], indirect=True)
def test_a_bucket_grows_three_times_with_kills(s3, tmp_path):
    corpus = sorted(make_corpus(tmp_path / "all", FIRST + 3 * MORE).rglob("*.jpg"))
    source, output = open_storage("s3://bucket/in", s3), open_storage("s3://bucket/out", s3)
    line = ["enhance", "s3://bucket/in", "s3://bucket/out", "--update", "--shard-images", 20]
    environment = {"AWS_ENDPOINT_URL": s3.endpoint_url, "AWS_DEFAULT_REGION": "us-east-1"}
    chance, there, gone = random.Random(5), dict[str, bytes](), set[str]()

    def put(numbers, extra=b""):
        for number in numbers:
            there[f"{number:03d}.jpg"] = corpus[number].read_bytes() + extra
            source.write(f"{number:03d}.jpg", there[f"{number:03d}.jpg"])

    put(range(FIRST))
    assert sgllie(*line, **environment).returncode == 0
    for growth in range(3):
        first = FIRST + growth * MORE
        put(range(first, first + MORE))
        put([10 + growth, 40 + growth, first - 1], extra=bytes(growth + 1))
        gone.add(f"{growth:03d}.jpg")
        del there[f"{growth:03d}.jpg"]
        source.remove(f"{growth:03d}.jpg")
        for is_working in (False, True):
            before = object_count(output)
            job = start(*line, **environment)
            if is_working:
                wait_for(lambda before=before, job=job: object_count(output) > before + 5 or job.poll() is not None)
            time.sleep(chance.uniform(0, 0.2) if is_working else chance.uniform(0.5, 3))
            kill_all(job)
        result = sgllie(*line, **environment)
        assert result.returncode == 0, result.stderr
        assert_current(output, there, gone)
        assert f"{len(gone)} gone" in result.stdout
    attempts = [row["attempt"] for row in rows_of(output)]
    assert max(attempts) > 1, "a kill has met a shard"


def object_count(output):
    return sum(1 for _ in output.list("images"))


def rows_of(output):
    return [row for entry in output.list("stats") for row in read_rows(output, f"stats/{entry.path}")]


def assert_current(output, there, gone):
    """One row for each image that was ever there, of its present content, with its output."""
    rows = rows_of(output)
    assert Counter(row["path"] for row in rows) == Counter([*there, *gone])
    for row in rows:
        assert row["status"] == "ok"
        assert hashlib.sha256(output.read(row["output"])).hexdigest() == row["sha256_out"]
        if row["path"] in there:
            assert hashlib.sha256(there[row["path"]]).hexdigest() == row["sha256_in"]
    assert json.loads(output.read("_SUCCESS"))["images"] == len(rows)
    assert not list(output.list(".partial")), "nothing is left of what was killed"
