"""Makes the dark photographs of this folder from photographs that scikit-image ships: `python samples/darken.py`."""

from pathlib import Path

import cv2
import numpy as np
import skimage

RECIPES = {
    # source: (target, exposure in stops, vignette)
    "astronaut.png": ("portrait/astronaut.jpg", -3.0, 0.5),
    "chelsea.png": ("chelsea.webp", -4.0, 0.3),
    "coffee.png": ("coffee.jpg", -3.5, 0.0),
    "rocket.jpg": ("rocket.jpg", -2.0, 0.0),
    "camera.png": ("camera.png", -3.0, 0.2),
    "coins.png": ("coins.png", -2.5, 0.6),
}


def darken(pixels: np.ndarray, stops: float, vignette: float, generator: np.random.Generator) -> np.ndarray:
    """Less light on the sensor: scale linear light, add shot and read noise, encode again (sRGB, 8 bits)."""
    encoded = pixels / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    rows, columns = (np.linspace(-1, 1, side) for side in pixels.shape[:2])
    fall_off = 1 - vignette * (rows[:, None] ** 2 + columns**2) / 2
    light = linear * 2**stops * (fall_off if pixels.ndim == 2 else fall_off[..., None])
    light = np.clip(light + generator.normal(0, 1, light.shape) * np.sqrt(1e-4 * light + 1e-6), 0, 1)
    encoded = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.round(encoded * 255).astype(np.uint8)


def main() -> None:
    """Write all of them."""
    folder = Path(__file__).parent
    for source, (target, stops, vignette) in RECIPES.items():
        pixels = cv2.imread(str(Path(skimage.__file__).parent / "data" / source), cv2.IMREAD_UNCHANGED)
        dark = darken(pixels[..., :3] if pixels.ndim == 3 else pixels, stops, vignette, np.random.default_rng(0))
        (folder / target).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / target), dark)


if __name__ == "__main__":
    main()
