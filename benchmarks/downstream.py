"""Which images a detector sees more in after enhancement: average precision by brightness and by option.

    python benchmarks/downstream.py yolox.onnx coco_classes.txt --night FRAMES LABELS --well-lit FOLDER [...]

Two tables are printed, a column for each range of mean luma of the input. The first is about night frames with
segmentation labels, whose regions are the boxes to find (see detection.py). The second is about well-lit photographs,
darkened by three kinds of cameras (see denoise.py) by 1.5 to 6 stops: there the boxes to find are those that the same
detector is sure of in the photograph as it was. So it asks how much of what was lost in the dark comes back.

A cell is AP@50 over all boxes of people and vehicles together (classes are matched, and not averaged, since some have
few boxes). Below the first row it is the difference from the input, with the interval that holds it with 95 %
confidence (bootstrap over photographs; all darkened copies of one are drawn together).
"""

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from denoise import taken
from detection import REGION_CLASSES, Yolox, label, regions
from weights import images_in, read

from sgllie import Enhancer
from sgllie.metrics.bdd100k import bdd100k_rows
from sgllie.metrics.bootstrap import bootstrap_interval
from sgllie.metrics.boxes import Boxes, gather
from sgllie.metrics.detection import Evidence, average_precision, match

RENAMED = {"motorbike": "motorcycle"}
BINS = (0, 0.05, 0.1, 0.2, 0.35, 1)
SURE = 0.5
"""The score from which on what is found in a well-lit photograph counts as there."""
CAMERAS = ((2e-4, 5e-4, 0, 95), (8e-4, 1.2e-3, 0.7, 90), (5e-5, 2e-4, 0, 95))
"""Photon noise, sensor noise, smear and JPEG quality of a telephone, an action camera and a large sensor."""
STOPS = (0, 1.5, 3, 4.5, 6)
LIMITED = ("--strength 1", "--strength 0.5 --denoise")
LIMITS = (0.05, 0.1, 0.2)
STRENGTHS = (0.3, 0.5, 0.7, 1)


RESAMPLES = 200
APART = 100_000
"""Pixels between the boxes of one class and those of the next."""

Detector = Callable[[np.ndarray], Boxes]
Variant = Callable[[np.ndarray], np.ndarray]


class Case(NamedTuple):
    """One image: its name, the photograph it was made of, the pixels, and the boxes to find."""

    name: str
    photograph: str
    image: np.ndarray
    truth: Boxes


class Found(NamedTuple):
    """What was measured: for each image its photograph, mean luma and truth, and the boxes found by each variant."""

    photographs: np.ndarray
    luma: np.ndarray
    truth: dict[str, Boxes]
    boxes: dict[str, dict[str, Boxes]]


def night_cases(frames: Path, labels: Path) -> Iterator[Case]:
    """Yield the frames that have labels."""
    for frame in regions(argparse.Namespace(labels=labels)):
        yield Case(frame["name"], frame["name"], read(frames / frame["name"], 1280), as_one_class(frame))


def darkened_cases(folders: list[Path], detector: Detector) -> Iterator[Case]:
    """Yield well-lit photographs in which the detector is sure of something, at each loss of light."""
    for number, path in enumerate(images_in(folders)):
        photograph = read(path, 640)
        truth = gather(row for row in zip(*detector(photograph), strict=True) if row[2] >= SURE)
        # Of crops the part of the name before "__" is that of their photograph.
        for stops in STOPS if truth.classes else ():
            image = taken(photograph / 255, stops, *CAMERAS[number % len(CAMERAS)]) if stops else photograph
            yield Case(f"{path.stem} -{stops}", path.stem.split("__")[0], image, truth)


def as_one_class(frame: dict[str, Any]) -> Boxes:
    """Return the people and vehicles of a BDD100K frame as boxes of one class, each kind far from the others."""
    rows = [(corners, RENAMED.get(name, name), score, crowd) for corners, name, score, crowd in bdd100k_rows(frame)]
    return gather(
        ([edge + APART * REGION_CLASSES.index(name) for edge in corners], "object", score, crowd)
        for corners, name, score, crowd in rows
        if name in REGION_CLASSES
    )


def make_detector(model: str, classes: str) -> Detector:
    """Return what finds the people and vehicles in an image."""
    network, names = Yolox(model), Path(classes).read_text().split("\n")

    def detect(image: np.ndarray) -> Boxes:
        boxes = zip(*network(image), strict=True)
        return as_one_class({"labels": [label(names[kind], corners, score) for corners, score, kind in boxes]})

    return detect


def make_variants() -> dict[str, Variant]:
    """Return what is done to an image before detection, by the options that do it."""
    variants: dict[str, Variant] = {"input": lambda image: image}
    for strength in STRENGTHS:
        variants[f"--strength {strength}"] = Enhancer.load(device="cpu", strength=strength).__call__
    for strength in (0.5, 1):
        enhancer = Enhancer.load(device="cpu", strength=strength, denoise=True)
        variants[f"--strength {strength} --denoise"] = enhancer.__call__
    return variants


def measure(cases: Iterator[Case], detector: Detector) -> Found:
    """Detect in every image, as it is and enhanced; then put together what --only-darker-than would have left."""
    variants = make_variants()
    photographs, luma, truth = [], [], dict[str, Boxes]()
    boxes: dict[str, dict[str, Boxes]] = {name: {} for name in variants}
    for case in cases:
        photographs.append(case.photograph)
        luma.append(float(cv2.cvtColor(case.image, cv2.COLOR_RGB2GRAY).mean() / 255))
        truth[case.name] = case.truth
        for name, variant in variants.items():
            boxes[name][case.name] = detector(variant(case.image))
    for options in LIMITED:
        for limit in LIMITS:
            sides = [boxes["input" if mean >= limit else options] for mean in luma]
            mixed = {name: side[name] for name, side in zip(truth, sides, strict=True)}
            boxes[f"{options} --only-darker-than {limit}"] = mixed
    return Found(np.array(photographs), np.array(luma), truth, boxes)


def ap50(groups: np.ndarray, evidence: Evidence, weights: np.ndarray) -> np.ndarray:
    """Return AP@50 over each of B sets, in which photograph g counts weights[b, g] times; an image is of groups[i]."""
    return np.array([average_precision(evidence, one[groups]).map50 for one in weights])


def cells(found: Found, chosen: np.ndarray) -> Iterator[str]:
    """Yield the cell of each variant over the chosen images."""
    truth = {name: boxes for (name, boxes), here in zip(found.truth.items(), chosen, strict=True) if here}
    # The order of the images in the evidence is that of their names.
    order = np.argsort(list(truth))
    kinds, groups = np.unique(found.photographs[chosen][order], return_inverse=True)
    evidence = {name: match(truth, {image: boxes[image] for image in truth}) for name, boxes in found.boxes.items()}
    for name, one in evidence.items():
        values = bootstrap_interval(evidence["input"], one, partial(ap50, groups), len(kinds), resamples=RESAMPLES)
        if name == "input":
            yield f"{ap50(groups, one, np.ones((1, len(kinds)), int))[0]:.3f}"
        else:
            yield f"{values.difference:+.3f} ({values.low:+.3f} .. {values.high:+.3f})"


def print_table(found: Found) -> None:
    """Print a table in Markdown: a line for each variant, a column for each range of mean luma, and for all."""
    ranges = list(pairwise(BINS))
    masks = [(found.luma >= low) & (found.luma < high) for low, high in ranges]
    columns = [(f"{low} to {high}", mask) for (low, high), mask in zip(ranges, masks, strict=True) if mask.any()]
    columns.append(("all", np.ones(len(found.luma), bool)))
    heads = [f"{head}: {mask.sum()} images, {objects(found, mask)} boxes" for head, mask in columns]
    print("\n| | " + " | ".join(heads) + " |\n|" + " --- |" * (len(heads) + 1))
    for name, *line in zip(found.boxes, *(cells(found, mask) for _, mask in columns), strict=True):
        print(f"| {name} | " + " | ".join(line) + " |", flush=True)


def objects(found: Found, chosen: np.ndarray) -> int:
    """Count the boxes to find in the chosen images."""
    return sum(len(boxes.classes) for boxes, here in zip(found.truth.values(), chosen, strict=True) if here)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("classes")
    parser.add_argument("--night", nargs=2, type=Path, metavar=("FRAMES", "LABELS"))
    parser.add_argument("--well-lit", nargs="+", type=Path, default=[])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detector = make_detector(options.model, options.classes)
    if options.night:
        print_table(measure(night_cases(*options.night), detector))
    if options.well_lit:
        print_table(measure(darkened_cases(options.well_lit, detector), detector))


if __name__ == "__main__":
    main()
