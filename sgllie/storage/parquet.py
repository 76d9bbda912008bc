"""Arrow tables as the bytes of Parquet files."""

import io

import pyarrow as pa
import pyarrow.parquet as pq

from sgllie.storage.base import Storage


def from_parquet(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """Return the table in the bytes of a Parquet file.

    On this thread alone: with `read_table` one of Arrow's threads may free the bytes while the interpreter shuts down,
    which aborts a process that has done all its work.
    """
    return pq.ParquetFile(pa.BufferReader(data), pre_buffer=False).read(columns=columns, use_threads=False)


def to_parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def read_metadata(storage: Storage, path: str, key: bytes) -> str | None:
    """Return a text in the metadata of a stored Parquet file, from its last bytes alone.

    None where there is none, or it cannot be read.

    Raises:
        StorageError: the storage is gone, or the object cannot be read.
    """
    try:
        with storage.open(path) as file:
            return (pq.read_metadata(file).metadata or {})[key].decode()
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return None
