"""Compare weights with each other, with the input as it is and with a trivial exposure rule.

    python benchmarks/weights.py WEIGHTS [WEIGHTS ...] --well-lit FOLDER [...] [--well-lit ...] --dark FOLDER [...]

For each `--well-lit` a table is printed about well-lit photographs (mean luma 0.35 to 0.6, few pixels at the limits,
chosen from the folders), darkened by recipes that training does not use: PSNR in dB, SSIM and cast of the enhanced
image against the photograph, from left as it is (`untouched`: how far a good image is spoilt) to very dark. Recipes
with "to" in their name draw an amount for each photograph. The next table is about dark photographs without a
reference: NIQE (lower is better), mean luma and the share of pixels with a channel at 0 or 255. The last is about them,
too: halo, and how much more than the input the output changes while a camera pans over them.

`rule` is one factor for all pixels of an image, chosen so that the mean of the result is 0.5; `best factor` is the one
that comes closest to the photograph, which only who knows the photograph can choose. With `--strengths` and `--denoise`
the tables show what these options trade.
"""

import argparse
from collections.abc import Callable
from itertools import product
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import minimize_scalar

from sgllie import Enhancer
from sgllie.images import decode
from sgllie.metrics import METRICS
from sgllie.metrics.flicker import measure_flicker
from sgllie.train.augmentation import to_linear, to_srgb

Method = Callable[[np.ndarray], np.ndarray]
SPARSE = (slice(None, None, 4), slice(None, None, 4))
"""The pixels that tell which factor an image needs."""


def exposed(encoded: np.ndarray, stops: float, shot: float = 0.0, read: float = 0.0) -> np.ndarray:
    """Take light away, and add photon noise (variance `shot` per unit of light) and sensor noise (deviation `read`)."""
    light = to_linear(encoded) * 2.0**-stops
    noise = np.random.default_rng(5).normal(0, 1, light.shape) * np.sqrt(shot * light + read**2)
    return to_srgb(light + noise)


def scaled(encoded: np.ndarray, share: float) -> np.ndarray:
    """Scale the encoded values, as a camera with another tone curve seems to do, and add noise."""
    return share * encoded + np.random.default_rng(5).normal(0, 0.004, encoded.shape)


def rendered(encoded: np.ndarray, shoulder: float, stops: float, power: float) -> np.ndarray:
    """Give the photograph another tone curve: undo a shoulder, take light away, bend the encoded values."""
    light = to_linear(encoded)
    return to_srgb(light * (1 - shoulder) / (1 - shoulder * light) * 2.0**-stops) ** power


def vignetted(encoded: np.ndarray) -> np.ndarray:
    """Take one stop away in the middle and 3.2 in the corners."""
    rows, columns = (np.linspace(-1, 1, side) for side in encoded.shape[:2])
    return to_srgb(to_linear(encoded) * 2.0 ** -(1 + 1.1 * (rows[:, None, None] ** 2 + columns[:, None] ** 2)))


Recipe = Callable[[np.ndarray, np.random.Generator], np.ndarray]
RECIPES: dict[str, Recipe] = {
    "untouched": lambda x, _: x,
    "gamma 1.3": lambda x, _: x**1.3,
    "-0.2 to -1.5 stops": lambda x, random: exposed(x, random.uniform(0.2, 1.5)),
    "-0.7 stops": lambda x, _: exposed(x, 0.7),
    "gamma 1.7": lambda x, _: x**1.7,
    "tone curve, +0.3 to -0.9": lambda x, random: rendered(
        x, random.uniform(0, 0.9), random.uniform(-0.3, 0.9), random.uniform(0.9, 1.3)
    ),
    "gamma 2.2": lambda x, _: x**2.2,
    "-1.5 stops": lambda x, _: exposed(x, 1.5, 1e-4, 2e-4),
    "vignette": lambda x, _: vignetted(x),
    "warm, gamma 1.3, -2.5": lambda x, _: exposed(x**1.3, 2.5, 2e-4, 5e-4) * [1.05, 1, 0.9],
    "-3 stops": lambda x, _: exposed(x, 3, 2e-4, 5e-4),
    "gamma 3.5": lambda x, _: x**3.5,
    "-4 to -6 stops": lambda x, random: exposed(x, random.uniform(4, 6), 2e-4, 5e-4),
    "-5 stops": lambda x, _: exposed(x, 5, 2e-4, 5e-4),
    "8 to 22 % and noise": lambda x, random: scaled(x, np.exp(random.uniform(*np.log([0.08, 0.22])))),
    "13 % and noise": lambda x, _: scaled(x, 0.13),
}


def curve(image: np.ndarray, factor: float) -> np.ndarray:
    """Apply the enhancement curve with one factor for all pixels: uint8 -> float32 in [0, 1]."""
    x = image.astype(np.float32) / 255
    for _ in range(8):
        x = x + np.float32(factor) * (x * x - x)
    return x


def rule(image: np.ndarray) -> np.ndarray:
    """Apply the curve with the one factor that makes the mean 0.5, found by bisection."""
    low, high = -1.0, 1.0
    for _ in range(30):
        factor = (low + high) / 2
        low, high = (low, factor) if curve(image[SPARSE], factor).mean() < 0.5 else (factor, high)
    return rounded(curve(image, (low + high) / 2))


def best_factor(image: np.ndarray, photograph: np.ndarray) -> np.ndarray:
    """Apply the curve with the one factor that comes closest to the photograph."""
    wanted = photograph[SPARSE].astype(np.float32) / 255

    def error(factor: float) -> float:
        return float(np.square(curve(image[SPARSE], factor) - wanted).mean())

    return rounded(curve(image, minimize_scalar(error, bounds=(-1, 1), method="bounded").x))


def rounded(x: np.ndarray) -> np.ndarray:
    """Round values in [0, 1] to uint8."""
    return np.round(np.clip(x, 0, 1) * 255).astype(np.uint8)


def read(path: Path, longest_side: int) -> np.ndarray:
    """Read an image as RGB uint8, with at most so many pixels on its longer side."""
    image = decode(path.read_bytes()).pixels
    image = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    factor = longest_side / max(image.shape)
    return np.ascontiguousarray(
        image if factor >= 1 else cv2.resize(image, None, fx=factor, fy=factor, interpolation=3)
    )


def images_in(folders: list[Path]) -> list[Path]:
    """List the images of folders, and single files."""
    suffixes = {".jpg", ".jpeg", ".png", ".bmp"}
    found = [path for folder in folders for path in (sorted(folder.iterdir()) if folder.is_dir() else [folder])]
    return [path for path in found if path.suffix.lower() in suffixes]


def well_lit(image: np.ndarray) -> bool:
    """Tell whether a photograph can stand for what a dark one should become."""
    mean = float(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).mean() / 255)
    coloured = image.ndim == 3 and bool((image[..., 0] != image[..., 2]).any())
    return coloured and 0.35 <= mean <= 0.6 and at_limits(image) < 0.1


def at_limits(image: np.ndarray) -> float:
    """Return the share of pixels with a channel at 0 or 255."""
    return float(((image == 0) | (image == 255)).any(axis=2).mean())


def cast(enhanced: np.ndarray, photograph: np.ndarray) -> float:
    """Return how far the mean colours of two images are apart whatever their brightness, in levels of 255."""
    apart = enhanced.mean(axis=(0, 1)) - photograph.mean(axis=(0, 1))
    return float(np.abs(apart - apart.mean()).mean())


def halo(enhanced: np.ndarray, image: np.ndarray) -> float:
    """Return by how many levels of luma the pixels near lights differ from those elsewhere that were as dark as they.

    Lights are pixels at 250 or more; near them is within a fiftieth of the width. NaN where there are none.
    """
    before, after = (cv2.cvtColor(x, cv2.COLOR_RGB2GRAY) for x in (image, enhanced))
    lights = before >= 250
    side = 2 * (image.shape[1] // 50) + 1
    near = cv2.dilate(lights.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    counts = np.bincount(before[~near], minlength=256)
    usual = np.bincount(before[~near], after[~near], 256) / np.maximum(counts, 1)
    seen = near & ~lights & (counts[before] >= 100)
    return float((after[seen] - usual[before[seen]]).mean()) if seen.any() else float("nan")


def pan_flicker(method: Method, image: np.ndarray) -> float:
    """Return how many times as much as the input the output changes along the motion, in a pan of 12 frames."""
    width = image.shape[1] * 2 // 3
    starts = np.linspace(0, image.shape[1] - width, 12).astype(int)
    frames = [np.ascontiguousarray(image[:, start : start + width]) for start in starts]
    measured = measure_flicker(map(method, frames), frames)
    return measured.warping_error / measured.original_warping_error


def pairs_table(methods: dict[str, Method], photographs: list[np.ndarray], recipes: list[str]) -> None:
    """Print PSNR and SSIM, a line for each recipe."""
    psnr, ssim = METRICS["psnr"].function, METRICS["ssim"].function
    print(f"\n{len(photographs)} well-lit photographs, darkened: mean luma of the input, then PSNR (dB) / SSIM / cast")
    print(f"{'recipe':24}{'mean':>6}" + "".join(f"{name:>24}" for name in [*methods, "best factor"]))
    for recipe in recipes:
        dark = [rounded(RECIPES[recipe](x / 255, np.random.default_rng(n))) for n, x in enumerate(photographs)]
        line = f"{recipe:24}{np.mean([image.mean() / 255 for image in dark]):6.2f}"
        outputs = [[method(image) for image in dark] for method in methods.values()]
        for enhanced in [*outputs, list(map(best_factor, dark, photographs))]:
            pairs = list(zip(enhanced, photographs, strict=True))
            mean = np.mean([(min(psnr(*pair), 100.0), ssim(*pair), cast(*pair)) for pair in pairs], axis=0)
            line += f"{mean[0]:>10.2f} / {mean[1]:.3f} / {mean[2]:.1f}"
        print(line, flush=True)


def dark_table(methods: dict[str, Method], folders: list[Path], longest_side: int) -> None:
    """Print NIQE, mean luma and clipped share, a line for each folder."""
    niqe = METRICS["niqe"].function
    print("\ndark photographs: NIQE / mean luma / share at the limits")
    print(f"{'folder':16}{'images':>7}" + "".join(f"{name:>22}" for name in methods))
    for folder in folders:
        paths = images_in([folder])
        line = f"{folder.name:16}{len(paths):>7}"
        for method in methods.values():
            scores = []
            for path in paths:
                enhanced = method(read(path, longest_side))
                luma = cv2.cvtColor(enhanced, cv2.COLOR_RGB2GRAY).mean() / 255
                scores.append((niqe(enhanced), luma, at_limits(enhanced)))
            mean = np.mean(scores, axis=0)
            line += f"{mean[0]:>10.2f} / {mean[1]:.2f} / {mean[2]:.2f}"
        print(line, flush=True)


def faults_table(methods: dict[str, Method], folders: list[Path], longest_side: int) -> None:
    """Print halo and flicker, a line for each folder."""
    print("\ndark photographs: halo (levels of 255; below 0: darker near lights), its mean size / flicker in a pan")
    print(f"{'folder':16}{'images':>7}" + "".join(f"{name:>22}" for name in methods))
    for folder in folders:
        images = [image for path in images_in([folder]) if (image := read(path, longest_side)).shape[1] >= 400]
        line = f"{folder.name:16}{len(images):>7}"
        for method in methods.values():
            halos = [halo(method(image), image) for image in images]
            flicker = np.nanmean([pan_flicker(method, image) for image in images[::5]])
            line += f"{np.nanmean(halos):>+9.1f} {np.nanmean(np.abs(halos)):>4.1f} / {flicker:.2f}"
        print(line, flush=True)


def main() -> None:
    """Measure all weights, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("weights", nargs="+")
    parser.add_argument("--well-lit", nargs="+", type=Path, action="append", default=[])
    parser.add_argument("--dark", nargs="+", type=Path, default=[])
    parser.add_argument("--scale-factor", type=int, default=12)
    parser.add_argument("--strengths", nargs="+", type=float, default=[1], help="columns of all weights for each")
    parser.add_argument("--denoise", action="store_true", help="a column with --denoise beside each")
    parser.add_argument("--longest-side", type=int, default=1280, help="larger images are shrunk")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    options = parser.parse_args()
    methods: dict[str, Method] = {"input": lambda image: image, "rule": rule}
    for name, strength, denoise in product(options.weights, options.strengths, [False, True][: 1 + options.denoise]):
        title = Path(name).stem + f" {strength}" * (strength != 1) + " denoise" * denoise
        methods[title] = Enhancer.load(
            name, scale_factor=options.scale_factor, strength=strength, denoise=denoise, device="cpu"
        ).__call__
    for folders in options.well_lit:
        images = (read(path, options.longest_side) for path in images_in(folders))
        pairs_table(methods, [image for image in images if well_lit(image)], options.recipes)
    if options.dark:
        dark_table(methods, options.dark, options.longest_side)
        faults_table(methods, options.dark, options.longest_side)


if __name__ == "__main__":
    main()
