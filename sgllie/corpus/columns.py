"""Columns of an input list beside its paths, to be carried into the statistics."""

import hashlib
import io
from collections.abc import Sequence
from pathlib import PurePosixPath

import pyarrow as pa

from sgllie.corpus.listing import Listing
from sgllie.corpus.path_list import read_columns
from sgllie.errors import UsageError

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
    columns = read_columns(listing.source, listing.s3, names)
    for column in names:
        if column not in columns:
            raise UsageError(f"--columns names {column}, and the list {listing.source} has no such column")
    try:
        return pa.table({"path": pa.array(listing.listed(), pa.string())} | columns)
    except pa.ArrowException as error:
        raise UsageError(f"--columns: a column of {listing.source} holds values of several types ({error})") from error


def fingerprint(columns: pa.Table) -> str:
    """Return a hash of all values of a table."""
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, columns.schema) as stream:
        stream.write_table(columns.combine_chunks())
    return hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
