"""A local or mounted folder as a `Storage`, straight through the operating system."""

import ctypes
import errno
import os
import shutil
import stat
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from sgllie.errors import NameRefusedError, ReadError, StorageError, UnreachableError
from sgllie.storage.base import SCRATCH, Entry, Paths, refuse_large

NAME_ERRORS = {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EINVAL, errno.EEXIST, errno.EILSEQ}
MOUNT_ERRORS = {errno.ENOTCONN, errno.ESTALE, errno.ENODEV, errno.EHOSTDOWN, errno.ETIMEDOUT}
"""Errors of a mounted folder whose server is gone."""

LINK_ERRORS = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
"""Why a file cannot get a second name, though it could be copied."""

COPIED_AT_ONCE = 2**20
"""Bytes of a file that is copied."""


class LocalStorage:
    """A folder. Files being written lie in SCRATCH, on the same file system, until they are renamed into place.

    Args:
        root: the folder.
        was_listed: whether it is known to have been there, so that its absence is no fault of one file.
    """

    is_remote = False

    def __init__(self, root: str, *, was_listed: bool = False) -> None:
        self.was_listed = was_listed
        self.root = Path(root).absolute()
        self.uri = str(self.root)
        self.retries = 0

    def list(self, folder: str = "", unreadable: Paths | None = None) -> Iterator[Entry]:
        start = self.root / folder
        if start.is_dir():
            yield from self._walk(str(start), "", (os.path.realpath(start),), unreadable)

    def _walk(self, folder: str, prefix: str, above: tuple[str, ...], unreadable: Paths | None) -> Iterator[Entry]:
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except FileNotFoundError:  # removed since the folder above it was read
            return
        except PermissionError as error:
            if unreadable is None or not prefix:
                raise ReadError(f"{folder} cannot be listed: {error.strerror}") from error
            unreadable.append(prefix.rstrip("/"))
            return
        for entry in entries:
            if is_folder(entry):
                real = os.path.realpath(entry.path)
                if real not in above:  # a link to a folder above would never end
                    yield from self._walk(entry.path, f"{prefix}{entry.name}/", (*above, real), unreadable)
            elif (listed := as_entry(entry, prefix + entry.name)) is not None:
                yield listed
            elif unreadable is not None and os.path.lexists(entry.path):
                unreadable.append(prefix + entry.name)

    def read(self, path: str) -> bytes:
        with self.open(path) as file:
            refuse_large(path, os.fstat(file.fileno()).st_size)
            try:
                return file.read()
            except OSError as error:
                raise self._read_error(path, error) from error

    def open(self, path: str) -> BinaryIO:
        try:
            # Without blocking: a pipe that nobody writes to would be waited for, for ever.
            descriptor = os.open(self.root / path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise self._read_error(path, error) from error
        except ValueError as error:
            raise ReadError(f"{path!r} can be no name of a file: {error}") from error
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise ReadError("it is no regular file")
        return os.fdopen(descriptor, "rb")

    def _read_error(self, path: str, error: OSError) -> Exception:
        """Return what to raise for a file that cannot be read."""
        if error.errno in MOUNT_ERRORS or (self.was_listed and not self.root.exists()):
            return UnreachableError(f"{self.root} is not there any more: {error.strerror}")
        file = self.root / path
        if isinstance(error, FileNotFoundError) and not os.path.islink(file):
            return FileNotFoundError(f"{file} does not exist")
        return ReadError(reason(file, error))

    def write(self, path: str, data: bytes) -> None:
        self._place(path, partial(write_file, data=data))

    def create(self, path: str, data: bytes) -> bool:
        target = Path(self._inside(path))
        try:
            os.makedirs(target.parent, exist_ok=True)
        except OSError as error:
            raise StorageError(f"{self.root} cannot be written: {reason(self.root, error)}") from error
        try:
            # Not by a link to a whole file, which many mounted buckets do not have.
            with target.open("xb", buffering=0) as file:
                file.write(data)
        except FileExistsError:
            return False
        except OSError as error:
            raise StorageError(f"{self.root} cannot be written: {error.strerror}") from error
        return True

    def commit(self, path: str, data: bytes) -> None:
        try:
            flush_file_system(self.root)
        except OSError as error:
            raise StorageError(f"{self.root} cannot be written: {error.strerror}") from error
        self._place(path, partial(write_file, data=data, flush=True))

    def upload(self, path: str, file: Path) -> None:
        self._place(path, partial(copy_file, file))

    def assemble(self, path: str, parts: Iterable[bytes]) -> None:
        with self._write_errors(path):
            scratch, target = self._scratch(), self._inside(path)
            for name in (scratch, target):  # before, since the parts can be had only once
                os.makedirs(os.path.dirname(name), exist_ok=True)
            write_parts(scratch, target, parts)

    def link(self, path: str, file: Path) -> bool:
        """Make a file another name of one elsewhere; tell whether the file system can."""
        try:
            self._write(self._inside(path), partial(link_file, file))
        except OSError as error:
            if error.errno in LINK_ERRORS:
                return False
            raise self._write_error(path, error) from error
        return True

    def _place(self, path: str, write: Callable[[str, str], None]) -> None:
        """Write a file under a partial name, and rename it."""
        with self._write_errors(path):
            self._write(self._inside(path), write)

    @contextmanager
    def _write_errors(self, path: str) -> Iterator[None]:
        """Let what the operating system says of a file that is written become an error of ours."""
        try:
            yield
        except OSError as error:
            raise self._write_error(path, error) from error

    def _write_error(self, path: str, error: OSError) -> StorageError:
        """Return what to raise for a file that cannot be written."""
        if error.errno in NAME_ERRORS:
            return NameRefusedError(f"{path!r} cannot be a file of {self.root}: {error.strerror}")
        return StorageError(f"{self.root} cannot be written: {error.strerror}")

    def _write(self, target: str, write: Callable[[str, str], None]) -> None:
        scratch = self._scratch()
        try:
            write(scratch, target)
        except FileNotFoundError:
            # Folders are made when they turn out to be missing: to ask first would cost a call for each file.
            os.makedirs(os.path.dirname(scratch), exist_ok=True)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            write(scratch, target)

    def _scratch(self) -> str:
        return f"{self.root}/{SCRATCH}/{uuid.uuid4().hex}"

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


def reason(file: Path, error: OSError) -> str:
    """Describe what went wrong with a file, in the operating system's words, and where it leads if it is a link."""
    said = error.strerror or str(error)
    if not os.path.islink(file):
        return said
    if error.errno == errno.ELOOP:
        return "it is a link that leads in a circle; mend or remove it"
    target = os.path.realpath(file)
    if error.errno in (errno.ENOENT, errno.EEXIST) and not os.path.lexists(target):
        return f"it is a link to {target}, which does not exist; mend or remove it"
    return f"it is a link to {target}: {said}"


def is_folder(found: os.DirEntry[str]) -> bool:
    """Tell whether an entry is a folder, or a link to one."""
    try:
        return found.is_dir()
    except OSError:  # a link to itself
        return False


def as_entry(found: os.DirEntry[str], path: str) -> Entry | None:
    """Return the entry of a file or of a link that leads nowhere, whose reader has to say so.

    None for a pipe, a socket or a device, and for what is gone.
    """
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


def flush_file_system(folder: Path) -> None:
    """Have all that was written to the file system of a folder reach its disk, by syncfs(2) where there is one."""
    syncfs = getattr(ctypes.CDLL(None, use_errno=True), "syncfs", None)
    if syncfs is None or not folder.exists():
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        if syncfs(descriptor):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    finally:
        os.close(descriptor)


@contextmanager
def renamed(partial: str, target: str) -> Iterator[None]:
    """Rename a file once it is written and closed; what could not be is removed."""
    try:
        yield
        os.replace(partial, target)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def write_file(partial: str, target: str, data: bytes, flush: bool = False) -> None:
    """Write a file under one name, then rename it; `flush` has its bytes on the disk in between."""
    with renamed(partial, target), open(partial, "xb", buffering=0) as file:
        remaining = memoryview(data)
        while remaining:
            remaining = remaining[file.write(remaining) :]
        if flush:
            os.fsync(file.fileno())


def write_parts(partial: str, target: str, parts: Iterable[bytes]) -> None:
    """Write a file part by part under one name, then rename it."""
    with renamed(partial, target), open(partial, "xb") as file:
        file.writelines(parts)


def copy_file(source: Path, partial: str, target: str) -> None:
    """Copy a file to one name, then rename it to another."""
    with renamed(partial, target), open(source, "rb", buffering=0) as old, open(partial, "xb", buffering=0) as new:
        copy_data(old.fileno(), new.fileno())


def copy_data(old: int, new: int) -> None:
    """Copy the data of a file, and leave its holes as they are: a database may claim a terabyte and hold little."""
    for start, end in data_ranges(old):
        while start < end and (part := os.pread(old, min(end - start, COPIED_AT_ONCE), start)):
            start += os.pwrite(new, part, start)
    os.truncate(new, os.fstat(old).st_size)


def data_ranges(file: int) -> Iterator[tuple[int, int]]:
    """Yield from where to where a file holds data."""
    end = 0
    while True:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which says that none follows
                raise
            return
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start, end


def link_file(source: Path, partial: str, target: str) -> None:
    """Give a file a further name, then rename that; a link is followed."""
    try:
        os.link(os.path.realpath(source), partial)
        os.replace(partial, target)
    finally:
        Path(partial).unlink(missing_ok=True)  # which is still there where target was another name of the same file
