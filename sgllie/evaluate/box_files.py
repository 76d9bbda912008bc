"""The files that labels and detections are read from: COCO or BDD100K JSON, or a folder of YOLO text."""

import hashlib
import json
from pathlib import PurePosixPath

from sgllie.errors import StorageError, UsageError
from sgllie.evaluate.image_sizes import ImageSizes
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.images import EXTENSIONS
from sgllie.metrics.bdd100k import read_bdd100k
from sgllie.metrics.boxes import BoxesOfImages, stem
from sgllie.metrics.coco import read_coco
from sgllie.metrics.labels import SCHEMES
from sgllie.metrics.yolo import looks_like_yolo, read_yolo
from sgllie.runs.words import EXAMPLES, ignored_note
from sgllie.storage import open_storage, read_file

NO_NAMES = (".yaml", ".yml", ".json")
"""Suffixes of files that do not hold one name in each line."""


class BoxFiles:
    """Reads boxes from what the user names.

    Args:
        settings: of the evaluation.

    Attributes:
        digest: of all that the boxes depend on.
        notes: what the user is to know of those that were not.
    """

    def __init__(self, settings: EvaluateSettings) -> None:
        self.settings = settings
        self.digest = hashlib.sha256()
        self.notes: list[str] = []

    def read(self, source: str) -> BoxesOfImages:
        """Return the boxes of a JSON file or of a folder of YOLO files; UsageError where it is neither."""
        try:
            return self._json(source) if source.endswith(".json") else self._yolo(source)
        except ValueError as error:
            raise UsageError(f"{source}: {error}") from error
        except (OSError, StorageError) as error:
            raise UsageError(f"{source} cannot be read: {error}") from error

    def _json(self, source: str) -> BoxesOfImages:
        text = read_file(source, self.settings.s3)
        self.digest.update(text)
        try:
            content = json.loads(text)
        except RecursionError as error:
            raise ValueError(f"this is no JSON of boxes: {error}") from error
        frames = content.get("frames", []) if isinstance(content, dict) else content
        if isinstance(frames, list) and frames and isinstance(frames[0], dict) and "name" in frames[0]:
            return read_bdd100k(text)
        if not isinstance(content, list):
            return read_coco(text)
        if not content:
            return {}
        labels = str(self.settings.labels)
        return read_coco(text, read_file(labels, self.settings.s3) if labels.endswith(".json") else None)

    def _yolo(self, source: str) -> BoxesOfImages:
        if self.settings.image_sizes is None:
            raise UsageError(
                f"{source} is no .json, so it must be a folder of YOLO files: --image-sizes must name the images"
            )
        names = self._class_names(source)
        images = ImageSizes(self.settings.image_sizes, self.settings.s3, self.settings.image_column)
        texts = self._texts(source, images.stems)
        if not texts:
            raise UsageError(f"{source} is neither a .json file nor a folder of YOLO .txt files")
        sizes = images({stem(name) for name in texts})
        self.digest.update(repr((names, sizes)).encode())
        return read_yolo(texts, sizes, names)

    def _texts(self, source: str, images: set[str]) -> dict[str, str]:
        """Return the texts of a folder of YOLO files.

        Besides them such folders hold lists of classes or of images, notes and archives: what no image belongs to, and
        what does not look like boxes, is passed over and counted.
        """
        storage = open_storage(source, self.settings.s3)
        texts: dict[str, str] = {}
        ignored: list[str] = []
        for entry in storage.list():
            suffix = PurePosixPath(entry.path).suffix.lower()
            if suffix != ".txt":
                ignored += [] if suffix in EXTENSIONS else [entry.path]
                continue
            data = storage.read(entry.path)
            has_image = stem(entry.path) in images
            try:
                text = data.decode("utf-8-sig")
            except UnicodeDecodeError as error:
                if has_image:
                    raise ValueError(f"{entry.path} is not text in UTF-8: {error}") from error
                text = "\0"
            if text.strip() and not has_image and not looks_like_yolo(text):
                ignored.append(entry.path)
                continue
            self.digest.update(entry.path.encode() + data)
            texts[entry.path] = text
        self.notes += [f"{source}: {note}" for note in ignored_note(len(ignored), ignored[:EXAMPLES])]
        return texts

    def _class_names(self, source: str) -> list[str]:
        classes = self.settings.classes
        if classes in SCHEMES or PurePosixPath(classes).suffix.lower() in NO_NAMES:
            raise UsageError(
                f"{source} holds YOLO files, so --classes must name a text file with the name of one class in each line"
            )
        text = read_file(classes, self.settings.s3).decode("utf-8-sig")
        names = [name.strip() for name in text.rstrip().split("\n")]
        if not all(names):
            raise UsageError(f"--classes {classes} has no name in line {names.index('') + 1}; line 1 is class 0")
        return names
