"""OUT/stats: all rows of a run in a few large files, for whoever reads them.

Shards commit their rows to OUT/commits, which may be tens of thousands of small files. At the end their rows are copied
into OUT/stats. Which shards a file holds follows from the plan alone, and each file is replaced as a whole: so whoever
looks at OUT/stats sees no row twice at any moment, and after _SUCCESS each row once. A late worker can only write a
commit, which nobody looks at there.
"""

import hashlib
import itertools
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sgllie.errors import DamagedError, StorageError
from sgllie.runs.commits import commit_table, read_ahead
from sgllie.runs.names import COMMITS, STATS, SUCCESS, part_name, parts
from sgllie.storage import Storage
from sgllie.storage.parquet import read_metadata

FILE_ROWS = 500_000
"""Rows of one file, about: 100 to 150 MB of an enhancement."""
GROUP_ROWS = 50_000
"""Rows of one row group of a file, at least; as many are in memory at a time."""
SOURCES_KEY = b"sgllie.sources"


class StatsFile(NamedTuple):
    """One file of OUT/stats.

    Attributes:
        number: of the file.
        shards: whose rows it holds.
        rows: how many these are.
        sources: a hash of which state of their commits it holds.
    """

    number: int
    shards: list[int]
    rows: int
    sources: str


def stats_files(sizes: Mapping[int, int]) -> Iterator[tuple[list[int], int]]:
    """Yield which shards each file holds, and how many rows, from the rows of each shard; more shards move none."""
    shards: list[int] = []
    rows = 0
    for shard, size in sizes.items():
        shards.append(shard)
        rows += size
        if rows >= FILE_ROWS:
            yield shards, rows
            shards, rows = [], 0
    if shards:
        yield shards, rows


def outdated(output: Storage, sizes: Mapping[int, int]) -> list[StatsFile]:
    """Return the files of OUT/stats that are to be written; what has no place there is removed.

    Args:
        output: of the run.
        sizes: rows of each shard, by its number.

    Raises:
        StorageError: a shard has no commit.
    """
    commits = {entry.path: entry for entry in output.list(COMMITS)}
    there = parts(output.list(STATS))
    found = []
    number = -1
    for number, (shards, rows) in enumerate(stats_files(sizes)):
        entries = [commits.get(part_name(shard)) for shard in shards]
        if None in entries:
            missing = part_name(shards[entries.index(None)])
            raise StorageError(f"{output.uri}/{COMMITS}/{missing} is not there any more")
        sources = hashlib.sha256(repr(entries).encode()).hexdigest()
        if number not in there or sources_of(output, number) != sources:
            found.append(StatsFile(number, shards, rows, sources))
    for surplus in there - set(range(number + 1)):
        output.remove(f"{STATS}/{part_name(surplus)}")
    return found


def sources_of(output: Storage, number: int) -> str | None:
    """Return which state of its commits a file holds; None where it cannot be read."""
    return read_metadata(output, f"{STATS}/{part_name(number)}", SOURCES_KEY)


def write_stats_file(output: Storage, file: StatsFile) -> None:
    """Copy the rows of commits into one file of OUT/stats, in bounded memory.

    Raises:
        DamagedError: a commit cannot be read.
        StorageError: there are not as many rows as there should be, or they cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="sgllie-") as scratch:
        local = Path(scratch) / "stats"
        tables = read_ahead(partial(checked_table, output), file.shards)
        first = next(tables)
        rows = 0
        with pq.ParquetWriter(local, first.schema, compression="zstd") as writer:
            for group in row_groups(itertools.chain([first], tables)):
                writer.write_table(group, row_group_size=len(group) or None)
                rows += len(group)
            writer.add_key_value_metadata({SOURCES_KEY: file.sources.encode()})
        if rows != file.rows:
            raise StorageError(f"{output.uri}/{COMMITS} holds {rows} rows for {file.rows} of file {file.number}")
        output.upload(f"{STATS}/{part_name(file.number)}", local)


def checked_table(output: Storage, shard: int) -> pa.Table:
    """Return the rows of a shard; where they are damaged the file is removed, so that the shard counts as not done."""
    try:
        return commit_table(output, shard)
    except DamagedError as error:
        output.remove(f"{COMMITS}/{part_name(shard)}")
        output.remove(SUCCESS)
        raise DamagedError(f"{error}; the same command does its shard again") from error


def row_groups(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Put tables together until they have as many rows as a row group should."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        if sum(map(len, waiting)) >= GROUP_ROWS:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)
