"""Tell whether a detector sees more after enhancement: write its detections as BDD100K JSON.

    sgllie enhance NIGHT OUT
    python benchmarks/detection.py detect yolox.onnx coco_classes.txt NIGHT before.json
    python benchmarks/detection.py detect yolox.onnx coco_classes.txt OUT/images after.json
    sgllie evaluate --task detection --labels labels.json --predictions after.json --predictions-before before.json

The detector is any YOLOX exported to ONNX as its authors do: BGR 0..255, padded at the right and below with 114, boxes
not decoded. Without labelled boxes, `boxes LABELS labels.json` makes some from segmentation labels (Cityscapes train
ids): one box for each connected region of a class. Objects that touch become one box, so the score is lower than with
real boxes; it compares before and after all the same.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sgllie.images import EXTENSIONS, decode
from sgllie.metrics.labels import SCHEMES, decode_labels

STRIDES = (8, 16, 32)
PADDING = 114
LOWEST_SCORE, OVERLAP = 0.01, 0.65
REGION_CLASSES = ("person", "car", "truck", "bus", "motorcycle", "bicycle")
SMALLEST_REGION = 200  # pixels


class Yolox:
    """A YOLOX network in an ONNX file: H x W x 3 RGB uint8 -> boxes (N x 4), scores (N), classes (N)."""

    def __init__(self, path: str) -> None:
        self.session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        asked = self.session.get_inputs()[0]
        self.name: str = asked.name
        self.height: int = asked.shape[2]
        self.width: int = asked.shape[3]

    def __call__(self, image: NDArray[np.uint8]) -> tuple[NDArray, NDArray, NDArray]:
        """Detect objects; corners are left, top, right, bottom in pixels of the image."""
        import torch  # here, since it takes two seconds to import, and not all who import this file detect anything
        from torchvision.ops import batched_nms

        scale = min(self.height / image.shape[0], self.width / image.shape[1])
        small = cv2.resize(image, (int(image.shape[1] * scale), int(image.shape[0] * scale)))
        padded = np.full((self.height, self.width, 3), PADDING, np.float32)
        padded[: small.shape[0], : small.shape[1]] = small[..., ::-1]
        found = self.session.run(None, {self.name: padded.transpose(2, 0, 1)[None]})[0][0]
        places, strides = self.grid()
        centre, size = (found[:, :2] + places) * strides, np.exp(found[:, 2:4]) * strides
        corners = np.hstack([centre - size / 2, centre + size / 2]) / scale
        scores = found[:, 4:5] * found[:, 5:]
        rows, classes = np.nonzero(scores > LOWEST_SCORE)
        corners, scores = corners[rows].astype(np.float32), scores[rows, classes]
        kept = batched_nms(*map(torch.from_numpy, (corners, scores, classes)), OVERLAP).numpy()[:100]
        return corners[kept], scores[kept], classes[kept]

    def grid(self) -> tuple[NDArray, NDArray]:
        """Return column and row of each prediction (N x 2), and the size of its cell in pixels (N x 1)."""
        places, strides = [], []
        for stride in STRIDES:
            rows, columns = np.indices((self.height // stride, self.width // stride))
            places.append(np.stack([columns, rows], axis=-1).reshape(-1, 2))
            strides.append(np.full((rows.size, 1), stride))
        return np.vstack(places), np.vstack(strides)


def detect(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the frames of a folder of images, with what a detector finds."""
    model, names = Yolox(arguments.model), Path(arguments.classes).read_text().split("\n")
    for path in image_files(arguments.images):
        image = decode(path.read_bytes()).pixels
        boxes = zip(*model(image if image.ndim == 3 else np.dstack([image] * 3)), strict=True)
        labels = [label(names[kind], corners, score) for corners, score, kind in boxes]
        yield {"name": str(path.relative_to(arguments.images)), "labels": labels}


def regions(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield the frames of a folder of label maps (NAME_train_id.png), with one box for each region."""
    scheme = SCHEMES["cityscapes-train-ids"]
    for path in image_files(arguments.labels):
        classes = decode_labels(path.read_bytes(), scheme).classes
        labels = []
        for name in REGION_CLASSES:
            mask = (classes == scheme.names.index(name)).astype(np.uint8)
            _, _, statistics, _ = cv2.connectedComponentsWithStats(mask)
            for left, top, width, height, area in statistics[1:]:
                if area >= SMALLEST_REGION:
                    labels.append(label(name, (left, top, left + width, top + height)))
        name = str(path.relative_to(arguments.labels).with_suffix("")).removesuffix("_train_id")
        yield {"name": f"{name}.jpg", "labels": labels}


def label(name: str, corners: Any, score: float | None = None) -> dict[str, Any]:
    """Return one box as BDD100K has it, where the last pixel belongs to the box."""
    left, top, right, bottom = map(float, corners)
    box = {"x1": left, "y1": top, "x2": right - 1, "y2": bottom - 1}
    return {"category": name, "box2d": box} | ({} if score is None else {"score": float(score)})


def image_files(folder: str) -> list[Path]:
    """List the images below a folder."""
    return sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in EXTENSIONS)


def main() -> None:
    """Write what a detector finds, or the boxes of label maps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("detect")
    for name in ("model", "classes", "images", "result"):
        command.add_argument(name)
    command.set_defaults(frames=detect)
    command = commands.add_parser("boxes")
    for name in ("labels", "result"):
        command.add_argument(name)
    command.set_defaults(frames=regions)
    arguments = parser.parse_args()
    frames = list(arguments.frames(arguments))
    Path(arguments.result).write_text(json.dumps(frames))
    print(f"{len(frames)} images, {sum(len(frame['labels']) for frame in frames)} boxes in {arguments.result}")


if __name__ == "__main__":
    main()
