"""One shard of the files that are no images: carried into the output as they are."""

import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

from sgllie.enhance.processor import completed
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhance.totals import OTHERS_TALLY
from sgllie.errors import Failure
from sgllie.runs.names import IMAGES, OTHERS
from sgllie.runs.schemas import OTHERS_SCHEMA, Row
from sgllie.runs.shard_runner import Report, ShardRunner
from sgllie.runs.tables import read_manifest
from sgllie.storage import Entry, open_source, open_storage
from sgllie.storage.copying import copy, link


class OthersPipeline(ShardRunner[Entry]):
    """Carries shards of other files, one after another.

    Args:
        settings: of the job.
        root: folder or prefix of the input.
        report: told of finished rows.
    """

    folder: ClassVar[str] = OTHERS
    noun: ClassVar[str] = "file"
    tally = OTHERS_TALLY

    def __init__(self, settings: EnhanceSettings, root: str, report: Report) -> None:
        self.source = open_source(root, settings.s3)
        self.may_link = settings.others == "link"
        super().__init__(
            open_storage(settings.output, settings.s3),
            [self.source],
            OTHERS_SCHEMA,
            report,
            threads=settings.at_once,
            retry_failed=settings.retry_failed,
        )

    def items(self, shard: int) -> list[Entry]:
        """Return the files of a shard."""
        return read_manifest(self.output, shard, Entry)

    def processor(self, isolated: bool) -> AbstractContextManager[Any]:
        """Return nothing: no file is looked into."""
        return nullcontext()

    def process(self, item: Entry, processor: Any) -> Row:
        """Carry one file."""
        retries = self.source.retries + self.output.retries
        started = time.perf_counter()
        name = f"{IMAGES}/{item.path}"
        is_linked = self.may_link and link(self.source, item.path, self.output, name)
        size = item.size if is_linked else copy(self.source, item, self.output, name)
        row: Row = {"status": "linked" if is_linked else "copied", "output": name, "bytes": size}
        row |= {"retries": self.source.retries + self.output.retries - retries}
        return completed(item, row | {"seconds": time.perf_counter() - started})

    def failed_row(self, item: Entry, failure: Failure) -> Row:
        """Return the row of a file that could not be carried."""
        return completed(item, failure.columns())
