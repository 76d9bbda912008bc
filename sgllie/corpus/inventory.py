"""S3 Inventory: a list of all objects of a bucket that S3 writes every day or week, in the place of asking for pages.

    s3://DESTINATION/PREFIX/SOURCE/ID/2026-01-31T01-00Z/manifest.json     names the files of the list
    s3://DESTINATION/PREFIX/SOURCE/ID/data/....csv.gz, or .parquet        an object in each row

Format: https://docs.aws.amazon.com/AmazonS3/latest/userguide/storage-inventory-location.html
"""

import csv
import gzip
import json
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import unquote_plus

import pyarrow as pa
import pyarrow.parquet as pq

from sgllie.errors import StorageError, UsageError, first_line
from sgllie.storage import Entry, S3Options, open_storage

MANIFEST = "manifest.json"
COLUMNS = ("bucket", "key", "size", "etag", "islatest", "isdeletemarker")
"""Those that are read, as `plain` writes them; all but the first two may be missing."""
DAMAGE = (OSError, EOFError, zlib.error, csv.Error, UnicodeDecodeError, ValueError, pa.ArrowException)

Row = dict[str, Any]


def is_inventory(source: str) -> bool:
    """Tell whether an input is the manifest of an inventory, by its name."""
    return source.startswith("s3://") and source.endswith(f"/{MANIFEST}")


class Inventory:
    """The objects that an inventory names.

    Args:
        source: its manifest.
        s3: how to reach S3.

    Attributes:
        root: the bucket that was listed.

    Raises:
        UsageError: the manifest cannot be read, or is none, or its files are of a format that is not handled.
    """

    def __init__(self, source: str, s3: S3Options | None) -> None:
        self.source = source
        bucket, _, path = source.removeprefix("s3://").partition("/")
        self.storage = open_storage(f"s3://{bucket}", s3)
        manifest = self._manifest(path)
        try:
            self.bucket, self.format = str(manifest["sourceBucket"]), str(manifest["fileFormat"])
            self.files = [str(file["key"]) for file in manifest["files"]]
            self.columns = [plain(name) for name in str(manifest["fileSchema"]).split(",")]
        except (KeyError, TypeError) as error:
            needed = "sourceBucket, fileFormat, fileSchema and the key of each of its files"
            raise UsageError(f"input {source} is not the manifest of an S3 Inventory, which has {needed}") from error
        self.root = f"s3://{self.bucket}"
        if self.format not in ("CSV", "Parquet"):
            advice = "configure it as CSV or Parquet, or name a prefix"
            raise UsageError(f"the inventory {source} has the format {self.format}; {advice}")
        if self.format == "CSV" and not {"bucket", "key"} <= set(self.columns):
            columns = manifest["fileSchema"]
            raise UsageError(f"the inventory {source} lacks the columns Bucket and Key (it has {columns})")

    def _manifest(self, path: str) -> dict[str, Any]:
        try:
            manifest = json.loads(self.storage.read(path))
        except (OSError, StorageError) as error:
            raise UsageError(f"the inventory {self.source} cannot be read: {error}") from error
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the inventory {self.source} is damaged: it is no JSON ({error})") from error
        return manifest if isinstance(manifest, dict) else {}

    def __iter__(self) -> Iterator[Entry]:
        """Yield the objects that are there at present, in the order of the inventory, never all in memory.

        Raises:
            UsageError: a file of the inventory is missing or damaged, or is of another bucket.
        """
        for name in self.files:
            try:
                with self.storage.open(name) as file:
                    for row in self._rows(file):
                        if entry := self._entry(row, name):
                            yield entry
            except FileNotFoundError as error:
                advice = "copy it there, or name a newer inventory"
                raise UsageError(f"the inventory {self.source} names {name}, which is not there; {advice}") from error
            except DAMAGE as error:
                raise UsageError(f"{name} of the inventory {self.source} is damaged: {first_line(error)}") from error

    def _rows(self, file: BinaryIO) -> Iterator[Row]:
        """Yield the rows of one file, with the names of COLUMNS."""
        if self.format == "CSV":
            with gzip.open(file, "rt", encoding="utf-8", newline="") as text:
                for row in csv.reader(text):
                    if len(row) != len(self.columns):
                        raise ValueError(f"a row has {len(row)} columns, not {len(self.columns)}")
                    named = dict(zip(self.columns, row, strict=True))
                    yield named | {"key": unquote_plus(named["key"], errors="surrogateescape")}
            return
        table = pq.ParquetFile(file, pre_buffer=False)
        names = {name: plain(name) for name in table.schema_arrow.names if plain(name) in COLUMNS}
        if not {"bucket", "key"} <= set(names.values()):
            raise ValueError("it has no columns bucket and key")
        for batch in table.iter_batches(columns=list(names), use_threads=False):
            for row in batch.to_pylist():
                yield {names[name]: value for name, value in row.items()}

    def _entry(self, row: Row, name: str) -> Entry | None:
        """Return the object of a row; None for what is not there any more, or stands for an empty folder."""
        if not row["key"]:
            raise ValueError("a row has no key")
        if row["bucket"] != self.bucket:
            raise UsageError(f"{name} of the inventory {self.source} lists {row['bucket']!r}, not {self.bucket!r}")
        is_gone = said(row.get("islatest"), "false") or said(row.get("isdeletemarker"), "true")
        if is_gone or row["key"].endswith("/"):
            return None
        size = row.get("size")
        return Entry(row["key"], None if size in (None, "") else int(size), row.get("etag") or None)


def plain(name: str) -> str:
    """Return the name of a column as CSV (`IsLatest`) and Parquet (`is_latest`) have in common."""
    return re.sub(r"\W|_", "", name).lower()


def said(value: Any, word: str) -> bool:
    """Tell whether a cell says `true` or `false`, as text or as a truth value."""
    return str(value).lower() == word
