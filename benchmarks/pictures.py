"""The pictures that benchmarks, and tests of whole jobs, run on."""

import math
from pathlib import Path

import cv2
import numpy as np

from sgllie.images import decode

SAMPLE = Path(__file__).parents[1] / "samples" / "coffee.jpg"


def photographs(folder: Path | None) -> list[bytes]:
    """Return JPEGs of about 640x480: those of a folder, scaled, or synthetic ones."""
    if folder is not None:
        pictures = [decode(path.read_bytes()).pixels for path in sorted(folder.glob("*.jpg"))]
    else:
        generator = np.random.default_rng(0)
        pictures = [synthetic(generator) for _ in range(32)]
    return [encode(scaled(picture)) for picture in pictures]


def synthetic(generator: np.random.Generator) -> np.ndarray:
    """Draw shapes at every scale and some noise: about as hard to encode as a dark photograph."""
    picture = np.zeros((480, 640, 3))
    for octave in range(3, 9):
        coarse = generator.normal(0, 1, (2**octave * 3 // 4, 2**octave, 3))
        picture += cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC) * 2.0 ** (3 - octave)
    return np.clip(picture * 25 + 60 + generator.normal(0, 2, picture.shape), 0, 255).astype(np.uint8)


def scaled(picture: np.ndarray) -> np.ndarray:
    """Scale a picture to the area of 640x480."""
    height, width = picture.shape[:2]
    factor = math.sqrt(640 * 480 / (height * width))
    return cv2.resize(picture, (round(width * factor), round(height * factor)), interpolation=cv2.INTER_AREA)


def encode(picture: np.ndarray) -> bytes:
    """Return the bytes of a JPEG of quality 95."""
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


def dark(generator: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Draw a dark picture without detail, of a size: height and width."""
    return cv2.resize(generator.integers(0, 90, (6, 8, 3), dtype=np.uint8), size[::-1])


def make_corpus(folder: Path, count: int, size: tuple[int, int] = (48, 64), seed: int = 0) -> Path:
    """Write dark JPEGs, all different, a hundred in each sub-folder; return the folder."""
    generator = np.random.default_rng(seed)
    for number in range(count):
        path = folder / f"{number // 100:03d}" / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(dark(generator, size)))
    return folder


def fill(folder: Path, jpegs: list[bytes], count: int) -> Path:
    """Write `count` images into a folder, a thousand in each sub-folder; return the folder."""
    for number in range(count):
        path = folder / f"{number // 1000:04d}" / f"{number:07d}.jpg"
        if number % 1000 == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(jpegs[number % len(jpegs)])
    return folder
