"""The rows of finished shards as they are committed, each with its totals in the file's own metadata."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pyarrow as pa

from sgllie.errors import DamagedError
from sgllie.runs.names import COMMITS, SUCCESS, part_name, parts
from sgllie.runs.schemas import Row, row_schema
from sgllie.runs.tables import check_columns, read_table, to_table, with_columns
from sgllie.runs.totals import Tally, Totals
from sgllie.storage import Storage
from sgllie.storage.parquet import read_metadata, to_parquet

TOTALS_KEY = b"sgllie.totals"
RUN_KEY = b"sgllie.run"
"""The id of the run that a commit belongs to: late workers of one that was replaced may still write theirs."""
SAME_COMMAND = "the same command does its shard again"
READERS = 32
"""Footers that are read at the same time."""
AHEAD = 8
"""Tables that are read at the same time."""


def write_commit(
    output: Storage,
    shard: int,
    rows: list[Row],
    schema: pa.Schema,
    tally: Tally,
    *,
    folder: str = COMMITS,
    columns: pa.Table | None = None,
    spent: Totals | None = None,
    run: str = "",
) -> Totals:
    """Commit the rows of a shard, in the order of their paths; return their totals, with what was spent on them.

    Args:
        output: of the run.
        shard: its number.
        rows: all of it.
        schema: of the rows.
        tally: what they come to.
        folder: where they are committed.
        columns: further columns of the same rows, see `with_columns`.
        spent: see `cost.SPENT`.
        run: the id of the run; without one it belongs to whichever run is there.
    """
    totals = tally(rows) | (spent or {})
    table = to_table(rows, schema)
    if columns is not None:
        table = with_columns(table, columns)
    table = table.replace_schema_metadata(holding(totals) | {RUN_KEY: run.encode()})
    output.commit(f"{folder}/{part_name(shard)}", to_parquet(table))
    return totals


def commit_table(
    output: Storage,
    shard: int,
    schema: pa.Schema | None = None,
    folder: str = COMMITS,
    size: int | None = None,
    run: str = "",
) -> pa.Table:
    """Return the rows of one finished shard, or these columns of them.

    Errors as of `read_table`; DamagedError, too, where there are not as many rows as there should be, or they are those
    of another run than the one with this id.
    """
    name = f"{folder}/{part_name(shard)}"
    table = read_table(output, name, schema)
    if not belongs(table.schema.metadata or {}, run):
        raise DamagedError(f"{output.uri}/{name} is of a run that was replaced")
    table = table.replace_schema_metadata(None)
    check_columns(table, schema or row_schema(()), f"{output.uri}/{name}")
    if size is not None and len(table) != size:
        raise DamagedError(f"{output.uri}/{name} is damaged: it holds {len(table)} rows for {size} files")
    return table


def commit_tables(output: Storage, schema: pa.Schema | None = None) -> Iterator[pa.Table]:
    """Yield the rows of each finished shard, or these columns of them, in order; errors as above."""
    return read_ahead(partial(commit_table, output, schema=schema), sorted(parts(output.list(COMMITS))))


@contextmanager
def advising(output: Storage) -> Iterator[None]:
    """Add to what the block says of a damaged commit what makes it again."""
    try:
        yield
    except DamagedError as error:
        advice = "sgllie verify --repair makes it again" if output.exists(SUCCESS) else SAME_COMMAND
        raise DamagedError(f"{error}; {advice}") from error


def read_ahead(read: Callable[[int], pa.Table], shards: Sequence[int]) -> Iterator[pa.Table]:
    """Yield the tables of shards in order; AHEAD of them are read at the same time, and no more are in memory."""
    with ThreadPoolExecutor(AHEAD) as pool:
        for start in range(0, len(shards), AHEAD):
            yield from pool.map(read, shards[start : start + AHEAD])


def belongs(metadata: dict[bytes, bytes], run: str) -> bool:
    """Tell whether a commit with this metadata is one of a run; those without an id are of any, as is one of none."""
    return not run or metadata.get(RUN_KEY, b"") in (b"", run.encode())


def holding(totals: Totals) -> dict[bytes, bytes]:
    """Return the metadata of a table that holds totals."""
    return {TOTALS_KEY: json.dumps(totals).encode()}


def totals_in(metadata: dict[bytes, bytes]) -> Totals | None:
    """Return the totals that the metadata of a table holds; None where they cannot be read."""
    try:
        found = json.loads(metadata.get(TOTALS_KEY, b""))
    except (ValueError, RecursionError):
        return None
    is_sound = isinstance(found, dict) and all(type(value) in (int, float) for value in found.values())
    return found if is_sound else None


def read_totals(output: Storage, shard: int, folder: str = COMMITS, run: str = "") -> Totals | None:
    """Return the totals of a finished shard, from the end of its file.

    None where they cannot be read, or are those of another run than the one with this id.
    """
    metadata = read_metadata(output, f"{folder}/{part_name(shard)}")
    return totals_in(metadata) if belongs(metadata, run) else None


def all_totals(output: Storage, shards: Iterable[int], folder: str = COMMITS, run: str = "") -> dict[int, Totals]:
    """Return the totals of finished shards; those whose files are damaged, or of another run, are left out."""
    shards = list(shards)
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda shard: read_totals(output, shard, folder, run), shards)
        return {shard: totals for shard, totals in zip(shards, found, strict=True) if totals is not None}
