"""The photographs of a training: how one is decoded, and the first look at each, which tells whether it can be used."""

import hashlib
import math
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sgllie import images
from sgllie.errors import failure_of
from sgllie.images import OpenedImage
from sgllie.metrics import clipped_share
from sgllie.runs.memory import MemoryBudget, budgets, file_bytes, lenient
from sgllie.storage import Entry, Storage
from sgllie.train.scenes import layout

Photograph = NDArray[np.uint8]
"""A decoded photograph, or a part of one: H x W x 3, RGB."""
PIXEL_BYTES, COEFFICIENT_BYTES = 30, 6
"""Of memory for each decoded pixel of 8 bits, at its peak, and for each pixel of a JPEG with several scans."""
REDUCED = 2
"""How many times as large as it is to become a photograph is at least before Lanczos makes it so."""
READERS = 8
"""Files that one task reads at the same time."""


class PhotoInfo(NamedTuple):
    """What the first look at one photograph showed.

    Attributes:
        path: below the root of the storage.
        digest: SHA-256 of the file, in hexadecimal.
        brightness: mean over all pixels and channels, 0 to 1.
        clipped: share of the pixels with a channel at 255.
        layout: see `scenes.layout`.
        error: why it cannot be used; empty where it can.
    """

    path: str
    digest: str = ""
    brightness: float = 0.0
    clipped: float = 0.0
    layout: bytes = b""
    error: str = ""


def load(data: bytes, size: int) -> Photograph:
    """Decode a photograph as it is meant to be seen, resized with Lanczos to size x size x 3, uint8.

    A large JPEG is decoded at a reduced scale of at least REDUCED sizes first: one of 12 megapixels takes a third of
    the time so, and a seventh of the memory.

    Raises:
        ItemError: it cannot be decoded, or needs too much memory.
    """
    opened = images.open_image(data, exif_orientation="apply")
    with memory().held(bytes_needed(opened, REDUCED * size)):
        pixels = opened.decode(least=REDUCED * size).pixels
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        photograph = PillowImage.fromarray(pixels).convert("RGB")
        if photograph.size != (size, size):
            photograph = photograph.resize((size, size), PillowImage.Resampling.LANCZOS)
        return np.asarray(photograph)


def bytes_needed(opened: OpenedImage, least: int) -> int:
    """Return the bytes of memory that decoding a photograph needs, whose sides need be no longer than `least`."""
    header = opened.header
    pixels = header.width * header.height
    if opened.format == "jpeg":
        scale = min(math.ceil(8 * least / min(header.width, header.height)) / 8, 1)
        return math.ceil(pixels * (PIXEL_BYTES * scale**2 + COEFFICIENT_BYTES))
    return pixels * PIXEL_BYTES * max(header.bit_depth // 8, 1)


@cache
def memory() -> MemoryBudget:
    """Return what the photographs may need together that the threads of this process decode."""
    return lenient(budgets(None)[1], None, "take smaller photographs, or a machine with more memory")


@cache
def files() -> MemoryBudget:
    """Return what the files of photographs may need together that the threads of this process read."""
    return budgets(None)[0]


def inspect(
    storage: Storage, listed: list[Entry], size: int, crashers: frozenset[str] = frozenset()
) -> tuple[list[PhotoInfo], list[Photograph | None]]:
    """Read and decode some photographs.

    Args:
        storage: where they lie.
        listed: what the listing tells of each.
        size: pixels along each side.
        crashers: those that are known to kill the process that decodes them.

    Returns:
        One row for each, and the pixels of each, size x size x 3; None where it cannot be used.

    Raises:
        StorageError: the storage is gone; no photograph is to blame.
    """

    def inspect_one(entry: Entry) -> tuple[PhotoInfo, Photograph | None]:
        path = entry.path
        if path in crashers:
            return PhotoInfo(path, error="decoding it killed its process"), None
        try:
            with files().held(file_bytes(entry.size)):
                data = storage.read(path)
                photograph = load(data, size)
        except Exception as error:
            return PhotoInfo(path, error=failure_of(error, "photograph").error), None
        digest, brightness = hashlib.sha256(data).hexdigest(), float(photograph.mean() / 255)
        return PhotoInfo(path, digest, brightness, clipped_share(photograph), layout(photograph)), photograph

    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(inspect_one, listed))
    return [row for row, _ in found], [photograph for _, photograph in found]


def digest_of(rows: Iterable[PhotoInfo]) -> str:
    """Return the first 16 hex digits of a SHA-256 over paths and contents of all photographs that can be used."""
    digest = hashlib.sha256()
    for row in rows:
        if not row.error:
            digest.update(f"{row.path} {row.digest}\n".encode())
    return digest.hexdigest()[:16]
