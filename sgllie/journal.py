"""What is known of a shard before it is done: how often it was begun, and the rows of images that are finished.

    OUT/.partial/shard-00042/attempt-1          written when the shard is begun
    OUT/.partial/shard-00042/rows-1-0.parquet   rows of finished images, every few seconds

A worker that finds an earlier attempt takes over its rows, and knows that one of the remaining images may have killed
the process. All of it is removed when the shard is committed.
"""

import contextlib
import math
import time

import pyarrow as pa

from sgllie.corpus import STATS_SCHEMA, Row, read_rows, stats_bytes
from sgllie.storage import LocalStorage, Storage

FLUSH_SECONDS = 2.0


class Journal:
    """The journal of one shard in the output storage.

    Attributes:
        attempt: 1 for the first time that the shard is begun.
        fruitless: how many attempts before this one, in a row, ended without one finished image.
        rows: those of earlier attempts and of this one.
    """

    def __init__(self, output: Storage, shard: int, schema: pa.Schema = STATS_SCHEMA) -> None:
        self._output = output
        self._schema = schema
        self._folder = f"{LocalStorage.SCRATCH}/shard-{shard:05d}"
        self.rows: list[Row] = []
        self._unsaved: list[Row] = []
        self._saved_parts = 0
        self.attempt, self.fruitless = self._take_over()
        # Where workers die young, one image is progress that must be known: a fruitless attempt blames the images.
        self._saved_at = time.monotonic() if self.attempt == 1 else -math.inf
        self._output.write(f"{self._folder}/attempt-{self.attempt}", b"")

    def _take_over(self) -> tuple[int, int]:
        """Read the rows of earlier attempts; the number of this attempt, and of the fruitless ones just before it."""
        last = fruitful = 0
        for entry in self._output.list(self._folder):
            kind, _, number = entry.path.removesuffix(".parquet").partition("-")
            attempt = int(number.partition("-")[0])
            last = max(last, attempt)
            if kind == "rows":
                with contextlib.suppress(FileNotFoundError):  # a worker that was taken for dead has just committed
                    self.rows += read_rows(self._output, f"{self._folder}/{entry.path}")
                fruitful = max(fruitful, attempt)
        return last + 1, last - fruitful

    def add(self, row: Row) -> None:
        """Note one finished image; saved within a few seconds."""
        self.rows.append(row)
        self._unsaved.append(row)
        if time.monotonic() - self._saved_at >= FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Save the rows that are not yet."""
        if self._unsaved:
            name = f"{self._folder}/rows-{self.attempt}-{self._saved_parts}.parquet"
            self._output.write(name, stats_bytes(self._unsaved, self._schema))
            self._unsaved = []
            self._saved_parts += 1
        self._saved_at = time.monotonic()

    def remove(self) -> None:
        """Forget the shard, once it is committed."""
        self._output.remove(self._folder)
