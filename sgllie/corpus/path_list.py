"""A list of images as a file: a path in each line (.txt), or the column `path` of a table (.csv, .jsonl, .parquet)."""

import csv
import io
import itertools
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa

from sgllie.errors import StorageError, UsageError, first_line
from sgllie.storage import S3Options, open_storage, read_file, refuse_credentials, split_uri
from sgllie.storage.parquet import from_parquet

LIST_SUFFIXES = (".txt", ".csv", ".jsonl", ".parquet")
UNREADABLE = (
    *(KeyError, AttributeError, TypeError, ValueError, RecursionError, OSError),
    *(csv.Error, pa.ArrowException),
)
"""What parsers raise for a file that is no such list."""


def root_of_list(source: str, s3: S3Options | None) -> str:
    """Return the folder of a list where its paths are relative, else the deepest folder that they share."""
    folder = folder_of(source)
    shared: list[str] | None = None
    local = remote = first = ""
    for path in listed_paths(source, s3):
        local, remote = (local, path) if "://" in path else (path, remote)
        first = first or path
        parts = path.split("/")[:-1]
        shared = parts if shared is None else common(shared, parts)
        if remote and len(shared) < 3:
            break
    if shared is None:
        raise UsageError(f"the list {source} names no file")
    if local and remote:
        raise UsageError(f"the list {source} mixes folders and buckets ({local}, {remote}); make one of each")
    if remote and len(shared) < 3:  # not even the bucket
        raise UsageError(f"the list {source} names files of two buckets ({first}, {remote}); make two lists")
    deepest = "/".join(shared) or "/"
    inside = deepest == folder or deepest.startswith(folder.rstrip("/") + "/")
    root = folder if inside else deepest
    open_storage(root, s3)  # refuses what is neither a folder nor S3
    return root


def listed_paths(source: str, s3: S3Options | None) -> Iterator[str]:
    """Yield the paths of a list, made absolute against the folder that the list lies in."""
    folder = folder_of(source)
    for path in read_list(source, s3):
        yield normalised(path if path.startswith("/") or "://" in path else f"{folder.rstrip('/')}/{path}")


def folder_of(source: str) -> str:
    """Return the folder that a list lies in."""
    return normalised(split_uri(source)[0])


def common(first: list[str], second: list[str]) -> list[str]:
    """Return what two lists begin with."""
    pairs = zip(first, second, strict=False)
    return [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]


def normalised(path: str) -> str:
    """Return a local path without `..` and `.`, which are common in lists; keys of S3 may hold them, and stay.

    Behind a link `..` is the folder above the one that it leads to, as it is to the operating system.
    """
    if "://" in path:
        return path
    before, dots, name = f"{path}/".rpartition("/../")
    above, shortened = f"{before}/..", os.path.normpath(f"{before}/..")
    if dots and real_folder(above) != real_folder(shortened):
        return os.path.normpath(f"{real_folder(above)}/{name}")
    return os.path.normpath(path)


@lru_cache(1000)
def real_folder(folder: str) -> str:
    """Return the path of a folder with no links in it; most files of a list share theirs."""
    return os.path.realpath(folder)


def read_list(source: str, s3: S3Options | None) -> list[str]:
    """Return the paths in a list; UsageError where it cannot be read, or holds anything else."""
    found = read_columns(source, s3, ["path"])
    if "path" not in found:
        raise UsageError(f"the list {source} has no readable column `path`")
    paths: list[str] = found["path"]
    for number, path in enumerate(paths, start=1):
        if not isinstance(path, str) or not path:
            raise UsageError(f"the list {source} names no path in entry {number}, but {path!r}")
        if "://" in path:
            refuse_credentials(f"entry {number} of the list {source}", path)
    return paths


def read_columns(source: str, s3: S3Options | None, names: Sequence[str]) -> dict[str, Any]:
    """Return columns of a list by their names, without those that it does not have; UsageError if it cannot be read."""
    try:
        data = read_file(source, s3)
    except (OSError, StorageError) as error:
        raise UsageError(f"the list {source} cannot be read: {error}") from error
    try:
        return columns_in(data, PurePosixPath(source).suffix.lower(), names)
    except UnicodeDecodeError as error:
        raise UsageError(f"the list {source} is not text in UTF-8 ({error})") from error
    except UNREADABLE as error:
        wanted = ", ".join(f"`{name}`" for name in names)
        raise UsageError(f"the list {source} has no readable column {wanted} ({first_line(error)})") from error


def columns_in(data: bytes, suffix: str, names: Sequence[str]) -> dict[str, Any]:
    """Return columns of a list: those of Parquet as Arrow has them, but for `path`, and the values of any others."""
    if suffix == ".parquet":
        table = from_parquet(data, list(names))
        columns = {name: table[name] for name in names if name in table.column_names}
        return columns | {"path": columns["path"].to_pylist()} if "path" in columns else columns
    text = data.decode("utf-8-sig")
    if suffix == ".csv":
        csv.field_size_limit(max(csv.field_size_limit(), len(data)))  # long captions may stand in other columns
        return picked(csv.DictReader(io.StringIO(text, newline="")), names)
    # Not `splitlines`: it cuts at characters that names and JSON may hold, such as U+2028.
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return picked(map(json.loads, lines), names) if suffix == ".jsonl" else {"path": lines}


def picked(rows: Iterable[dict[str, Any]], names: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values that rows have under some names, None where one has none; nothing for a name in no row."""
    columns: dict[str, list[Any]] = {name: [] for name in names}
    known: set[str] = set()
    for row in rows:
        known.update(row)
        for name, values in columns.items():
            values.append(row.get(name))
    return {name: values for name, values in columns.items() if name in known or not values}
