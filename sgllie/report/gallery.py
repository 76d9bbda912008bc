"""The pictures of the report: few, small, and inside the file."""

import base64
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import cv2

from sgllie.errors import ImageError, StorageError
from sgllie.images import Pixels, decode, over_grey
from sgllie.metrics.niqe import niqe_of_middle
from sgllie.report.aggregates import CHOICES, SHOWN, Aggregates
from sgllie.runs.schemas import Row
from sgllie.storage import Storage

RANDOM = 12
MOST_SHOWN = RANDOM + (len(CHOICES) + 1) * SHOWN
GALLERY_BYTES, THUMBNAIL_BYTES = 2_000_000, 60_000
"""Of all pictures together, and of one, at most; base64 makes a third more of it."""
LONGEST_SIDE = 640
"""Pixels of a thumbnail."""


class Thumbnail(NamedTuple):
    """A small picture as a data URI, and its size in pixels."""

    uri: str
    width: int
    height: int


@dataclass
class Picture:
    """An image before and after.

    Attributes:
        row: its statistics.
        groups: the groups of the gallery that show it, and its rank in each.
        before, after: None where the file is not there, or `before` is no longer what was enhanced.
        niqe_before, niqe_after: of the middle of the image; None where not measured.
    """

    row: Row
    groups: dict[str, int]
    before: Thumbnail | None = None
    after: Thumbnail | None = None
    niqe_before: float | None = None
    niqe_after: float | None = None


@dataclass(frozen=True)
class Group:
    """Pictures that are shown together, and why."""

    name: str
    title: str
    reason: str


def choose(aggregates: Aggregates) -> list[Picture]:
    """Return the images to fetch, each once: the sample, and those that lead a choice."""
    pictures = {row["path"]: Picture(row, {}) for row in aggregates.sample.rows}
    for rank, picture in enumerate(list(pictures.values())[:RANDOM]):
        picture.groups["random"] = rank
    for name, leaders in aggregates.chosen.items():
        for rank, row in enumerate(leaders.rows):
            pictures.setdefault(row["path"], Picture(row, {})).groups[name] = rank
    return list(pictures.values())


def gallery(aggregates: Aggregates, output: Storage, source: Storage | None) -> tuple[list[Group], list[Picture]]:
    """Fetch the chosen images and make their thumbnails.

    Args:
        aggregates: of the whole run.
        output: the output of the run.
        source: the input that it enhanced, or None where there is none any more.

    Returns:
        The groups that have pictures, and all pictures; those without any file are left out.
    """
    files = Files(output, source)
    sampled = {row["path"] for row in aggregates.sample.rows}
    pictures = choose(aggregates)
    most = min(THUMBNAIL_BYTES, GALLERY_BYTES // (2 * max(1, min(len(pictures), MOST_SHOWN))))
    for picture in pictures:
        fill(picture, files, most, measure=picture.row["path"] in sampled)
    measured = [picture for picture in pictures if picture.niqe_after is not None]
    for rank, picture in enumerate(sorted(measured, key=lambda picture: -(picture.niqe_after or 0))[:SHOWN]):
        picture.groups["niqe"] = rank
    shown = [picture for picture in pictures if picture.groups and (picture.before or picture.after)]
    groups = [
        Group("random", "Random", "a random sample of all images"),
        *(Group(choice.name, choice.title, choice.reason) for choice in CHOICES),
        Group("niqe", "Highest NIQE", f"the highest NIQE after, of {len(measured)} random images"),
    ]
    return [group for group in groups if any(group.name in picture.groups for picture in shown)], shown


def fill(picture: Picture, files: "Files", most: int, measure: bool) -> None:
    """Put the thumbnails of at most `most` bytes into a picture, and its NIQE."""
    for side, fetch in (("before", files.before), ("after", files.after)):
        pixels = load(fetch, picture.row)
        if pixels is None:
            continue
        setattr(picture, side, thumbnail(pixels, most))
        if measure:
            setattr(picture, f"niqe_{side}", niqe_of_middle(pixels))


class Files:
    """The files of a run's images."""

    def __init__(self, output: Storage, source: Storage | None) -> None:
        self.output = output
        self.source = source

    def after(self, row: Row) -> bytes:
        """Return the bytes that were written."""
        return self.output.read(row["output"])

    def before(self, row: Row) -> bytes | None:
        """Return the bytes that were enhanced, if they still are what they were."""
        if self.source is None:
            return None
        try:
            data = self.source.read(row["path"])
        except StorageError:
            # A bucket that is out of reach is asked once: each further request would be tried for a minute.
            self.source = None
            return None
        return data if hashlib.sha256(data).hexdigest() == row["sha256_in"] else None


def load(fetch: Callable[[Row], bytes | None], row: Row) -> Pixels | None:
    """Return the pixels of an image, upright, over grey where they are transparent; None where they cannot be had.

    Returns:
        H x W x 3 (RGB) or H x W (grey), uint8.
    """
    try:
        data = fetch(row)
        image = decode(data, exif_orientation="apply") if data else None
    except (OSError, StorageError, ImageError):
        return None
    return over_grey(image.pixels, image.alpha) if image else None


def shrunk(pixels: Pixels, longest: int) -> Pixels:
    """Return the same picture with no side longer than this."""
    height, width = pixels.shape[:2]
    scale = longest / max(height, width)
    if scale >= 1:
        return pixels
    return cv2.resize(
        pixels, (max(1, round(width * scale)), max(1, round(height * scale))), interpolation=cv2.INTER_AREA
    )


def thumbnail(pixels: Pixels, most: int) -> Thumbnail:
    """Return at most `most` bytes of WebP: coarser, then smaller, until it fits."""
    stored = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    longest = min(LONGEST_SIDE, max(pixels.shape[:2]))
    while True:
        small = shrunk(stored, longest)
        for quality in (80, 50):
            data = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()
            if len(data) <= most:
                uri = "data:image/webp;base64," + base64.b64encode(data).decode()
                return Thumbnail(uri, small.shape[1], small.shape[0])
        longest = int(longest * min(0.9, (most / len(data)) ** 0.5))
