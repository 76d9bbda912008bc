"""One shard of an enhancement: images read, treated and written."""

import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime

from sgllie.corpus import IMAGES, STATS, STATS_SCHEMA, Row, part_name, read_manifest, read_rows
from sgllie.isolation import CrashError, Isolated
from sgllie.methods import make_method
from sgllie.runner import ShardRunner
from sgllie.settings import EnhanceSettings
from sgllie.storage import Entry, NameRefusedError, StorageError, UnreachableError, open_storage
from sgllie.treatment import Treated, Treatment, failed

Treat = Callable[[str, bytes], Treated]


class ShardPipeline(ShardRunner[Entry]):
    """Runs shards, one after another, in one process.

    Args:
        settings: with their device resolved (`cpu` or `cuda`).
        root: folder or prefix of the input.
        report: called with each finished row, from the thread that runs the shard.
    """

    def __init__(self, settings: EnhanceSettings, root: str, report: Callable[[Row], None]) -> None:
        is_remote = root.startswith("s3://") or settings.output.startswith("s3://")
        output = open_storage(settings.output, settings.s3)
        super().__init__(output, STATS_SCHEMA, settings.threads, is_remote, report)
        self.settings = settings
        self.source = open_storage(root, settings.s3)
        self.treat = make_treatment(settings)

    def items(self, shard: int) -> list[Entry]:
        """The images of a shard."""
        return read_manifest(self.output, shard)

    def kept(self, shard: int) -> list[Row]:
        """With `retry_failed`, the rows of the images that did not fail."""
        if not self.settings.retry_failed:
            return []
        return [row for row in read_rows(self.output, f"{STATS}/{part_name(shard)}") if row["status"] != "failed"]

    def treatment(self, isolated: bool) -> AbstractContextManager[Treat]:
        """The treatment, in this process or in one of its own."""
        return Isolated(make_treatment, self.settings) if isolated else nullcontext(self.treat)

    def give_up(self, item: Entry, sentence: str) -> Row:
        """The row of an image whose shard has killed too many workers."""
        return self._finish(item, failed(item.path, {}, "crash", sentence))

    def carry(self, item: Entry, treat: Treat) -> Row:
        """One image all the way, and how many requests had to be repeated for it, all of them made by this thread."""
        before = self.source.retries + self.output.retries
        row = self._carry(item, treat)
        return row | {"retries": self.source.retries + self.output.retries - before}

    def _carry(self, entry: Entry, treat: Treat) -> Row:
        """One image all the way."""
        started = time.perf_counter()
        try:
            data = self.source.read(entry.path)
        except FileNotFoundError:
            return self._finish(entry, failed(entry.path, {}, "missing", "the image was listed but is not there now"))
        except UnreachableError:
            raise  # the image is not to blame
        except (OSError, StorageError) as error:
            return self._finish(entry, failed(entry.path, {}, "read", f"the image cannot be read: {error}"))
        read_ms = (time.perf_counter() - started) * 1000
        with self.computing:
            try:
                treated = treat(entry.path, data)
            except CrashError:
                sentence = "decoding or enhancing this image killed its process"
                treated = failed(entry.path, {"bytes_in": len(data)}, "crash", sentence)
        treated.row["read_ms"] = read_ms
        return self._finish(entry, treated)

    def _finish(self, entry: Entry, treated: Treated) -> Row:
        """Write the output, if there is one, and complete the row."""
        row = treated.row | {"path": entry.path, "node": platform.node()}
        if treated.data is not None:
            started = time.perf_counter()
            row["output"] = f"{IMAGES}/{treated.name}"
            try:
                self.output.write(row["output"], treated.data)
            except NameRefusedError as error:
                row |= {"status": "failed", "error_type": "write", "error": str(error)}
                row |= {"output": None, "bytes_out": None, "sha256_out": None}
            row["write_ms"] = (time.perf_counter() - started) * 1000
        row["finished"] = datetime.now(UTC).replace(tzinfo=None)
        return row


def make_treatment(settings: EnhanceSettings) -> Treatment:
    """What is done with each image, with the model loaded."""
    return Treatment(settings, make_method(settings))
