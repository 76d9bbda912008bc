"""Measure how well two cameras agree, each enhanced by itself and with one exposure for both (`--rig`).

    python benchmarks/rig.py PHOTOGRAPHS...

Each photograph is darkened (a quarter of its linear light; `--as-it-is` leaves it), and cut into two pictures, as two
cameras would see it: of each the outer 40 % are its own, the middle fifth both have. `sgllie enhance` is run on them
twice. Printed are, over the photographs, the mean difference and the mean absolute difference between what both made of
the middle, in grey levels of 255. In one column both see the middle on the same grid of samples.

Then disparity: a stereo pair is made of each photograph, the right eye by moving each pixel by a smooth map of 4 to
28 pixels, lit by another gain if asked for (--gain 0.8), and OpenCV's StereoSGBM is run on the pair before
enhancement, after it, and after it with one exposure. Printed is the share of pixels whose disparity is wrong by more
than one pixel or was not found. The same of a real pair whose true disparity is known: Middlebury's motorcycle, which
scikit-image ships.

The last line is what `--rig` costs: processor time of the run with it, in relation to that without.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.totals import add_up

Picture = NDArray[Any]
MOTORCYCLE = "motorcycle"
PATTERN = r"cam\d/(.*)"
KINDS = {"each by itself": None, "one exposure": PATTERN}


def darkened(picture: Picture, gain: float) -> Picture:
    """Lower the linear light of a picture, with a gamma of 2.2."""
    return np.rint(255 * (gain * (picture / 255) ** 2.2) ** (1 / 2.2)).astype(np.uint8)


def cut(picture: Picture, step: int) -> tuple[Picture, Picture, int]:
    """Return left and right 60 % of a picture, whose edges are multiples of `step`, and where the right one begins."""
    width = picture.shape[1]
    begin = round(width * 0.4 / step) * step
    return picture[:, : width - begin], picture[:, begin:], begin


def stereo(picture: Picture) -> tuple[Picture, Picture, NDArray[np.float32]]:
    """Return a left and a right eye, and the disparity of the left one in pixels."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    disparity = 16 + 8 * np.sin(2 * np.pi * x / width) + 4 * np.sin(2 * np.pi * y / height)
    # The right eye sees at x - d what the left one sees at x: solved by a few steps, since d is smooth.
    source = x.copy()
    for _ in range(20):
        source = x + cv2.remap(disparity, source, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return picture, cv2.remap(picture, source, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), disparity


def motorcycle() -> tuple[Picture, Picture, NDArray[np.float32]]:
    """Return both eyes of Middlebury's pair, and the true disparity of the left one; infinite where it is not known."""
    left, right, disparity = data.stereo_motorcycle()
    return cv2.cvtColor(left, cv2.COLOR_RGB2BGR), cv2.cvtColor(right, cv2.COLOR_RGB2BGR), disparity


def write(folder: Path, name: str, pictures: tuple[Picture, ...]) -> None:
    """Write a picture of each camera."""
    for camera, picture in enumerate(pictures):
        path = folder / f"cam{camera}/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), picture)


def enhanced(source: Path, output: Path, rig: str | None) -> float:
    """Enhance a folder in this process; return the processor seconds of the work."""
    run = prepare(EnhanceSettings(str(source), str(output), rig=rig, device="cpu"))
    started = time.process_time()
    pipeline = run.make_pipeline(lambda *_: None)
    totals = {shard: pipeline.run(shard) for shard in run.shards}
    seconds = time.process_time() - started
    assert add_up(totals.values())["ok"] == add_up(totals.values())["rows"], "all are enhanced"
    return seconds


def wrong_share(left: Picture, right: Picture, disparity: NDArray[np.float32]) -> float:
    """Match a pair, and return the share of pixels of known disparity that is wrong by more than one pixel."""
    most = int(np.ceil(disparity[np.isfinite(disparity)].max() / 16 + 1)) * 16
    matcher = cv2.StereoSGBM.create(0, most, 5, P1=8 * 3 * 25, P2=32 * 3 * 25, uniquenessRatio=5)
    found = matcher.compute(left, right).astype(np.float32) / 16
    wrong, known = (np.abs(found - disparity) > 1)[:, most:], np.isfinite(disparity)[:, most:]
    return float(wrong[known].mean())


def main() -> None:
    """Run all of it on the photographs of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("photographs", nargs="+", type=Path)
    parser.add_argument("--as-it-is", action="store_true")
    parser.add_argument("--gain", type=float, default=1.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        pairs(arguments, Path(scratch))


def pairs(arguments: argparse.Namespace, scratch: Path) -> None:
    """Make the pairs of pictures, enhance them, and print what was found."""
    disparities: dict[str, NDArray[np.float32]] = {}
    begins = {}
    for number, path in enumerate(arguments.photographs):
        picture = opened(path)
        picture = picture if arguments.as_it_is else darkened(picture, 0.25)
        for kind, step in (("overlap", 1), ("grid", 12)):
            left, right, begins[kind, number] = cut(picture, step)
            write(scratch / "in", f"{kind}-{number:03d}", (left, right))
        left, right, disparities[f"{number:03d}"] = stereo(picture)
        write(scratch / "in", f"stereo-{number:03d}", (left, darkened(right, arguments.gain)))
    left, right, disparities[MOTORCYCLE] = motorcycle()
    left, right = darkened(left, 0.25), darkened(right, 0.25 * arguments.gain)
    write(scratch / "in", f"stereo-{MOTORCYCLE}", (left, right))
    print(f"{len(arguments.photographs)} photographs")
    seconds = {}
    for name, rig in KINDS.items():
        seconds[name] = enhanced(scratch / "in", scratch / name, rig)
    for kind in ("overlap", "grid"):
        for name in KINDS:
            differences = []
            for number in range(len(arguments.photographs)):
                left, right = read(scratch / name / "images", f"{kind}-{number:03d}")
                begin = begins[kind, number]
                difference = left[:, begin:].astype(float) - right[:, : left.shape[1] - begin]
                differences.append((abs(difference.mean()), np.abs(difference).mean()))
            mean, absolute = np.mean(differences, axis=0)
            most = np.max(differences, axis=0)[0]
            print(f"{kind}, {name}: mean difference {mean:.2f} (at most {most:.2f}), absolute {absolute:.2f}")
    for name, folder in {"before": "in", **{name: f"{name}/images" for name in KINDS}}.items():
        shares = {
            pair: wrong_share(*read(scratch / folder, f"stereo-{pair}"), disparity)
            for pair, disparity in disparities.items()
        }
        real = shares.pop(MOTORCYCLE)
        print(f"disparity, {name}: {np.mean(list(shares.values())):.1%} wrong, of the real pair {real:.1%}")
    print(
        f"processor time with one exposure: {seconds['one exposure'] / seconds['each by itself']:.2f} of that without"
    )


def read(folder: Path, name: str) -> tuple[Picture, Picture]:
    """Read what both cameras have."""
    left, right = (opened(folder / f"cam{camera}/{name}.png") for camera in range(2))
    return left, right


def opened(path: Path) -> Picture:
    """Read one picture."""
    picture = cv2.imread(str(path))
    assert picture is not None, f"{path} cannot be read"
    return picture


if __name__ == "__main__":
    main()
