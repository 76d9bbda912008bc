"""The photographs of a training: how one is decoded, and the first inspection at each that tells which can be used."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sgllie import images
from sgllie.errors import failure_of
from sgllie.storage import Storage
from sgllie.train.scenes import layout

Pixels = NDArray[np.uint8]
READERS = 8
"""Files that one task reads at the same time."""


class PhotoInfo(NamedTuple):
    """What a first inspection at one photograph showed; `error` is empty where it can be used."""

    path: str
    digest: str = ""
    brightness: float = 0.0
    clipped: float = 0.0
    layout: bytes = b""
    error: str = ""


def load(data: bytes, size: int) -> Pixels:
    """Decode a photograph as it is meant to be seen, resized with Lanczos to size x size x 3, uint8.

    Raises:
        ImageError: it cannot be decoded.
    """
    pixels = images.decode(data, exif_orientation="apply").pixels
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    photograph = PillowImage.fromarray(pixels).convert("RGB")
    if photograph.size != (size, size):
        photograph = photograph.resize((size, size), PillowImage.Resampling.LANCZOS)
    return np.asarray(photograph)


def inspect(
    storage: Storage, paths: list[str], size: int, crashers: frozenset[str] = frozenset()
) -> tuple[list[PhotoInfo], Pixels]:
    """Read and decode some photographs.

    Args:
        storage: where they lie.
        paths: their paths below it.
        size: pixels along each side.
        crashers: those that are known to kill the process that decodes them.

    Raises:
        StorageError: the storage is gone; no photograph is to blame.

    Returns:
        One row for each path, and len(paths) x size x size x 3 pixels, black where a photograph cannot be used.
    """
    pixels = np.zeros((len(paths), size, size, 3), np.uint8)

    def inspect_one(place: int) -> PhotoInfo:
        path = paths[place]
        if path in crashers:
            return PhotoInfo(path, error="decoding it killed its process")
        try:
            data = storage.read(path)
            photograph = pixels[place] = load(data, size)
        except Exception as error:
            return PhotoInfo(path, error=failure_of(error, "photograph").error)
        clipped = float((photograph == 255).any(axis=-1).mean())
        digest, brightness = hashlib.sha256(data).hexdigest(), float(photograph.mean() / 255)
        return PhotoInfo(path, digest, brightness, clipped, layout(photograph))

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(inspect_one, range(len(paths)))), pixels


def digest_of(rows: Iterable[PhotoInfo]) -> str:
    """The first 16 hex digits of a SHA-256 over paths and contents of all photographs that can be used."""
    digest = hashlib.sha256()
    for row in rows:
        if not row.error:
            digest.update(f"{row.path} {row.digest}\n".encode())
    return digest.hexdigest()[:16]
