"""What only S3 has: pages of keys, classes and encryption of what is written, buckets that are not there."""

import dataclasses
import http.server
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from breaking_proxy import BreakingProxy
from emulators import ODD_NAMES
from sgllie.errors import ReadError, StorageError, UnreachableError, UsageError
from sgllie.storage import S3Options, open_storage
from sgllie.storage.key_listing import KeyListing
from sgllie.storage.object_file import READ_BYTES


@pytest.mark.parametrize("s3", ["ceph", pytest.param("moto", marks=pytest.mark.slow)], indirect=True)
def test_more_keys_than_a_page_holds(s3):
    storage = open_storage("s3://bucket/many", s3)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: storage.write(f"{number:04d}", b""), range(1005)))
    assert [entry.path for entry in storage.list()] == [f"{number:04d}" for number in range(1005)]
    open_storage("s3://bucket", s3).remove("many")
    assert list(storage.list()) == []


@pytest.mark.parametrize("s3", ["ceph", pytest.param("moto", marks=pytest.mark.slow)], indirect=True)
def test_many_pages_from_many_places_at_a_time(s3):
    storage = open_storage("s3://bucket/many", s3)
    names = [f"{number // 50:03d}/{number:04d}.jpg" for number in range(600)] + ODD_NAMES
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda name: storage.write(name, b""), names))
    fetch = partial(storage._call, "list_objects_v2", "s3://bucket/many", Prefix="many/", MaxKeys=10)
    assert [found["Key"].removeprefix("many/") for found in KeyListing(fetch)] == sorted(names)
    assert [entry.path for entry in storage.list()] == sorted(names)


@pytest.mark.parametrize("s3", ["ceph", pytest.param("moto", marks=pytest.mark.slow)], indirect=True)
def test_two_versions_of_an_object_are_not_read_as_one(s3):
    storage = open_storage("s3://bucket/replaced", s3)
    storage.write("a.tar", b"1" * (READ_BYTES + 10))
    with storage.open("a.tar") as file:
        assert file.read(READ_BYTES) == b"1" * READ_BYTES
        storage.write("a.tar", b"2" * (READ_BYTES + 10))
        with pytest.raises(ReadError, match=r"a\.tar: it was replaced while it was being read"):
            file.read()


PAGE = b"""<ListBucketResult><IsTruncated>false</IsTruncated>
    <Contents><Key>a.jpg</Key><Size>3</Size></Contents></ListBucketResult>"""
NO_PAGES = {
    "an error": b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>",
    "half a page": PAGE[:-30],
}


@pytest.mark.parametrize("kind", NO_PAGES)
def test_what_says_200_and_is_no_page_is_asked_for_again(kind, monkeypatch):
    answers = [NO_PAGES[kind], PAGE]

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(answers.pop(0))

        def log_message(self, *_):
            pass

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        options = S3Options(endpoint_url=f"http://127.0.0.1:{server.server_port}", region="us-east-1")
        assert [entry[:2] for entry in open_storage("s3://bucket", options).list()] == [("a.jpg", 3)]
        server.shutdown()
    assert answers == []


def test_names_that_one_request_cannot_remove_are_removed_one_by_one(s3):
    storage = open_storage("s3://bucket/many", s3)
    for name in (*ODD_NAMES, "control\x01.jpg"):
        storage.write(name, b"")
    open_storage("s3://bucket", s3).remove("many")
    assert list(storage.list()) == []


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("images/a.JPG", "image/jpeg"),
        ("images/a.webp", "image/webp"),
        ("stats/part-00000.parquet", "application/vnd.apache.parquet"),
        ("run.json", "application/json"),
        ("report.html", "text/html"),
        ("_SUCCESS", "application/octet-stream"),
    ],
)
def test_what_is_written_says_what_it_is(moto, empty_bucket, tmp_path, name, kind):
    storage = open_storage("s3://bucket/root", empty_bucket(moto))
    (tmp_path / "local").write_bytes(b"x")
    for write in (lambda: storage.write(name, b"x"), lambda: storage.upload(name, tmp_path / "local")):
        write()
        assert storage._head(name)["ContentType"] == kind


CONTENT = bytes(range(256)) * (6 * 2**12)
WRITES = {
    "assemble": lambda storage, file: storage.assemble("a.bin", [file.read_bytes()]),
    "upload": lambda storage, file: storage.upload("a.bin", file),
}


@pytest.fixture
def proxy(moto):
    proxy = BreakingProxy(moto)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    ("are_completed", "before"), [(True, None), (True, b"before"), (False, None), (False, b"before")]
)
def test_an_upload_whose_end_was_not_told(
    proxy, moto, empty_bucket, tmp_path, monkeypatch, write, are_completed, before
):
    """The object itself tells whether the upload was completed, since the server does not know it any more."""
    monkeypatch.setattr("sgllie.storage.s3.PART_BYTES", 5 * 2**20)
    monkeypatch.setattr("sgllie.storage.s3.FIRST_PAUSE", 0.01)
    options = dataclasses.replace(empty_bucket(moto), endpoint_url=proxy.endpoint)
    storage = open_storage("s3://bucket/folder", options)
    if before:
        storage.write("a.bin", before)
    (tmp_path / "local").write_bytes(CONTENT)
    proxy.end_uploads(are_completed)
    if are_completed:
        WRITES[write](storage, tmp_path / "local")
        assert storage.read("a.bin") == CONTENT
        assert storage.retries > 0
    else:
        with pytest.raises(StorageError, match=r"^s3://bucket/folder/a\.bin: Unknown$"):
            WRITES[write](storage, tmp_path / "local")
        assert storage.exists("a.bin") is bool(before)


@pytest.mark.parametrize("size", [0, 1, 5 * 2**20, 5 * 2**20 + 1, 6 * 2**20])
def test_a_file_is_uploaded_whole(moto, empty_bucket, tmp_path, monkeypatch, size):
    monkeypatch.setattr("sgllie.storage.s3.PART_BYTES", 5 * 2**20)
    storage = open_storage("s3://bucket/folder", empty_bucket(moto))
    (tmp_path / "local").write_bytes(CONTENT[:size])
    storage.upload("a.bin", tmp_path / "local")
    assert storage.read("a.bin") == CONTENT[:size]
    with pytest.raises(ReadError, match="cannot be read: Is a directory"):
        storage.upload("a.bin", tmp_path)


def test_storage_class_and_encryption_and_who_pays(moto, empty_bucket):
    """By what a server of moto's makes of the headers: it says what it was asked for."""
    options = empty_bucket(moto)
    asked = {"storage_class": "STANDARD_IA", "encryption": "sse-kms", "kms_key": "some-key", "requester_pays": True}
    storage = open_storage("s3://bucket/root", dataclasses.replace(options, **asked))
    storage.write("images/a.jpg", b"x")
    storage.write(".partial/a", b"x")
    head, scratch = storage._head("images/a.jpg"), storage._head(".partial/a")
    assert (head["StorageClass"], head["ServerSideEncryption"]) == ("STANDARD_IA", "aws:kms")
    assert head["SSEKMSKeyId"] == "some-key"
    assert "StorageClass" not in scratch, "what is soon removed stays in the class of the bucket"
    assert scratch["ServerSideEncryption"] == "aws:kms"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"storage_class": "GLACIER"}, "--s3.storage-class is GLACIER; it must be a class whose objects can be read"),
        ({"kms_key": "k"}, "--s3.kms-key is k; it needs --s3.encryption sse-kms"),
        ({"kms_key": "k", "encryption": "sse-s3"}, "--s3.kms-key is k; it needs"),
        ({"patience": -1}, "--s3.patience is -1; it must be 0 or more"),
    ],
)
def test_options_of_s3_that_cannot_be(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        S3Options(**options)


def test_a_storage_class_that_a_server_does_not_know(moto, empty_bucket):
    """No object is to blame."""
    options = dataclasses.replace(empty_bucket(moto), storage_class="COLD")
    with pytest.raises(UnreachableError, match="storage class is not known there"):
        open_storage("s3://bucket/root", options).write("a.jpg", b"x")


def test_s3_mistakes_are_one_sentence(s3):
    with pytest.raises(StorageError, match=r"^s3://absent: .*bucket does not exist"):
        list(open_storage("s3://absent", s3).list())
    with pytest.raises(UsageError, match="name of the bucket is missing"):
        open_storage("s3://", s3)
    with pytest.raises(StorageError, match="profile"):
        list(open_storage("s3://bucket", S3Options(endpoint_url=s3.endpoint_url, profile="absent")).list())


@pytest.mark.parametrize("where", ["read", "write", "find"])
def test_a_key_that_leads_upwards_is_refused(s3, where):
    storage = open_storage("s3://bucket/root", s3)
    with pytest.raises(StorageError, match="not safe"):
        storage.write("a/../b.jpg", b"") if where == "write" else getattr(storage, where)("a/../b.jpg")
