"""The settings of `sgllie verify`."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from sgllie.settings import check_limits, setting
from sgllie.storage import S3Options


@dataclass(frozen=True)
class VerifySettings:
    """Compare every image or video of a finished run with the hash in its row.

    Exit code 0: all are there as they were written; 3: some are missing or were changed, and are named.
    """

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The output of `sgllie enhance` or `sgllie video`: a folder, s3://bucket/prefix, or one video."""
    repair: bool = setting(False, changes_output=False)
    """Enhance the missing and changed ones once more, with the settings of the run."""
    threads: int = setting(16, least=1, changes_output=False)
    """Files that are read at the same time."""
    s3: S3Options = setting(factory=S3Options, changes_output=False)
    """How to reach S3."""

    def __post_init__(self) -> None:
        check_limits(self)
