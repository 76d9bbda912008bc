"""The photographs of a training: how one is decoded, and the first look at each that tells which can be used."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sgllie import images
from sgllie.images import ImageError
from sgllie.storage import Storage, StorageError
from sgllie.training.scenes import layout

Pixels = NDArray[np.uint8]
READERS = 8
"""Files that one task reads at the same time."""


class Seen(NamedTuple):
    """What a first look at one photograph showed; `error` is empty where it can be used."""

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


def look(
    storage: Storage, paths: list[str], size: int, deadly: frozenset[str] = frozenset()
) -> tuple[list[Seen], Pixels]:
    """Read and decode some photographs.

    Args:
        storage: where they lie.
        paths: their paths below it.
        size: pixels along each side.
        deadly: those that are known to kill the process that decodes them.

    Returns:
        One row for each path, and len(paths) x size x size x 3 pixels, black where a photograph cannot be used.
    """
    pixels = np.zeros((len(paths), size, size, 3), np.uint8)

    def look_at(place: int) -> Seen:
        path = paths[place]
        if path in deadly:
            return Seen(path, error="decoding it killed its process")
        try:
            data = storage.read(path)
            photograph = pixels[place] = load(data, size)
        except (OSError, StorageError) as error:
            return Seen(path, error=f"cannot be read: {error}")
        except ImageError as error:
            return Seen(path, error=str(error))
        clipped = float((photograph == 255).any(axis=-1).mean())
        digest, brightness = hashlib.sha256(data).hexdigest(), float(photograph.mean() / 255)
        return Seen(path, digest, brightness, clipped, layout(photograph))

    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(look_at, range(len(paths)))), pixels


def digest_of(rows: Iterable[Seen]) -> str:
    """The first 16 hex digits of a SHA-256 over paths and contents of all photographs that can be used."""
    digest = hashlib.sha256()
    for row in rows:
        if not row.error:
            digest.update(f"{row.path} {row.digest}\n".encode())
    return digest.hexdigest()[:16]
