"""Bytes by name, wherever they lie: `open_storage` gives the `Storage` of a folder or of a url."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sgllie.errors import UsageError
from sgllie.storage.base import SCRATCH, Entry, S3Options, Storage, refuse_credentials, refuse_read_only
from sgllie.storage.local import LocalStorage
from sgllie.storage.pace import hurry, slow_downs

__all__ = [
    "SCRATCH",
    "Entry",
    "LocalStorage",
    "S3Options",
    "Storage",
    "absolute_uri",
    "hurry",
    "open_source",
    "open_storage",
    "read_file",
    "refuse_credentials",
    "refuse_read_only",
    "slow_downs",
    "split_uri",
    "write_file",
]


def open_storage(uri: str, s3: S3Options | None = None) -> Storage:
    """Return the storage of a folder, an `s3://bucket/prefix` or a url of fsspec's. Nothing is read or created by this.

    Raises:
        UsageError: the url holds credentials, or its scheme is not known or needs a package.
    """
    refuse_credentials("the address", uri)
    if uri.startswith("s3://"):
        from sgllie.storage.s3 import S3Storage  # half a second of imports that local work does not need

        return S3Storage(uri, s3 or S3Options())
    if uri.startswith("file://"):
        raise UsageError(f"{uri}: name the folder itself, {unquote(urlsplit(uri).path)}")
    if "://" in uri:
        from sgllie.storage.fsspec import FsspecStorage

        return FsspecStorage(uri)
    return LocalStorage(uri)


def open_source(uri: str, s3: S3Options | None = None) -> Storage:
    """Return the storage of files that were listed: where it is gone as a whole, reading raises UnreachableError."""
    return open_storage(uri, s3) if "://" in uri else LocalStorage(uri, was_listed=True)


def read_file(uri: str, s3: S3Options | None = None) -> bytes:
    """Return all bytes of one file, local or remote; errors as of `Storage.read`."""
    folder, name = split_uri(uri)
    return open_storage(folder, s3).read(name)


def write_file(uri: str, data: bytes, s3: S3Options | None = None) -> None:
    """Create or replace one file, local or remote, atomically; errors as of `Storage.write`."""
    folder, name = split_uri(uri)
    open_storage(folder, s3).write(name, data)


def split_uri(uri: str) -> tuple[str, str]:
    """Split `folder/name` into (folder, name), for local paths and urls alike."""
    if "://" in uri:
        parent, _, name = uri.rpartition("/")
        return parent, name
    path = Path(uri).absolute()
    return str(path.parent), path.name


def absolute_uri(uri: str) -> str:
    """Return a folder as an absolute path, or a url without a slash at its end."""
    return uri.rstrip("/") if "://" in uri else str(Path(uri).absolute())
