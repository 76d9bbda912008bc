"""Storages: the same promises for a local folder and for S3, the real one of Ceph and the lenient one of moto."""

import errno
import http.server
import logging
import os
import pickle
import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from emulators import ODD_NAMES, empty_place
from sgllie.errors import NameRefusedError, ReadError, StorageError, UnreachableError, UsageError
from sgllie.storage import S3Options, open_source, open_storage, split_uri


@pytest.fixture(params=["local", "moto", "ceph", "memory", "azure", "gcs"])
def storage(request, tmp_path, empty_bucket):
    """An empty storage of each kind."""
    if request.param == "local":
        return open_storage(str(tmp_path / "root"))
    if request.param in ("memory", "azure", "gcs"):
        return open_storage(f"{empty_place(request, request.param)}/root")
    server = request.getfixturevalue(request.param)
    return open_storage("s3://bucket/root", empty_bucket(getattr(server, "endpoint", server)))


def odd_names(storage):
    """Names that are easily mistaken; Azure's client cannot tell all of them apart."""
    return [name for name in ODD_NAMES if not (storage.uri.startswith("az://") and "?" in name)]


def test_what_is_written_is_listed_and_read(storage):
    contents = {name: bytes(number) for number, name in enumerate(odd_names(storage))}
    for name, content in contents.items():
        storage.write(name, content)
    assert {entry.path: entry.size for entry in storage.list()} == {name: len(data) for name, data in contents.items()}
    assert {name: storage.read(name) for name in contents} == contents
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
    for number, name in enumerate(odd_names(storage)):
        storage.write(name, bytes(number))
    assert [storage.find(entry.path) for entry in storage.list()] == list(storage.list())
    assert storage.find("absent") is storage.find("deep") is None


def test_versions_change_with_content(storage):
    storage.write("a", b"one")
    before = next(entry for entry in storage.list() if entry.path == "a").version
    time.sleep(0.01)
    storage.write("a", b"two")
    assert next(entry for entry in storage.list() if entry.path == "a").version != before


def test_of_several_that_create_one_object_one_succeeds(storage):
    if storage.uri.startswith("gs://"):
        pytest.skip("the emulator knows no conditions")
    contents = [f"of {number}".encode() for number in range(12)]
    with ThreadPoolExecutor(12) as pool:
        succeeded = list(pool.map(lambda data: storage.create("a/lock", data), contents))
    assert succeeded.count(True) == 1
    assert storage.read("a/lock") == contents[succeeded.index(True)]
    assert not storage.create("a/lock", b"later")
    storage.remove("a/lock")
    assert storage.create("a/lock", b"later")


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


@pytest.mark.parametrize("name", ["../b", "/b", "c/../../b", "a/b", "x" * 300])
def test_names_that_a_folder_cannot_hold(tmp_path, name):
    storage = open_storage(str(tmp_path))
    storage.write("a", b"")
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


@pytest.mark.parametrize(
    ("uri", "sentence"),
    [
        ("nonsense://a", "no storage is known by nonsense://"),
        ("file:///a b", "name the folder itself, /a b"),
        ("gs://me:secret@a", r"\*\*\*@a; it must not hold credentials.* clients of gs:// read"),
        ("abfs://a:secret@b/c", "must not hold credentials"),
    ],
)
def test_urls_that_cannot_be_opened(uri, sentence):
    with pytest.raises(UsageError, match=sentence):
        open_storage(uri)


def test_a_package_that_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "gs", raising=False)
    with pytest.raises(UsageError, match="gs:// needs a package that is not installed: pip install gcsfs"):
        open_storage("gs://bucket")


@pytest.mark.parametrize("name", ["q?x=1&y#z.jpg", "a/../b.jpg"])
@pytest.mark.parametrize("elsewhere", ["azure"], indirect=True)
def test_names_that_a_client_takes_for_others_are_refused(elsewhere, name):
    with pytest.raises(NameRefusedError, match="would be taken for another name by az://"):
        open_storage(elsewhere).write(name, b"")


def test_memory_is_of_one_process():
    with pytest.raises(UsageError, match="memory://a is the memory of one process"):
        pickle.dumps(open_storage("memory://a"))


def test_what_can_only_be_read_is_not_written_to():
    storage = open_storage("https://host.invalid/photographs")
    for write in (lambda: storage.write("a", b""), lambda: storage.upload("a", Path("a"))):
        with pytest.raises(
            UsageError, match="nothing can be written to https://; take a folder, or one of s3://, gs://"
        ):
            write()
    with pytest.raises(StorageError, match="https:// has no folders; name its files in a list"):
        next(storage.list())


@pytest.mark.parametrize(
    ("status", "kind"), [(404, FileNotFoundError), (403, UnreachableError), (500, ReadError), (None, UnreachableError)]
)
def test_a_fault_of_a_web_server_is_no_absent_file(status, kind):
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status)

        def do_HEAD(self):
            self.do_GET()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Refusing)
    address = f"http://127.0.0.1:{server.server_address[1]}"
    with server:
        if status:
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        else:
            server.server_close()
        for read in (open_storage(address).read, open_storage(address).open):
            with pytest.raises(kind):
                read("a.jpg")
        if status:
            server.shutdown()


@pytest.mark.parametrize("elsewhere", ["azure", "gcs"], indirect=True)
def test_another_process_opens_the_same_place(elsewhere):
    open_storage(elsewhere).write("a.jpg", b"x")
    assert pickle.loads(pickle.dumps(open_storage(elsewhere))).read("a.jpg") == b"x"


@pytest.mark.parametrize("elsewhere", ["azure", "gcs"], indirect=True)
def test_a_container_that_is_absent(elsewhere):
    storage = open_storage(elsewhere.replace("container", "absent"))
    assert list(storage.list()) == []
    with pytest.raises(UnreachableError, match="the bucket or container does not exist"):
        storage.write("a", b"")
    with pytest.raises(FileNotFoundError):
        storage.read("a")


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


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nowhere.jpg", "it is a link to {there}/absent.jpg, which does not exist; mend or remove it"),
        ("twice.jpg", "it is a link to {there}/absent.jpg, which does not exist; mend or remove it"),
        ("loop.jpg", "it is a link that leads in a circle; mend or remove it"),
        ("self.jpg", "it is a link that leads in a circle; mend or remove it"),
        ("through.jpg", "it is a link to {there}/a.jpg/b.jpg: Not a directory"),
        ("folder.jpg", "it is no regular file"),
    ],
)
def test_what_is_wrong_with_a_link_is_said(tmp_path, name, sentence):
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "folder").mkdir()
    links = {"nowhere": "absent.jpg", "twice": "nowhere.jpg", "through": "a.jpg/b.jpg", "folder": "folder"}
    for link, target in (links | {"loop": "back.jpg", "back": "loop.jpg", "self": "self.jpg"}).items():
        (tmp_path / f"{link}.jpg").symlink_to(target)
    with pytest.raises(ReadError) as raised:
        open_storage(str(tmp_path)).read(name)
    assert str(raised.value) == sentence.format(there=tmp_path)


def test_a_link_to_what_nobody_may_read_names_it(tmp_path, monkeypatch):
    """Root may read all, so that the operating system's answer is played."""
    (tmp_path / "a.jpg").write_bytes(b"a")
    (tmp_path / "link.jpg").symlink_to("a.jpg")
    monkeypatch.setattr(
        os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(errno.EACCES, "Permission denied"))
    )
    with pytest.raises(ReadError, match=rf"^it is a link to {tmp_path}/a.jpg: Permission denied$"):
        open_storage(str(tmp_path)).read("link.jpg")
    with pytest.raises(ReadError, match=r"^Permission denied$"):
        open_storage(str(tmp_path)).read("a.jpg")


def test_an_output_that_is_a_link_to_nowhere_says_so(tmp_path):
    (tmp_path / "out").symlink_to("absent")
    with pytest.raises(StorageError, match=rf"it is a link to {tmp_path}/absent, which does not exist; mend or remove"):
        open_storage(str(tmp_path / "out")).create("run.json", b"{}")


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


@pytest.mark.parametrize("secret", ["s3://CANARY:hunter2@bucket/x", "https://CANARY:hunter2@minio:9000"])
def test_credentials_in_addresses_are_refused_and_not_repeated(secret):
    with pytest.raises(UsageError, match="must not hold credentials") as error:
        open_storage(secret) if secret.startswith("s3") else S3Options(endpoint_url=secret)
    assert "hunter2" not in str(error.value)
    assert "CANARY" not in str(error.value)


def test_the_package_of_a_scheme_prints_no_traces_beside_our_sentence():
    open_storage("memory://any")  # which loads what speaks to such packages
    assert not logging.getLogger("gcsfs").isEnabledFor(logging.ERROR)
