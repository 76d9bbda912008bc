"""Arrow tables as the bytes of Parquet files."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sgllie.errors import ReadError, StorageError
from sgllie.storage.base import Storage

WRITING: dict[str, Any] = {"compression": "zstd", "write_page_checksum": True}
"""How tables are written: what has changed on a disk since is told when it is read."""


def from_parquet(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """Return the table in the bytes of a Parquet file.

    On this thread alone: with `read_table` one of Arrow's threads may free the bytes while the interpreter shuts down,
    which aborts a process that has done all its work.
    """
    file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True)
    return file.read(columns=columns, use_threads=False)


def to_parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **WRITING)
    return buffer.getvalue()


def count_rows(storage: Storage, path: str) -> int | None:
    """Return how many rows a stored Parquet file holds, reading each; None where they cannot be read."""
    try:
        with storage.open(path) as file:
            table = pq.ParquetFile(file, pre_buffer=False, page_checksum_verification=True)
            return sum(len(batch) for batch in table.iter_batches(use_threads=False))
    except (pa.ArrowException, OSError, ValueError, ReadError):
        return None


def read_metadata(storage: Storage, path: str) -> dict[bytes, bytes]:
    """Return the metadata of a stored Parquet file, from its last bytes alone; none where they cannot be read.

    Raises:
        StorageError: the storage is gone, or the object cannot be read.
    """
    try:
        with storage.open(path) as file:
            return pq.read_metadata(file).metadata or {}
    except ReadError as error:
        raise StorageError(f"{storage.uri}/{path} cannot be read: {error}") from error
    except (pa.ArrowException, OSError, ValueError):
        return {}
