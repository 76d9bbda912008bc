"""How often the content rule for label maps errs: photographs taken for maps, and maps taken for photographs.

    python benchmarks/label_maps.py --photographs FOLDER --maps FOLDER

Each photograph is also tried as what photographs are stored as: grey, in a palette, with few levels, of 16 bits as a
camera, a converter or a lens may give them. Each map of ids is also tried in colours, in a palette, as instances, as a
mask and shrunk, and beside them the measured disparity that scikit-image ships, as KITTI and Cityscapes store such.
"""

import argparse
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
import skimage
from PIL import Image

from sgllie.corpus.listing import Listing
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import ImageError
from sgllie.images import DecodedImage, Pixels, decode
from sgllie.images.label_map import ids_in
from sgllie.images.metadata import Metadata

COSTED = 20
"""Photographs on which the cost is measured."""
RANDOM = np.random.default_rng(0)


def photographs(pixels: Pixels) -> Iterator[tuple[str, Pixels]]:
    """Yield a photograph as it may be stored; H x W x 3 or H x W, uint8 or uint16."""
    colour = Image.fromarray(pixels).convert("RGB")
    grey = np.asarray(colour.convert("L"))
    linear = (grey / 255.0) ** 2.2 * 4095
    noise = RANDOM.normal(0, 3, grey.shape) + RANDOM.normal(0, 0.5, grey.shape) * np.sqrt(linear)
    raw = np.clip(linear + noise, 0, 4095).astype(np.uint16)
    distance = np.hypot(*np.mgrid[-1 : 1 : grey.shape[0] * 1j, -1 : 1 : grey.shape[1] * 1j])
    yield "colour", np.asarray(colour)
    yield "grey", grey
    yield "grey, three stops darker", grey // 8
    yield "grey, a quarter of the side", cv2.resize(grey, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    for part in (0.9, 0.3):
        inside = distance < part
        yield f"colour, cut out at {part}", np.asarray(colour) * inside[..., None]
        yield f"grey, cut out at {part}", grey * inside
        yield f"16 bits, cut out at {part}", grey.astype(np.uint16) * 257 * inside
        yield f"raw, cut out at {part}", raw * inside
    for colours in (256, 64, 16):
        yield f"palette of {colours}", np.asarray(colour.quantize(colours).convert("RGB"))
    for levels in (16, 8, 4):
        yield f"{levels} levels", grey // (256 // levels) * (255 // (levels - 1))
    yield "1 bit, dithered", np.asarray(colour.convert("1")).astype(np.uint8) * 255
    yield "8 bits in 16", grey.astype(np.uint16) * 257
    yield "raw, 12 bits in 16", raw
    yield "raw, 12 bits at the top", raw << 4
    yield "16 bits, stretched and clipped", np.clip((grey - 20.0) * 283, 0, 65535).astype(np.uint16)
    yield "raw with dead pixels", np.where(RANDOM.random(grey.shape) < 0.003, 0, raw + 200).astype(np.uint16)


def maps(ids: Pixels) -> Iterator[tuple[str, Pixels]]:
    """Yield a map of ids as it may be stored."""
    colours = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)
    instances = np.zeros(ids.shape, np.uint16)
    for one in np.unique(ids):
        _, number = cv2.connectedComponents((ids == one).astype(np.uint8))
        instances[number > 0] = int(one) * 200 + number[number > 0]
    yield "ids", ids
    yield "colours", colours[ids]
    yield "instances, 16 bits", instances
    yield "instances, 8 bits", (instances % 251).astype(np.uint8)
    for step in (2, 4, 8):
        yield f"ids, 1/{step} of the side", ids[::step, ::step]
    yield "ids with outlines", np.where(cv2.morphologyEx(ids, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8)), 255, ids)
    yield "mask 0 and 1", (ids == ids[-1, ids.shape[1] // 2]).astype(np.uint8)
    yield "mask 0 and 255", (ids == ids[-1, ids.shape[1] // 2]).astype(np.uint8) * 255


def distances() -> Iterator[tuple[str, Pixels]]:
    """Yield scikit-image's disparity of a real stereo pair as data sets store such."""
    disparity = np.load(Path(skimage.__file__).parent / "data/motorcycle_disp.npz")["arr_0"]
    disparity = np.where(np.isfinite(disparity), disparity, 0)
    is_known = disparity > 0
    scaled = (disparity * 256).astype(np.uint16)
    depth = np.minimum(193.001 * 994.978 / np.maximum(disparity, 3), 65535).astype(np.uint16)
    yield "disparity of KITTI", scaled
    yield "disparity of Cityscapes", np.where(is_known, disparity * 256 + 1, 0).astype(np.uint16)
    yield (
        "disparity at 1 pixel of 20, lidar",
        np.where(RANDOM.random(disparity.shape) < 0.05, scaled, 0).astype(np.uint16),
    )
    yield "depth in millimetres", np.where(is_known, depth, 0).astype(np.uint16)
    yield "depth without holes", depth
    yield "disparity of 8 bits", disparity.astype(np.uint8)


def as_image(pixels: Pixels) -> DecodedImage:
    """Return pixels as a PNG would hold them."""
    mode = "L" if pixels.ndim == 2 else "RGB"
    return DecodedImage(np.ascontiguousarray(pixels), None, "png", mode, 8 * pixels.itemsize, Metadata())


def images_in(folder: str) -> Iterator[Pixels]:
    """Yield the pixels of the images below a folder that can be decoded."""
    for entry in Listing(folder):
        try:
            yield decode((Path(folder) / entry.path).read_bytes()).pixels
        except ImageError:
            continue


def count(title: str, kinds: Iterator[tuple[str, Pixels]], is_wrong: Any) -> None:
    """Print for each kind how many there were, and how many the rule gets wrong."""
    total: Counter[str] = Counter()
    wrong: Counter[str] = Counter()
    for kind, pixels in kinds:
        total[kind] += 1
        wrong[kind] += is_wrong(ids_in(as_image(pixels)))
    print(f"\n{title}")
    for kind, number in total.items():
        print(f"  {kind:36} {wrong[kind]:5} of {number}")


def milliseconds(call: Any, argument: Any) -> float:
    """Return the median time of a call."""
    times = []
    for _ in range(5):
        started = time.perf_counter()
        call(argument)
        times.append((time.perf_counter() - started) * 1000)
    return median(times)


def cost(photographs: Iterator[Pixels]) -> None:
    """Print what the rule costs for some photographs as grey PNGs, against the whole job on them."""
    processor = ImageProcessor(EnhanceSettings("in", "out", device="cpu"))
    checks, jobs = [], []
    for pixels in itertools.islice(photographs, COSTED):
        data = cv2.imencode(".png", np.asarray(Image.fromarray(pixels).convert("L")))[1].tobytes()
        checks.append(milliseconds(ids_in, decode(data)))
        jobs.append(milliseconds(lambda one: processor("", one), data))
    check, job = median(checks), median(jobs)
    print(f"\n{len(jobs)} grey PNGs: median {check:.3f} ms of {job:.1f} ms; the slowest check {max(checks):.1f} ms")


def main() -> None:
    """Count both errors, and measure the cost."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", required=True, help="folder of photographs")
    parser.add_argument("--maps", required=True, help="folder of label maps whose values are ids")
    parser.add_argument("--as-they-are", action="append", default=[], help="folder whose files are tried as they are")
    arguments = parser.parse_args()
    every = (kind for pixels in images_in(arguments.photographs) for kind in photographs(pixels))
    count("Photographs taken for maps", every, lambda found: found is not None)
    count("Maps missed", (kind for ids in images_in(arguments.maps) for kind in maps(ids)), lambda found: found is None)
    count("Distances missed", distances(), lambda found: found is None)
    for folder in arguments.as_they_are:
        listed: Counter[str] = Counter()
        for entry in Listing(folder):
            try:
                found = ids_in(decode((Path(folder) / entry.path).read_bytes()))
            except ImageError:
                continue
            listed["photograph" if found is None else "map of few values" if "value" in found else found] += 1
        print(f"\n{folder}: {dict(listed)}")
    cost(images_in(arguments.photographs))


if __name__ == "__main__":
    main()
