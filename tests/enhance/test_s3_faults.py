"""Enhancement from S3 to S3 while the network and the server break. The server is Ceph: moto stores half an upload."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import pytest
from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error
from test_enhance_s3 import assert_bucket_complete

import sgllie.storage.s3
from breaking_proxy import ON_GET, ON_PUT, BreakingProxy
from commands import make_corpus
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import NameRefusedError, ReadError, StorageError, UnreachableError
from sgllie.runs.job import InProcess, finish
from sgllie.storage import S3Options, open_storage
from sgllie.storage.s3_errors import failure, may_pass, reason

IMAGES = 150


@pytest.fixture
def s3(ceph, empty_bucket) -> S3Options:
    """How to reach the real server."""
    return empty_bucket(ceph.endpoint)


@pytest.fixture
def source(s3, tmp_path):
    """The paths of images in s3://bucket/in."""
    storage = open_storage("s3://bucket/in", s3)
    folder = make_corpus(tmp_path / "in", IMAGES)
    for path in folder.rglob("*.jpg"):
        storage.write(str(path.relative_to(folder)), path.read_bytes())
    return {entry.path for entry in storage.list()}


@pytest.fixture
def proxy(s3):
    """A proxy before the server that breaks nothing yet."""
    proxy = BreakingProxy(s3.endpoint_url)
    proxy.start()
    yield proxy
    proxy.stop()


def job(s3: S3Options, report=lambda shard, done, failed: None) -> dict[str, object]:
    """The enhancement job without Ray: it is the storage that is to fail here."""
    settings = EnhanceSettings("s3://bucket/in", "s3://bucket/out", device="cpu", s3=s3)
    run = prepare(settings)
    pipeline = run.make_pipeline(report)
    return finish(run, {shard: pipeline.run(shard) for shard in run.shards}, InProcess())


@pytest.mark.slow
def test_a_job_through_a_network_that_breaks(s3, source, proxy, monkeypatch):
    monkeypatch.setattr(sgllie.storage.s3, "READ_SECONDS", 2)
    monkeypatch.setattr(sgllie.storage.s3, "FIRST_PAUSE", 0.05)
    proxy.faults.share = 0.15
    totals = job(S3Options(endpoint_url=proxy.endpoint, region="us-east-1"))
    assert set(proxy.faults.kinds()) == {*ON_GET, *ON_PUT}, "every fault was to happen"
    rows = assert_bucket_complete(open_storage("s3://bucket/out", s3), source)
    broken: Counter[str] = Counter()
    for (kind, url), count in proxy.faults.injected.items():
        # The client itself repeats, once and uncounted, what was reset on a connection that it had used before.
        broken[unquote(url)] += count * (kind not in ("short_stall", "reset_in_upload"))
    for row in rows:
        injected = broken[f"/bucket/in/{row['path']}"] + broken[f"/bucket/out/{row['output']}"]
        assert row["retries"] >= injected, row["path"]
    assert totals["retries"] == sum(row["retries"] for row in rows) > 20


def test_the_gateway_is_killed_and_started_again(s3, source, ceph):
    killed = threading.Event()

    def away() -> None:
        ceph.kill_gateway()
        time.sleep(5)
        ceph.start_gateway()

    def report(shard: int, done: int, failed: int, group: str = "") -> None:
        if done and not killed.is_set():
            killed.set()
            restart.start()

    restart = threading.Thread(target=away)
    try:
        totals = job(s3, report)
    finally:
        restart.join()
    assert totals["retries"] > 0
    assert_bucket_complete(open_storage("s3://bucket/out", s3), source)


def test_repetition_is_bounded_and_its_pauses_grow_at_random(s3, proxy, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(sgllie.storage.s3.time, "sleep", pauses.append)
    proxy.refuse("InternalError", 500)
    storage = open_storage("s3://bucket/in", S3Options(endpoint_url=proxy.endpoint, region="us-east-1"))
    with pytest.raises(StorageError, match="No") as caught:
        storage.read("a.jpg")
    assert not isinstance(caught.value, UnreachableError)
    assert storage.retries == len(pauses) == sgllie.storage.s3.ATTEMPTS - 1
    assert 25 < sum(pauses) < 60, "long enough for a server to be started again"
    longest = [min(0.4 * 2**k, 15) for k in range(len(pauses))]
    assert all(bound / 2 <= pause <= bound for pause, bound in zip(pauses, longest, strict=True))
    assert len(set(pauses[-2:])) == 2


def test_a_job_that_is_asked_to_slow_down(s3, source, proxy):
    proxy.faults.rate = 60
    totals = job(S3Options(endpoint_url=proxy.endpoint, region="us-east-1"))
    rows = assert_bucket_complete(open_storage("s3://bucket/out", s3), source)
    assert 0 < totals["retries"] == sum(row["retries"] for row in rows)
    assert proxy.faults.kinds()["slow_down"] < 0.1 * len(proxy.admitted)


@pytest.mark.slow
@pytest.mark.alone
def test_a_server_is_asked_as_often_as_it_allows(s3, proxy):
    proxy.faults.rate = rate = 30.0
    storage = open_storage("s3://bucket", S3Options(endpoint_url=proxy.endpoint, region="us-east-1"))
    storage.write("a", b"")
    end = time.monotonic() + 10
    with ThreadPoolExecutor(16) as pool:
        for _ in range(16):
            pool.submit(lambda: [storage.read("a") for _ in iter(lambda: time.monotonic() < end, False)])
    steady = [moment for moment in proxy.admitted if end - 6 < moment < end]
    assert len(steady) > 0.8 * rate * 6


@pytest.mark.parametrize(("ask", "said"), [("slow_down", "Reduce rate"), ("close_connections", "Connection was")])
def test_an_end_of_patience_is_no_fault_of_an_object(s3, proxy, monkeypatch, ask, said):
    monkeypatch.setattr(sgllie.storage.s3, "FIRST_PAUSE", 0.05)
    storage = open_storage("s3://bucket/in", S3Options(endpoint_url=proxy.endpoint, region="us-east-1", patience=1))
    storage.write("a.jpg", b"")
    getattr(proxy, ask)()
    began = time.monotonic()
    with pytest.raises(UnreachableError, match=rf"s3://bucket/in/a.jpg: {said} .*--s3.patience"):
        storage.read("a.jpg")
    assert 1 < time.monotonic() - began < 10
    assert storage.retries > 0


@pytest.mark.parametrize(
    ("refusal", "raised"),
    [
        (None, ReadError),
        (("AccessDenied", 403), ReadError),
        (("NoSuchBucket", 404), UnreachableError),
        (("InternalError", 500), UnreachableError),
    ],
)
def test_one_object_whose_connections_are_closed_stops_no_job(s3, proxy, monkeypatch, refusal, raised):
    """As by a scanner on the way, unless the storage says of other requests that it is gone or unwell."""
    monkeypatch.setattr(sgllie.storage.s3, "FIRST_PAUSE", 0.05)
    storage = open_storage("s3://bucket/in", S3Options(endpoint_url=proxy.endpoint, region="us-east-1", patience=1))
    storage.write("a.jpg", b"")
    proxy.close_connections("/a.jpg")
    if refusal:
        proxy.refuse(*refusal)
    with pytest.raises(StorageError, match=r"s3://bucket/in/a.jpg: Connection was .*closed .*--s3.patience") as caught:
        storage.read("a.jpg")
    assert caught.type is raised


def test_a_job_stops_where_its_storage_is_gone_and_goes_on_later(s3, source, ceph, monkeypatch):
    """No image is to blame, so none becomes a failed row."""
    monkeypatch.setattr(sgllie.storage.s3, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(sgllie.storage.s3, "LONGEST_PAUSE", 0.01)
    counted: dict[int, int] = {}

    def report(shard: int, done: int, failed: int, group: str = "") -> None:
        assert failed == 0
        before, counted[shard] = sum(counted.values()), done
        if before < 10 <= sum(counted.values()):
            ceph.kill_gateway()

    try:
        with pytest.raises(UnreachableError, match="Could not connect"):
            job(s3, report)
    finally:
        ceph.start_gateway()
    assert sum(counted.values()) < IMAGES
    assert not open_storage("s3://bucket/out", s3).exists("_SUCCESS")
    assert job(s3)["ok"] == IMAGES
    assert_bucket_complete(open_storage("s3://bucket/out", s3), source)


@pytest.mark.parametrize(
    ("code", "status", "again", "raised"),
    [
        ("InternalError", 500, True, StorageError),
        ("SlowDown", 503, True, UnreachableError),
        ("ServiceUnavailable", 503, True, UnreachableError),
        ("ServiceUnavailable", 500, True, UnreachableError),  # an answer that says 200 and is an error
        ("Busy", 503, True, UnreachableError),
        ("503", 503, True, UnreachableError),  # to HEAD
        ("429", 429, True, UnreachableError),
        ("InvalidStorageClass", 400, False, UnreachableError),
        ("RequestTimeout", 400, True, StorageError),
        ("KeyTooLongError", 400, False, NameRefusedError),
        ("ExpiredToken", 400, False, UnreachableError),
        ("AuthorizationHeaderMalformed", 400, False, UnreachableError),
        ("NoSuchBucket", 404, False, UnreachableError),
        ("NoSuchKey", 404, False, FileNotFoundError),
        ("AccessDenied", 403, False, StorageError),
    ],
)
def test_what_an_answer_means(code, status, again, raised):
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = translate_boto_error(ClientError(answer, "PutObject"))
    assert may_pass(error) is again
    assert failure(error) is raised
    assert reason(error) not in ("", "None")
