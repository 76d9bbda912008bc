"""Where bytes come from and go to: one small interface over local folders and S3.

A `Storage` is a root (folder or `s3://bucket/prefix`) with the five things that the jobs do below it: list, read,
write, ask for, remove. Every write is atomic: a reader sees the whole new object or the old one, whatever is killed.
"""

import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO, NamedTuple, Protocol


class UsageError(Exception):
    """A mistake of the caller's that one sentence explains; the command line prints it and exits with 2."""


class StorageError(Exception):
    """A storage did not do what was asked of it, after all retries; the message names the object and the reason."""


class UnreachableError(StorageError):
    """A storage is not there, or refuses the credentials: it would be the same for every object."""


class NameRefusedError(StorageError):
    """One object cannot be written under its name (too long, a folder is in its place); others can."""


NAME_ERRORS = {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.EEXIST, errno.EILSEQ}


@dataclass(frozen=True)
class S3Options:
    """How to reach an S3 service; what is left out is taken from the usual AWS variables and files."""

    endpoint_url: str | None = None
    """Address of an S3 service other than AWS (AWS_ENDPOINT_URL)."""
    profile: str | None = None
    """Name of a profile in the AWS credentials file (AWS_PROFILE)."""
    region: str | None = None
    """Region of the bucket (AWS_DEFAULT_REGION)."""
    anonymous: bool = False
    """Read a public bucket without credentials."""


class Entry(NamedTuple):
    """One listed file: its path below the root, bytes, and what changes when its content does (ETag or mtime).

    Size and version are None where only a list of paths is known: to ask for each would cost a request per file.
    """

    path: str
    size: int | None
    version: str | None


class Storage(Protocol):
    """A root below which objects are listed, read and written; all paths are relative to it, with `/`."""

    uri: str

    @property
    def retries(self) -> int:
        """How many requests of the calling thread had to be repeated, since the beginning."""

    def list(self, folder: str = "") -> Iterator[Entry]:
        """All objects below a folder of the root, their paths relative to it, in a fixed order, a page at a time."""

    def read(self, path: str) -> bytes:
        """All bytes of one object; FileNotFoundError where there is none."""

    def open(self, path: str) -> BinaryIO:
        """One object as a file that can seek, for what is too large for memory; FileNotFoundError if there is none."""

    def write(self, path: str, data: bytes) -> None:
        """Create or replace one object, atomically; NameRefusedError or StorageError where that cannot be done."""

    def upload(self, path: str, file: Path) -> None:
        """The same as `write`, with the content of a local file."""

    def find(self, path: str) -> Entry | None:
        """One object (not a folder) as a listing of the root would have it, if it is there."""

    def exists(self, path: str) -> bool:
        """Whether there is an object (not a folder) of this path."""

    def remove(self, path: str) -> None:
        """Remove one object or all objects below a folder, if there are any; StorageError where that cannot be done."""


def open_storage(uri: str, s3: S3Options | None = None) -> Storage:
    """The storage of a folder or an `s3://bucket/prefix`. Nothing is read or created by this call."""
    if uri.startswith("s3://"):
        from sgllie.s3 import S3Storage  # half a second of imports that local work does not need

        return S3Storage(uri, s3 or S3Options())
    if "://" in uri:
        raise UsageError(f"{uri}: only local paths and s3:// are supported")
    return LocalStorage(uri)


def split_uri(uri: str) -> tuple[str, str]:
    """`folder/name` -> (folder, name), for local paths and s3:// alike."""
    if uri.startswith("s3://"):
        parent, _, name = uri.rpartition("/")
        return parent, name
    path = Path(uri).absolute()
    return str(path.parent), path.name


class LocalStorage:
    """A local or mounted folder, straight through the operating system."""

    SCRATCH = ".partial"
    """Files being written lie here, on the same file system, until they are renamed into place."""

    def __init__(self, root: str) -> None:
        self.root = Path(root).absolute()
        self.uri = str(self.root)
        self.retries = 0

    def list(self, folder: str = "") -> Iterator[Entry]:
        start = self.root / folder
        if start.is_dir():
            yield from self._walk(str(start), "", (os.path.realpath(start),))

    def _walk(self, folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[Entry]:
        with os.scandir(folder) as found:
            entries = sorted(found, key=lambda entry: entry.name)
        for entry in entries:
            if is_folder(entry):
                real = os.path.realpath(entry.path)
                if real not in above:  # a link to a folder above would never end
                    yield from self._walk(entry.path, f"{prefix}{entry.name}/", (*above, real))
            elif (listed := as_entry(entry, prefix + entry.name)) is not None:
                yield listed

    def read(self, path: str) -> bytes:
        with (self.root / path).open("rb") as file:
            return file.read()

    def open(self, path: str) -> BinaryIO:
        return (self.root / path).open("rb")

    def write(self, path: str, data: bytes) -> None:
        self._place(path, partial(write_file, data=data))

    def upload(self, path: str, file: Path) -> None:
        self._place(path, partial(copy_file, file))

    def _place(self, path: str, write: Callable[[str, str], None]) -> None:
        """Have a file written under a partial name, and renamed."""
        try:
            self._write(self._inside(path), write)
        except OSError as error:
            if error.errno in NAME_ERRORS:
                raise NameRefusedError(f"{path!r} cannot be a file of {self.root}: {error.strerror}") from error
            raise StorageError(f"{self.root} cannot be written: {error.strerror}") from error

    def _write(self, target: str, write: Callable[[str, str], None]) -> None:
        scratch = f"{self.root}/{self.SCRATCH}/{uuid.uuid4().hex}"
        try:
            write(scratch, target)
        except FileNotFoundError:
            # Folders are made when they turn out to be missing: to ask first would cost a call for each file.
            os.makedirs(os.path.dirname(scratch), exist_ok=True)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            write(scratch, target)

    def _inside(self, path: str) -> str:
        if path.startswith("/") or ".." in PurePosixPath(path).parts:
            raise NameRefusedError(f"{path!r} would be written outside {self.root}")
        return f"{self.root}/{path}"

    def find(self, path: str) -> Entry | None:
        if not self.exists(path):
            return None
        try:
            status = (self.root / path).stat()
        except FileNotFoundError:  # removed since
            return None
        return Entry(path, status.st_size, str(status.st_mtime_ns))

    def exists(self, path: str) -> bool:
        return (self.root / path).is_file()

    def remove(self, path: str) -> None:
        target = self.root / path
        try:
            while target.is_dir():
                remove_tree(target)
            target.unlink(missing_ok=True)
        except OSError as error:
            raise StorageError(f"{target} cannot be removed: {error.strerror}") from error


def is_folder(found: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return found.is_dir()
    except OSError:  # a link to itself
        return False


def as_entry(found: os.DirEntry[str], path: str) -> Entry | None:
    """The entry of a file; of a link that leads nowhere, too, for whoever reads it has to say so; None for a pipe."""
    try:
        status = found.stat()
    except OSError:
        is_there = os.path.lexists(found.path)  # or was removed since its folder was read
        return Entry(path, None, None) if is_there else None
    return Entry(path, status.st_size, str(status.st_mtime_ns)) if stat.S_ISREG(status.st_mode) else None


def remove_tree(folder: Path) -> None:
    """Remove a folder, or as much of it as others let: a worker that outlives its driver may still be writing there."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def write_file(partial: str, target: str, data: bytes) -> None:
    """Write a file under one name, then rename it to another."""
    try:
        with open(partial, "xb", buffering=0) as file:
            remaining = memoryview(data)
            while remaining:
                remaining = remaining[file.write(remaining) :]
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def copy_file(source: Path, partial: str, target: str) -> None:
    """Copy a file to one name, then rename it to another."""
    try:
        shutil.copyfile(source, partial)
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise
