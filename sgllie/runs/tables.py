"""Manifests and rows: between named tuples or dictionaries, Arrow tables, and the files of an output."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import pyarrow as pa
import pyarrow.compute as pc

from sgllie.errors import DamagedError, ReadError, StorageError, first_line
from sgllie.runs.names import MANIFEST, part_name
from sgllie.runs.schemas import Row, manifest_schema
from sgllie.storage import Entry, Storage
from sgllie.storage.parquet import from_parquet, to_parquet

PARTS_AT_ONCE = 16
"""Parts of a manifest that are read or written at the same time."""

Item = TypeVar("Item", bound=tuple[Any, ...])


def manifest_bytes(items: Sequence[tuple[Any, ...]], item_type: type[tuple[Any, ...]]) -> bytes:
    """Return the Parquet file that lists items of this type of named tuple."""
    schema = manifest_schema(cast(type[NamedTuple], item_type))
    columns = zip(*items, strict=True) if items else [[] for _ in schema]
    return to_parquet(pa.table(dict(zip(schema.names, columns, strict=True)), schema))


def read_manifest(storage: Storage, shard: int, item_type: type[Item]) -> list[Item]:
    """Return the items of one shard; errors as of `read_table`."""
    name = f"{MANIFEST}/{part_name(shard)}"
    try:
        table = read_table(storage, name, manifest_schema(cast(Any, item_type)))
    except DamagedError as error:
        if not storage.exists(name):  # another command is beginning anew
            raise
        raise DamagedError(f"{error}; --overwrite begins anew") from error
    return [item_type(**row) for row in table.to_pylist()]


def read_table(
    storage: Storage, path: str, schema: pa.Schema | None = None, names: list[str] | None = None
) -> pa.Table:
    """Return one table of a run, or some columns of it: those of a schema, or those of these names and of any type.

    Raises:
        DamagedError: it is none, lacks a column or has it of another type, or is gone: another command may have begun
            anew.
        StorageError: it cannot be read.
    """
    wanted = names if schema is None else schema.names
    try:
        table = from_parquet(storage.read(path), wanted)
    except FileNotFoundError as error:
        raise DamagedError(f"{storage.uri}/{path} is not there any more") from error
    except ReadError as error:
        raise StorageError(f"{storage.uri}/{path} cannot be read: {error}") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DamagedError(f"{storage.uri}/{path} is damaged: {first_line(error)}") from error
    check_columns(table, schema or (), f"{storage.uri}/{path}")
    for name in names or ():
        if name not in table.column_names:
            raise DamagedError(f"{storage.uri}/{path} is damaged: {name!r} is missing")
    return table


def check_columns(table: pa.Table, schema: Iterable[pa.Field], name: str) -> None:
    """Raise DamagedError where a table lacks one of some columns, or has it of another type."""
    for field in schema:
        if field.name not in table.column_names or table.schema.field(field.name).type != field.type:
            raise DamagedError(f"{name} is damaged: {field.name!r} is missing or of the wrong type")


def entries_in(manifest: Path, shards: Iterable[int]) -> Iterator[Entry]:
    """Yield the files that some parts of a manifest in a local folder list."""
    for shard in sorted(shards):
        data = (manifest / part_name(shard)).read_bytes()
        yield from (Entry(**row) for row in from_parquet(data, list(Entry._fields)).to_pylist())


def copy_manifest(manifest: Path, output: Storage) -> None:
    """Write the parts of a manifest in a local folder into an output."""
    with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
        list(pool.map(lambda part: output.write(f"{MANIFEST}/{part.name}", part.read_bytes()), manifest.iterdir()))


def to_table(rows: Iterable[Row], schema: pa.Schema) -> pa.Table:
    """Return the table of these rows, in the order of their paths."""
    return pa.Table.from_pylist(sorted(rows, key=lambda row: row["path"]), schema)


def csv_bytes(rows: Sequence[Row]) -> bytes:
    """Return the CSV file of these rows, which all have the same columns."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def with_columns(table: pa.Table, others: pa.Table) -> pa.Table:
    """Return a table with the further columns of another one, which are found by `path`; null where it has no such."""
    places = pc.index_in(table["path"], value_set=others["path"].combine_chunks())
    for name in others.column_names:
        if name not in table.column_names:
            table = table.append_column(others.schema.field(name), others[name].take(places))
    return table


def read_rows(storage: Storage, path: str, schema: pa.Schema | None = None) -> list[Row]:
    """Return the rows of one file, or these columns of them; errors as of `read_table`."""
    return read_table(storage, path, schema).to_pylist()


def some_of(schema: pa.Schema, *names: str) -> pa.Schema:
    """Return some columns of a schema."""
    return pa.schema([schema.field(name) for name in names])
