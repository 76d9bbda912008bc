"""Columns of an input list beside its paths, to be carried into the statistics."""

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from sgllie.corpus.listing import Listing
from sgllie.errors import StorageError, UsageError
from sgllie.storage import open_storage, split_uri
from sgllie.storage.parquet import from_parquet

TABLES = (".csv", ".jsonl", ".parquet")


def list_columns(listing: Listing, names: Sequence[str]) -> pa.Table:
    """Return `path`, as the listing yields it, and further columns of the list that is the input.

    Their types are those of the list; all of a CSV is text.

    Raises:
        UsageError: the input is no list that has them, or the values of one are of several types.
    """
    suffix = PurePosixPath(listing.source).suffix.lower()
    if suffix not in TABLES or not listing.is_list:
        raise UsageError(f"--columns needs a list with columns ({', '.join(TABLES)}) as input, not {listing.source}")
    folder, name = split_uri(listing.source)
    paths = pa.array(listing.listed(), pa.string())
    try:
        columns = columns_in(open_storage(folder, listing.s3).read(name), suffix, names)
    except (OSError, StorageError) as error:
        raise UsageError(f"the list {listing.source} cannot be read: {error}") from error
    for column, values in columns.items():
        if values is None:
            raise UsageError(f"--columns names {column}, and the list {listing.source} has no such column")
    try:
        return pa.table({"path": paths} | {column: pa.chunked_array(values) for column, values in columns.items()})
    except pa.ArrowException as error:
        raise UsageError(f"--columns: a column of {listing.source} holds values of several types ({error})") from error


def columns_in(data: bytes, suffix: str, names: Sequence[str]) -> dict[str, Any]:
    """Return the values of columns of a list, which is known to be readable; None for one that it does not have."""
    if suffix == ".parquet":
        table = from_parquet(data)
        return {name: table[name].chunks if name in table.column_names else None for name in names}
    text = data.decode("utf-8-sig")
    if suffix == ".csv":
        rows: list[dict[str, Any]] = list(csv.DictReader(io.StringIO(text, newline="")))
    else:
        rows = [json.loads(line) for line in text.split("\n") if line.strip()]
    known = {key for row in rows for key in row}
    return {name: [[row.get(name) for row in rows]] if name in known else None for name in names}


def fingerprint(columns: pa.Table) -> str:
    """Return a hash of all values of a table."""
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, columns.schema) as stream:
        stream.write_table(columns.combine_chunks())
    return hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
