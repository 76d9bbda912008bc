"""A folder, bucket or container of any other kind that fsspec knows, through the package of its scheme."""

import io
import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from tempfile import NamedTemporaryFile
from threading import Lock
from typing import Any, BinaryIO, TypeVar

import aiohttp
import fsspec

from sgllie.errors import NameRefusedError, ReadError, StorageError, UnreachableError, UsageError, first_line
from sgllie.storage.base import Entry, Paths, refuse_large, refuse_read_only
from sgllie.storage.object_file import READ_BYTES, ObjectFile

Answer = TypeVar("Answer")

PACKAGES = {"gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs", "abfss": "adlfs", "hf": "huggingface_hub"}
"""What is to be installed for a scheme, as far as we know better than fsspec."""
FLAT = ("http", "https")
"""Schemes without folders that could be listed."""
VERSIONS = ("etag", "ETag", "generation", "blob_id", "last_modified", "mtime", "modified", "created", "Last-Modified")
"""What tells that the content of a file has changed, the best first."""
REMOVALS = 32
"""Objects that are removed at the same time."""


for _name in set(PACKAGES.values()):  # their traces would stand beside our sentence
    logging.getLogger(_name).setLevel(logging.CRITICAL)


class FsspecStorage:
    """Anything below a url. Faults that may pass are tried again by the filesystem itself, and not counted.

    Credentials are those that the package of the scheme finds by itself: variables, files, the account of the machine.
    """

    retries = 0

    def __init__(self, uri: str) -> None:
        self.scheme = uri.partition("://")[0]
        self.uri = uri.rstrip("/")
        self.is_remote = self.scheme != "memory"
        self._filesystem: fsspec.AbstractFileSystem | None = None
        self._lock = Lock()
        try:
            self._class = fsspec.get_filesystem_class(self.scheme)
        except ImportError as error:
            package = PACKAGES.get(self.scheme)
            advice = f"pip install {package}" if package else str(error)
            raise UsageError(f"{uri}: {self.scheme}:// needs a package that is not installed: {advice}") from error
        except ValueError as error:
            raise UsageError(f"{uri}: no storage is known by {self.scheme}://") from error
        self._root = self._class._strip_protocol(self.uri)

    def __reduce__(self) -> tuple[Any, ...]:
        if self.scheme == "memory":
            raise UsageError(f"{self.uri} is the memory of one process; others cannot reach it")
        return FsspecStorage, (self.uri,)

    def list(self, folder: str = "", unreadable: Paths | None = None) -> Iterator[Entry]:
        if self.scheme in FLAT:
            raise StorageError(f"{self.uri}: {self.scheme}:// has no folders; name its files in a list")
        start = self._path(folder)
        with suppress(FileNotFoundError):
            yield from self._walk(start, len(start) + 1)

    def _walk(self, folder: str, skipped: int) -> Iterator[Entry]:
        """Yield what lies below a folder, in the order of names, each path without its first characters."""
        found = self._try(lambda filesystem: filesystem.ls(folder, detail=True), folder)
        for one in sorted(found, key=lambda one: one["name"]):
            name = one["name"].rstrip("/")
            if one["type"] == "directory" and name != folder:
                yield from self._walk(self._checked(name), skipped)
            elif one["type"] == "directory":
                raise StorageError(f"{self.uri} holds names with an empty part ({folder}//...), which cannot be listed")
            elif name != folder:  # what consoles put to stand for an empty folder
                yield as_entry(one, name[skipped:])

    def read(self, path: str) -> bytes:
        refuse_large(path, self._info(path)["size"] or 0)
        return self._try(lambda filesystem: filesystem.cat_file(self._path(path)), path, ReadError)

    def read_range(self, path: str, start: int, end: int) -> bytes:
        """Return the bytes of one object from `start` up to, but not including, `end`."""
        return self._try(
            lambda filesystem: filesystem.cat_file(self._path(path), start=start, end=end), path, ReadError
        )

    def open(self, path: str) -> BinaryIO:
        size = self._info(path)["size"]
        if size is None or (self.scheme in FLAT and size > 1 and len(self.read_range(path, 0, 1)) > 1):
            return io.BytesIO(self.read(path))  # from a server that sends whole files alone
        return io.BufferedReader(ObjectFile(self.read_range, path, size), READ_BYTES)

    def _info(self, path: str) -> dict[str, Any]:
        """Return what the filesystem says of a file."""
        found = self._try(lambda filesystem: filesystem.info(self._path(path)), path, ReadError)
        if found["type"] != "file":
            raise FileNotFoundError(path)
        return found

    def write(self, path: str, data: bytes) -> None:
        self._place(path, lambda filesystem: filesystem.pipe_file(self._path(path), data))

    def create(self, path: str, data: bytes) -> bool:
        try:
            self._place(path, lambda filesystem: filesystem.pipe_file(self._path(path), data, mode="create"))
        except FileExistsError:
            return False
        return True

    def commit(self, path: str, data: bytes) -> None:
        self.write(path, data)  # a server answers once it is safe

    def upload(self, path: str, file: Path) -> None:
        self._place(path, lambda filesystem: filesystem.put_file(str(file), self._path(path)))

    def assemble(self, path: str, parts: Iterable[bytes]) -> None:
        with NamedTemporaryFile(prefix="sgllie-") as file:
            for part in parts:
                file.write(part)
            file.flush()
            self.upload(path, Path(file.name))

    def _place(self, path: str, write: Callable[[fsspec.AbstractFileSystem], object]) -> None:
        refuse_read_only(self.uri)
        try:
            self._try(write, path)
        except FileNotFoundError as error:
            raise UnreachableError(f"{self.uri}: the bucket or container does not exist") from error

    def find(self, path: str) -> Entry | None:
        try:
            return as_entry(self._info(path), path)
        except FileNotFoundError:
            return None

    def exists(self, path: str) -> bool:
        return self.find(path) is not None

    def remove(self, path: str) -> None:
        if self.exists(path):
            self._remove_one(path)
        with ThreadPoolExecutor(REMOVALS) as pool:
            for _ in pool.map(self._remove_one, [f"{path}/{entry.path}" for entry in self.list(path)]):
                pass

    def _remove_one(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._try(lambda filesystem: filesystem.rm_file(self._path(path)), path)

    def _path(self, path: str) -> str:
        return self._checked(f"{self._root}/{path}".rstrip("/"))

    def _checked(self, full: str) -> str:
        """Return a path; NameRefusedError where its filesystem takes it for another one, as adlfs does with ? and #."""
        if ".." in full.split("/") or self._class._strip_protocol(full) != full:
            raise NameRefusedError(f"{full} would be taken for another name by {self.scheme}://")
        return full

    def _try(
        self,
        request: Callable[[fsspec.AbstractFileSystem], Answer],
        path: str,
        otherwise: type[StorageError] = StorageError,
    ) -> Answer:
        """Make a request; `otherwise` is what to raise where neither the whole storage nor the name is at fault."""
        try:
            return request(self._connected())
        except (StorageError, FileExistsError):
            raise
        except Exception as error:
            # At a first look fsspec takes every fault of a web server for an absent file.
            hidden = error.__cause__ if isinstance(error, FileNotFoundError) else None
            fault = hidden if isinstance(hidden, Exception) else error
            raise failure(fault, otherwise)(f"{self.uri}/{path}: {first_line(fault)}") from error

    def _connected(self) -> fsspec.AbstractFileSystem:
        with self._lock:
            if self._filesystem is None:
                self._filesystem, _ = fsspec.url_to_fs(self.uri, use_listings_cache=False)
            return self._filesystem


def as_entry(found: dict[str, Any], path: str) -> Entry:
    """Return the entry of a file as its filesystem describes it."""
    version = next((found[key] for key in VERSIONS if found.get(key)), None)
    if isinstance(version, datetime):  # which is a number in some answers of the same filesystem
        version = version.timestamp()
    return Entry(path, found["size"], None if version is None else str(version).strip('"'))


def status_of(error: Exception) -> int | None:
    """Return the HTTP status in the error of a filesystem; the packages have no attribute in common."""
    found = (getattr(error, name, None) for name in ("status_code", "status", "code"))
    return next((status for status in found if isinstance(status, int)), None)


def failure(error: Exception, otherwise: type[StorageError]) -> type[Exception]:
    """Return what to raise for the error of a filesystem; `otherwise` where it concerns one object."""
    status = status_of(error)
    is_connection = isinstance(error, ConnectionError | TimeoutError | aiohttp.ClientConnectionError)
    # Of Azure's and Google's client libraries, which are not always installed.
    is_client = status is None and type(error).__module__.startswith(("azure.", "google.auth."))
    if status in (401, 403) or isinstance(error, PermissionError) or is_connection or is_client:
        return UnreachableError
    if status == 404 or isinstance(error, FileNotFoundError):
        return FileNotFoundError
    if status == 400 and otherwise is not ReadError:
        return NameRefusedError
    return otherwise
