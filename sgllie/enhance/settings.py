"""The settings of `sgllie enhance`."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from sgllie.images import MAX_PIXELS, QUALITY, ExifOrientation, OutputFormat
from sgllie.runs.cost import Prices
from sgllie.runs.settings import CorpusSettings
from sgllie.settings import setting


@dataclass(frozen=True)
class EnhanceSettings(CorpusSettings):
    """Brighten every image of a folder, bucket or list, and write one row of statistics for each.

    The same command again goes on where it was stopped.
    """

    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IN")] = setting(changes_output=False)
    """Folder, s3://bucket/prefix, glob in quotes, one image, or a list (.txt, or .csv, .jsonl, .parquet with a
    column `path`)."""
    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")] = setting(changes_output=False)
    """Folder or s3://bucket/prefix that becomes images/, stats/, manifest/, run.json and _SUCCESS."""

    only_darker_than: float | None = setting(None, least=0, most=1)
    """Copy images whose mean luma (0 black, 1 white) is this or more, byte for byte."""
    format: OutputFormat = "same"
    """Format of the output images."""
    quality: int = setting(QUALITY, least=1, most=100)
    """JPEG and WebP quality, 1 to 100."""
    exif_orientation: ExifOrientation = "keep"
    """keep: pixels and orientation tag stay as they are, so that labels still fit; apply: rotate the pixels."""
    max_pixels: int = setting(MAX_PIXELS, least=1)
    """Larger images are recorded as failed instead of decoded."""
    threads: int = setting(2, least=1, changes_output=False)
    """Images that one worker decodes, enhances and encodes at the same time."""
    worker_memory: float | None = setting(None, least=1, changes_output=False)
    """Gigabytes that one worker may use. By default each has an equal share of its machine, or of its container."""
    deadline: float = setting(600.0, least=1, changes_output=False)
    """Seconds that the work on one image may take; one that takes longer is recorded as failed (timeout)."""
    price: Prices = setting(factory=Prices, changes_output=False)
    """What is paid for, to say what the run cost."""
    shard_images: int = setting(1000, least=1, changes_output=False)
    """Images that are committed together, at most."""
