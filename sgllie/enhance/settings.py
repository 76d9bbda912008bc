"""The settings of `sgllie enhance`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from sgllie.corpus.patterns import Patterns
from sgllie.corpus.rig import Rig
from sgllie.images import MAX_PIXELS, QUALITY, ExifOrientation, OutputFormat
from sgllie.methods import METHODS
from sgllie.runs.schemas import STATS_SCHEMA
from sgllie.runs.settings import CorpusSettings
from sgllie.settings import check, option, setting, split_names
from sgllie.storage import Entry

Others = Literal["copy", "link", "skip"]

THREADS = 2
"""Of a worker with one CPU, which it keeps busy while one of its images is read or written."""


@dataclass(frozen=True)
class EnhanceSettings(CorpusSettings):
    """Brighten every image of a folder, bucket or list, and write one row of statistics for each.

    The same command again goes on where it was stopped.
    """

    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IN")] = setting(changes_output=False)
    """Folder, s3://bucket/prefix, glob in quotes, one image, a tar or a Parquet file of images, or a list (.txt, or
    .csv, .jsonl, .parquet with a column `path`)."""
    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")] = setting(changes_output=False)
    """Folder or s3://bucket/prefix that becomes images/, stats/, commits/, manifest/, run.json and _SUCCESS."""

    include: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="GLOB")] = setting(())
    """Images to brighten even if their names or pixels look like those of label maps: a pattern as in .gitignore,
    relative to IN; may be given several times."""
    exclude: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="GLOB")] = setting(())
    """Files to leave out of the input, as a pattern of the same kind; it wins over --include."""
    others: Others = "copy"
    """What to do with files that are not images (labels, JSON, text): copy them, link them (hard links, where the file
    system has them), or skip them."""
    columns: Annotated[str | None, tyro.conf.arg(metavar="NAMES")] = None
    """Columns of the input list (.csv, .jsonl, .parquet) to carry into the statistics, separated by commas."""
    rig: Annotated[str | None, tyro.conf.arg(metavar="PATTERN")] = None
    """Images of one moment share one exposure: a regular expression whose groups name the moment in a path, or kitti,
    nuscenes or waymo."""
    only_darker_than: float | None = setting(None, least=0, most=1)
    """Copy, byte for byte, the images whose mean luma (0 black, 1 white) is at least this."""
    format: OutputFormat = "same"
    """Format of the output images."""
    quality: int = setting(QUALITY, least=1, most=100)
    """JPEG and WebP quality, 1 to 100."""
    gpu_jpeg: bool = False
    """Encode JPEGs on the GPU too (CUDA only). Experimental: it has not been run on a GPU yet."""
    exif_orientation: ExifOrientation = "keep"
    """keep: pixels and orientation tag stay as they are, so that labels still fit; apply: rotate the pixels."""
    on_failure: Literal["leave-out", "copy"] = "leave-out"
    """What to write for images that fail: nothing (null in Parquet), or a copy. Their rows say failed either way."""
    image_column: str | None = None
    """Column of Parquet files that holds the images; by default it is found by what it holds."""
    max_pixels: int = setting(MAX_PIXELS, least=1)
    """Larger images are recorded as failed instead of decoded."""
    threads: int | None = setting(None, least=1, changes_output=False)
    """Images that one worker decodes, enhances and encodes at the same time: by default 2, and on a GPU as many as it
    has CPUs."""
    deadline: float = setting(600.0, least=1, changes_output=False)
    """Seconds that the work on one image may take; one that takes longer is recorded as failed (timeout)."""
    shard_images: int = setting(1000, least=1, changes_output=False)
    """Most images that are committed together."""
    update: bool = setting(False, changes_output=False)
    """List IN again: enhance what is new or has changed, and keep the rest, with the rows of files that are gone."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpu_jpeg:
            check(self.device == "cuda", "--gpu-jpeg", "on", "needs --device cuda")
        Patterns(self.include, "--include")  # its sentences are for the user, not for a worker
        Patterns(self.exclude, "--exclude")
        if self.rig is not None:
            Rig(self.rig)
            rule = f"must be left out with --method {self.method}, which finds nothing that images could share"
            check(METHODS[self.method].has_level, "--rig", self.rig, rule)
        names = split_names(self.columns)
        check(len(set(names)) == len(names), "--columns", self.columns, "must not name one twice")
        for name in set(names) & {*STATS_SCHEMA.names, *Entry._fields}:
            rule = f"names {name}, which the statistics have already, or the manifest; rename it in the list"
            check(False, "--columns", self.columns, rule)
        for name in ("overwrite", "retry_failed", "check_input"):
            check(not (self.update and getattr(self, name)), option(name), "on", "must be left out with --update")
        check(not (self.update and self.columns), "--columns", self.columns, "must be left out with --update")

    @property
    def at_once(self) -> int:
        """How many images a worker has in hand."""
        return self.threads or THREADS
