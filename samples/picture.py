"""Makes the picture at the top of the README from the photographs of this folder: `python samples/picture.py`."""

from pathlib import Path

import cv2
import numpy as np

from sgllie import Enhancer
from sgllie.network.weights import BUNDLED

SAMPLES = ("portrait/astronaut.jpg", "chelsea.webp", "coffee.jpg", "rocket.jpg")
WIDTH, HEIGHT, GAP = 240, 180, 6


def thumbnail(pixels: np.ndarray) -> np.ndarray:
    """Cut the upper middle in the shape of a thumbnail, shrink it, and put white to its right and below."""
    scale = max(WIDTH / pixels.shape[1], HEIGHT / pixels.shape[0])
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    left = (small.shape[1] - WIDTH) // 2
    return np.pad(small[:HEIGHT, left : left + WIDTH], ((0, GAP), (0, GAP), (0, 0)), constant_values=255)


def main() -> None:
    """Write it: the dark ones above, the brightened ones below."""
    brighten = Enhancer.load(device="cpu")
    dark = [cv2.imread(str(Path(__file__).parent / name))[..., ::-1] for name in SAMPLES]
    rows = [np.hstack([thumbnail(image) for image in images]) for images in (dark, [brighten(image) for image in dark])]
    picture = np.vstack(rows)[:-GAP, :-GAP, ::-1]
    cv2.imwrite(str(BUNDLED / "before-after.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 92])


if __name__ == "__main__":
    main()
