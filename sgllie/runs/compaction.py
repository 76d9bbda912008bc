"""OUT/stats: all rows of a run in a few large files, for whoever reads them.

Shards commit their rows to OUT/commits, which may be tens of thousands of small files. At the end their rows are copied
into OUT/stats. Which shards a file holds follows from the plan alone, and each file is replaced as a whole: so whoever
looks at OUT/stats sees no row twice at any moment, and after _SUCCESS each row once. A late worker can only write a
commit, which nobody looks at there.
"""

import hashlib
import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sgllie.errors import DamagedError, StorageError
from sgllie.runs.commits import SAME_COMMAND, commit_table, read_ahead
from sgllie.runs.names import COMMITS, MANIFEST, STATS, SUCCESS, part_name, parts
from sgllie.runs.run_file import identity_of
from sgllie.storage import Storage
from sgllie.storage.parquet import WRITING, count_rows, read_metadata

FILE_ROWS = 500_000
"""Rows of one file, about: 100 to 150 MB of an enhancement."""
GROUP_ROWS = 50_000
"""Rows of one row group of a file, at least; as many are in memory at a time."""
SOURCES_KEY = b"sgllie.sources"


class StatsFile(NamedTuple):
    """One file of OUT/stats.

    Attributes:
        number: of the file.
        shards: whose rows it holds, and how many each has.
        sources: a hash of which state of their commits it holds.
    """

    number: int
    shards: dict[int, int]
    sources: str


def stats_files(sizes: Mapping[int, int]) -> Iterator[dict[int, int]]:
    """Yield which shards each file holds, from the rows of each shard; more shards move none."""
    shards: dict[int, int] = {}
    rows = 0
    for shard, size in sizes.items():
        shards[shard] = size
        rows += size
        if rows >= FILE_ROWS:
            yield shards
            shards, rows = {}, 0
    if shards:
        yield shards


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
    for number, shards in enumerate(stats_files(sizes)):
        entries = [commits.get(part_name(shard)) for shard in shards]
        if None in entries:
            missing = part_name(list(shards)[entries.index(None)])
            raise StorageError(f"{output.uri}/{COMMITS}/{missing} is not there any more")
        sources = hashlib.sha256(repr(entries).encode()).hexdigest()
        if (
            number not in there
            or read_metadata(output, f"{STATS}/{part_name(number)}").get(SOURCES_KEY) != sources.encode()
        ):
            found.append(StatsFile(number, shards, sources))
    for surplus in there - set(range(number + 1)):
        output.remove(f"{STATS}/{part_name(surplus)}")
    return found


def write_stats_file(output: Storage, file: StatsFile) -> None:
    """Copy the rows of commits into one file of OUT/stats, in bounded memory.

    Raises:
        DamagedError: a commit is damaged.
        StorageError: the commits differ in their columns, or the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="sgllie-") as scratch:
        local = Path(scratch) / "stats"
        run = identity_of(output).id
        read = read_ahead(lambda shard: checked_table(output, shard, file.shards[shard], run), list(file.shards))
        tables = same_columns(read, output)
        first = next(tables)
        with pq.ParquetWriter(local, first.schema, **WRITING) as writer:
            for group in row_groups(itertools.chain([first], tables)):
                writer.write_table(group, row_group_size=len(group) or None)
            writer.add_key_value_metadata({SOURCES_KEY: file.sources.encode()})
        output.upload(f"{STATS}/{part_name(file.number)}", local)


def unsound(output: Storage, sizes: Mapping[int, int]) -> Iterator[str]:
    """Yield the names of the files of OUT/stats that cannot be read, or do not hold the rows of their shards."""
    for number, shards in enumerate(stats_files(sizes)):
        if count_rows(output, name := f"{STATS}/{part_name(number)}") != sum(shards.values()):
            yield name


def checked_table(output: Storage, shard: int, size: int, run: str) -> pa.Table:
    """Return the rows of a shard; where they are damaged the file is removed, so that the shard counts as not done."""
    try:
        return commit_table(output, shard, size=size, run=run)
    except DamagedError as error:
        output.remove(f"{COMMITS}/{part_name(shard)}")
        output.remove(SUCCESS)
        listed = f"{MANIFEST}/{part_name(shard)}"
        if (count_rows(output, listed) or size) < size:
            raise StorageError(f"{output.uri}/{listed} lacks rows that were listed; --overwrite begins anew") from error
        raise DamagedError(f"{error}; {SAME_COMMAND}") from error


def same_columns(tables: Iterable[pa.Table], output: Storage) -> Iterator[pa.Table]:
    """Yield tables that have the same columns; StorageError where one of them has others."""
    first = None
    for table in tables:
        first = first or table.schema
        if table.schema != first:
            raise StorageError(f"the files in {output.uri}/{COMMITS} differ in their columns; not all are of this run")
        yield table


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
