"""What `--denoise` gains on noisy photographs, what it costs, and what it spoils.

    python benchmarks/denoise.py --well-lit FOLDER [...] --dark FOLDER [...] [--photographs 12]

The first table is about well-lit photographs, shrunk to 640 pixels and darkened: by cameras of several kinds, with
photon and sensor noise, smeared where a camera interpolates its colours, and JPEG, in a night with a lamp, and without
any noise. Printed are SSIM and PSNR (dB) of the enhanced image against the photograph, without and with `--denoise`.
The second is NIQE of dark photographs (lower is better): as they are, and both. Printed first are the milliseconds that
a job spends on a JPEG and on a PNG of 640x480.
"""

import argparse
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from weights import exposed, images_in, read, rounded, scaled, well_lit

from sgllie import Enhancer, decode, encode
from sgllie.images import luma
from sgllie.metrics import METRICS
from sgllie.train.augmentation import to_linear, to_srgb


def taken(
    x: np.ndarray, stops: float | np.ndarray, shot: float, read_noise: float, blur: float, quality: int
) -> np.ndarray:
    """Take a photograph with too little light, smear its noise by so many pixels, and store it (see `stored`)."""
    light = to_linear(x) * 2.0**-stops
    noise: np.ndarray = np.random.default_rng(5).normal(0, 1, light.shape) * np.sqrt(shot * light + read_noise**2)
    smeared: np.ndarray = cv2.GaussianBlur(noise, (0, 0), blur) if blur else noise
    return stored(to_srgb(light + smeared), quality)


def by_lamp(x: np.ndarray) -> np.ndarray:
    """Return how many stops of light a night takes: 5, but none in the quarter lit by a lamp, which is blown itself."""
    rows, columns = (np.linspace(-1, 1, side) for side in x.shape[:2])
    far = np.hypot(rows[:, None, None], columns[:, None])
    return 5 / (1 + np.exp((0.56 - far) / 0.08)) - 3 * (far < 0.08)


def stored(x: np.ndarray, quality: int) -> np.ndarray:
    """Round values in [0, 1] to uint8, by way of a JPEG of this quality, if it is not 0."""
    image = rounded(x)
    if not quality:
        return image
    data = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return decode(data.tobytes()).pixels


RECIPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "telephone, -5 stops": lambda x: taken(x, 5, 2e-4, 5e-4, 0, 0),
    "telephone, -5, q95": lambda x: taken(x, 5, 2e-4, 5e-4, 0, 95),
    "action camera, -4.5, q90": lambda x: taken(x, 4.5, 8e-4, 1.2e-3, 0.7, 90),
    "large sensor, -5.5": lambda x: taken(x, 5.5, 5e-5, 2e-4, 0, 0),
    "high ISO, -3, q92": lambda x: taken(x, 3, 4.8e-3, 4.8e-3, 0.5, 92),
    "noisy, -2, q95": lambda x: taken(x, 2, 1e-3, 1e-3, 0, 95),
    "night, lamp, read noise": lambda x: taken(x, by_lamp(x), 2e-4, 2.5e-3, 0, 0),
    "13 % and noise": lambda x: rounded(scaled(x, 0.13)),
    "clean, untouched": rounded,
    "clean, q90": lambda x: stored(x, 90),
    "clean, gamma 2.2": lambda x: rounded(x**2.2),
    "clean, -3, q95": lambda x: stored(exposed(x, 3), 95),
    "clean, -3, q75": lambda x: stored(exposed(x, 3), 75),
    "clean, -5": lambda x: rounded(exposed(x, 5)),
}


def pairs_table(enhancers: list[Enhancer], photographs: list[np.ndarray]) -> None:
    """Print SSIM and PSNR, a line for each recipe."""
    ssim, psnr = METRICS["ssim"].function, METRICS["psnr"].function
    print(f"{len(photographs)} photographs: SSIM / PSNR without and with, SSIM of with against without")
    for name, recipe in RECIPES.items():
        scores = []
        for photograph in photographs:
            dark = recipe(photograph / 255)
            plain, quiet = (enhancer(dark) for enhancer in enhancers)
            fidelity = [min(m(image, photograph), 100.0) for image in (plain, quiet) for m in (ssim, psnr)]
            scores.append([*fidelity, ssim(quiet, plain)])
        mean = np.mean(scores, axis=0)
        print("{:26}{:.3f} / {:.2f}   {:.3f} / {:.2f}   {:.4f}".format(name, *mean), flush=True)


def dark_table(enhancers: list[Enhancer], folders: list[Path]) -> None:
    """Print NIQE, a line for each folder."""
    niqe = METRICS["niqe"].function
    print("\nNIQE: input, without, with")
    for folder in folders:
        images = [read(path, 1280) for path in images_in([folder])]
        scores = [[niqe(image), *(niqe(enhancer(image)) for enhancer in enhancers)] for image in images]
        print("{:26}{:.2f}   {:.2f}   {:.2f}".format(folder.name, *np.mean(scores, axis=0)), flush=True)


def times_table(enhancers: list[Enhancer], photograph: np.ndarray) -> None:
    """Print medians of 200 rounds in turn, by the processor's time: all that a job does with an image; enhancing."""
    small = cv2.resize(photograph, (640, 480)) / 255
    for suffix, recipe in ((".jpg", "telephone, -5, q95"), (".png", "telephone, -5 stops")):
        spent = np.empty((200, len(enhancers), 2))
        with TemporaryDirectory() as folder:
            source, target = (Path(folder) / f"{name}{suffix}" for name in ("in", "out"))
            cv2.imwrite(str(source), RECIPES[recipe](small)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])
            for turn in spent:
                for times, enhancer in zip(turn, enhancers, strict=True):
                    begin = time.process_time()
                    times[1] = enhance_file(source, target, enhancer)
                    times[0] = time.process_time() - begin
        print(f"\nmilliseconds of 640x480 as {suffix}: all of one image, enhancing alone")
        for name, medians in zip(("without", "with"), np.median(spent, axis=0) * 1e3, strict=True):
            print("{:26}{:.2f}   {:.2f}".format(name, *medians), flush=True)


def enhance_file(source: Path, target: Path, enhancer: Enhancer) -> float:
    """Read, hash, measure, enhance and write one image, as a job does; return the seconds that enhancing took."""
    data = source.read_bytes()
    hashlib.sha256(data).hexdigest()
    image = decode(data)
    luma.measure(image.pixels)
    begin = time.process_time()
    pixels = enhancer.enhance(image.pixels).pixels
    seconds = time.process_time() - begin
    luma.measure(pixels)
    data = encode(image, pixels)
    hashlib.sha256(data).hexdigest()
    target.write_bytes(data)
    return seconds


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--well-lit", nargs="+", type=Path, required=True)
    parser.add_argument("--dark", nargs="+", type=Path, default=[])
    parser.add_argument("--photographs", type=int, default=12, help="so many of the well-lit ones, spread over them")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    enhancers = [Enhancer.load(device="cpu", denoise=denoise) for denoise in (False, True)]
    paths = images_in(options.well_lit)
    found = [image for image in (read(path, 640) for path in paths[::7]) if well_lit(image)][: options.photographs]
    times_table(enhancers, found[0])
    pairs_table(enhancers, found)
    dark_table(enhancers, options.dark)


if __name__ == "__main__":
    main()
