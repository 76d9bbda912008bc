"""Storages: the same promises for a local folder and for S3, the real one of Ceph and the lenient one of moto."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from sgllie.errors import NameRefusedError, ReadError, StorageError, UnreachableError, UsageError
from sgllie.storage import S3Options, open_source, open_storage, split_uri

ODD_NAMES = ["a b+c.jpg", "ü/ñ%2F.jpg", "q?x=1&y#z.jpg", "[x].jpg", "=.jpg", "deep/er/than/most/a.jpg", "~'\".jpg"]


@pytest.fixture(params=["local", "moto", "ceph"])
def storage(request, tmp_path, empty_bucket):
    """An empty storage of each kind."""
    if request.param == "local":
        return open_storage(str(tmp_path / "root"))
    server = request.getfixturevalue(request.param)
    return open_storage("s3://bucket/root", empty_bucket(getattr(server, "endpoint", server)))


def test_what_is_written_is_listed_and_read(storage):
    for number, name in enumerate(ODD_NAMES):
        storage.write(name, bytes(number))
    assert {entry.path: entry.size for entry in storage.list()} == {name: k for k, name in enumerate(ODD_NAMES)}
    assert [storage.read(name) for name in ODD_NAMES] == [bytes(number) for number in range(len(ODD_NAMES))]
    assert storage.exists("[x].jpg")
    assert not storage.exists("x.jpg")
    assert not storage.exists("deep")


def test_listing_is_sorted_and_relative_to_the_folder(storage):
    for name in ("b/2.jpg", "b/1.jpg", "a.jpg", "bc.jpg"):
        storage.write(name, b"")
    assert [entry.path for entry in storage.list()] == [entry.path for entry in storage.list()]
    assert [entry.path for entry in storage.list("b")] == ["1.jpg", "2.jpg"]
    assert list(storage.list("absent")) == []


def test_one_object_is_found_as_it_is_listed(storage):
    for number, name in enumerate(ODD_NAMES):
        storage.write(name, bytes(number))
    assert [storage.find(entry.path) for entry in storage.list()] == list(storage.list())
    assert storage.find("absent") is storage.find("deep") is None


def test_versions_change_with_content(storage):
    storage.write("a", b"one")
    before = next(entry for entry in storage.list() if entry.path == "a").version
    time.sleep(0.01)
    storage.write("a", b"two")
    assert next(entry for entry in storage.list() if entry.path == "a").version != before


def test_an_object_in_parts(storage, monkeypatch):
    """Of many sizes around those that are sent, as a whole or not at all."""
    monkeypatch.setattr("sgllie.storage.s3.PART_BYTES", 5 * 2**20)
    pieces = [os.urandom(size) for size in (1, 5 * 2**20 - 1, 0, 7 * 2**20, 3)]
    storage.assemble("new/folder/a", iter(pieces))
    assert storage.read("new/folder/a") == b"".join(pieces)
    storage.assemble("empty", iter([]))
    assert storage.read("empty") == b""

    def broken(error):
        yield pieces[3]
        raise error

    with pytest.raises(RuntimeError):
        storage.assemble("new/folder/a", broken(RuntimeError()))
    with pytest.raises((FileNotFoundError, StorageError)):  # not tried again, since the parts can be had only once
        storage.assemble("new/folder/a", broken(FileNotFoundError("a part")))
    assert storage.read("new/folder/a") == b"".join(pieces)
    assert {entry.path for entry in storage.list()} == {"new/folder/a", "empty"}


def test_overwrite_and_remove(storage):
    storage.write("a/b", b"one")
    storage.write("a/b", b"two")
    assert storage.read("a/b") == b"two"
    storage.write("a/c", b"")
    storage.remove("a/c")
    assert not storage.exists("a/c")
    storage.remove("a")
    storage.remove("a")
    assert not storage.exists("a/b")
    storage.write("a/b", b"three")
    with pytest.raises(FileNotFoundError):
        storage.read("a/absent")


@pytest.mark.parametrize("s3", ["ceph", pytest.param("moto", marks=pytest.mark.slow)], indirect=True)
def test_more_keys_than_a_page_holds(s3):
    storage = open_storage("s3://bucket/many", s3)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: storage.write(f"{number:04d}", b""), range(1005)))
    assert [entry.path for entry in storage.list()] == [f"{number:04d}" for number in range(1005)]
    open_storage("s3://bucket", s3).remove("many")
    assert list(storage.list()) == []


def test_s3_mistakes_are_one_sentence(s3):
    with pytest.raises(StorageError, match=r"^s3://absent: .*bucket does not exist"):
        list(open_storage("s3://absent", s3).list())
    with pytest.raises(UsageError, match="name of the bucket is missing"):
        open_storage("s3://", s3)
    with pytest.raises(StorageError, match="profile"):
        list(open_storage("s3://bucket", S3Options(endpoint_url=s3.endpoint_url, profile="absent")).list())


def test_names_that_a_folder_cannot_hold(tmp_path):
    storage = open_storage(str(tmp_path))
    storage.write("a", b"")
    for name in ("../b", "/b", "c/../../b", "a/b", "x" * 300):
        with pytest.raises(NameRefusedError):
            storage.write(name, b"")
    assert not (tmp_path.parent / "b").exists()


def test_nothing_half_written_is_seen(tmp_path, monkeypatch):
    storage = open_storage(str(tmp_path))
    storage.write("a", b"old")

    def no_space(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", no_space)
    with pytest.raises(StorageError, match="cannot be written: No space left"):
        storage.write("a", b"new")
    assert storage.read("a") == b"old"
    assert list(tmp_path.glob(".partial/*")) == []


def test_a_folder_that_somebody_writes_to_is_removed(tmp_path, monkeypatch):
    storage = open_storage(str(tmp_path))
    storage.write("a/b", b"")
    late = [tmp_path / "a/late"]
    rmdir = os.rmdir

    def write_and_remove(path, **options):
        if late:
            late.pop().touch()
        rmdir(path, **options)

    monkeypatch.setattr(os, "rmdir", write_and_remove)
    storage.remove("a")
    assert not late
    assert not (tmp_path / "a").exists()


def test_what_may_not_be_removed(tmp_path, monkeypatch):
    def denied(*_):
        raise OSError(30, "Read-only file system")

    (tmp_path / "a").mkdir()
    monkeypatch.setattr(shutil, "rmtree", denied)
    with pytest.raises(StorageError, match=r"a cannot be removed: Read-only file system"):
        open_storage(str(tmp_path)).remove("a")


def test_other_schemes_are_refused():
    with pytest.raises(UsageError, match="only local paths and s3://"):
        open_storage("gs://bucket")


def test_split_uri(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split_uri("s3://bucket/a/c.txt") == ("s3://bucket/a", "c.txt")
    assert split_uri("c.txt") == (str(tmp_path), "c.txt")


def test_large_objects_as_files(storage, tmp_path):
    content = bytes(range(256)) * 40
    (tmp_path / "local").write_bytes(content)
    storage.upload("a/b.bin", tmp_path / "local")
    with storage.open("a/b.bin") as file:
        assert file.read(10) == content[:10]
        assert file.seek(-5, 2) == len(content) - 5
        assert file.read() == content[-5:]
        file.seek(1000)
        assert file.read(3) == content[1000:1003]
        assert file.tell() == 1003
    storage.upload("a/b.bin", tmp_path / "local")  # replaces
    assert storage.read("a/b.bin") == content
    with pytest.raises(FileNotFoundError):
        storage.open("a/none")


def test_a_pipe_is_no_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ReadError, match="no regular file"):
        open_storage(str(tmp_path)).read("pipe.jpg")


@pytest.mark.parametrize("name", ["a\0b.jpg", "folder", "x" * 300])
def test_what_cannot_be_read_is_said(tmp_path, name):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ReadError):
        open_storage(str(tmp_path)).read(name)


def test_what_is_too_large_is_not_read(tmp_path):
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(100 * 2**30)
    with pytest.raises(ReadError, match="has 107,374,182,400 bytes; at most 2,147,483,648 are read at once"):
        open_storage(str(tmp_path)).read("sparse.jpg")


def test_a_source_that_is_gone_as_a_whole(tmp_path):
    (tmp_path / "in").mkdir()
    source, output = open_source(str(tmp_path / "in")), open_storage(str(tmp_path / "in"))
    with pytest.raises(FileNotFoundError):
        source.read("a.jpg")
    (tmp_path / "in").rmdir()
    with pytest.raises(UnreachableError, match="is not there any more"):
        source.read("a.jpg")
    with pytest.raises(FileNotFoundError):
        output.read("run.json")


@pytest.mark.parametrize("where", ["read", "write", "find"])
def test_a_key_that_leads_upwards_is_refused(s3, where):
    storage = open_storage("s3://bucket/root", s3)
    with pytest.raises(StorageError, match="not safe"):
        storage.write("a/../b.jpg", b"") if where == "write" else getattr(storage, where)("a/../b.jpg")


@pytest.mark.parametrize("secret", ["s3://CANARY:hunter2@bucket/x", "https://CANARY:hunter2@minio:9000"])
def test_credentials_in_addresses_are_refused_and_not_repeated(secret):
    with pytest.raises(UsageError, match="must not hold credentials") as error:
        open_storage(secret) if secret.startswith("s3") else S3Options(endpoint_url=secret)
    assert "hunter2" not in str(error.value)
    assert "CANARY" not in str(error.value)
