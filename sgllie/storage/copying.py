"""One object from one storage to another: by the server or the file system where they can, in parts where not."""

import os
from functools import partial

from sgllie.storage.base import Entry, Storage
from sgllie.storage.local import LocalStorage

AT_ONCE = 8 * 2**20
"""Bytes of an object that are held in memory at a time."""


def copy(source: Storage, entry: Entry, target: Storage, name: str) -> int | None:
    """Create or replace an object of one storage with one of another; return its bytes, if they are known.

    Args:
        source: where it is.
        entry: which one, as it was listed.
        target: where it goes.
        name: what it is called there.

    Raises:
        FileNotFoundError, ReadError: it cannot be read.
        NameRefusedError, StorageError: it cannot be written.
    """
    is_small = entry.size is not None and entry.size <= AT_ONCE
    if source.is_remote and target.is_remote:
        from sgllie.storage.s3 import S3Storage  # half a second of imports that local work does not need

        if isinstance(source, S3Storage) and isinstance(target, S3Storage) and target.copy_from(source, entry, name):
            return entry.size
    if is_small:
        data = source.read(entry.path)
        target.write(name, data)
        return len(data)
    with source.open(entry.path) as file:  # which says what is wrong with it
        if isinstance(source, LocalStorage):
            target.upload(name, source.root / entry.path)
            return os.fstat(file.fileno()).st_size
        target.assemble(name, iter(partial(file.read, AT_ONCE), b""))
        return file.tell()


def link(source: Storage, path: str, target: Storage, name: str) -> bool:
    """Make an object of one storage another name of one of another, if both are folders of one file system."""
    if not (isinstance(source, LocalStorage) and isinstance(target, LocalStorage)):
        return False
    with source.open(path):  # which says what is wrong with it
        return target.link(name, source.root / path)
