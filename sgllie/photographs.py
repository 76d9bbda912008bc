"""The photographs of a training: read once to see which can be used, and put in order for each epoch."""

import hashlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage

from sgllie import images
from sgllie.images import ImageError
from sgllie.storage import Storage, StorageError

Pixels = NDArray[np.uint8]
READERS = 8
"""Files that one task reads at the same time."""


class Seen(NamedTuple):
    """What a first look at one photograph showed; `error` is empty where it can be used."""

    path: str
    digest: str
    brightness: float
    clipped: float
    error: str


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
    rows = []
    with ThreadPoolExecutor(READERS) as pool:
        for place, (path, data) in enumerate(
            zip(paths, pool.map(lambda path: attempt(storage, path), paths), strict=True)
        ):
            if isinstance(data, str):
                rows.append(Seen(path, "", 0.0, 0.0, data))
                continue
            digest = hashlib.sha256(data).hexdigest()
            try:
                photograph = pixels[place] = load(data, size)
            except ImageError as error:
                rows.append(Seen(path, digest, 0.0, 0.0, str(error)))
                continue
            clipped = float((photograph == 255).any(axis=-1).mean())
            rows.append(Seen(path, digest, float(photograph.mean() / 255), clipped, ""))
    return rows, pixels


def attempt(storage: Storage, path: str) -> bytes | str:
    """The bytes of a file, or why it cannot be read."""
    try:
        return storage.read(path)
    except (OSError, StorageError) as error:
        return f"cannot be read: {error}"


@dataclass(frozen=True)
class Split:
    """Numbers of the photographs to train on and of those held back, in an order that follows from the seed."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def split(usable: NDArray[np.int64], validation_images: int, seed: int) -> Split:
    """Hold back `validation_images` photographs, but at most a fifth."""
    shuffled = np.random.default_rng(seed).permutation(usable)
    held_back = min(validation_images, len(usable) // 5)
    return Split(np.sort(shuffled[held_back:]), shuffled[:held_back])


def order(training: NDArray[np.int64], epoch: int, batch_size: int, seed: int) -> NDArray[np.int64]:
    """Photographs of an epoch in the order of its steps: each once, then some of the first to fill the last batch.

    It depends on nothing but its arguments, so that any number of workers can each take every n-th and together see the
    batches that one worker would.
    """
    shuffled = np.random.default_rng([seed, epoch]).permutation(training)
    return np.resize(shuffled, -(-len(shuffled) // batch_size) * batch_size)


def digest_of(rows: Iterable[Seen]) -> str:
    """The first 16 hex digits of a SHA-256 over paths and contents of all photographs that can be used."""
    digest = hashlib.sha256()
    for row in rows:
        if not row.error:
            digest.update(f"{row.path} {row.digest}\n".encode())
    return digest.hexdigest()[:16]
