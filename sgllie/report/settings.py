"""The settings of `sgllie report`."""

from dataclasses import dataclass, field
from typing import Annotated

import tyro

from sgllie.storage import S3Options


@dataclass(frozen=True)
class ReportSettings:
    """Write OUT/report.html: totals, failures, brightness, speed, and pictures before and after.

    One file that needs no network. An unfinished run has one too.
    """

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The output of `sgllie enhance`: a folder or s3://bucket/prefix."""
    s3: S3Options = field(default_factory=S3Options)
    """How to reach S3."""
