"""Label maps: from the bytes of a PNG, with ids, a palette or colours, to an array of class numbers."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sgllie.metrics.segmentation import IGNORE

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class LabelScheme:
    """What the values of a label map mean.

    Attributes:
        names: of the classes, in the order of their numbers.
        ids: stored value -> class, for maps of ids and palettes; values that are not in it are ignored. Empty: stored
            values are class numbers already.
        colours: RGB -> class, for colour maps; colours that are not in it are ignored.
    """

    names: tuple[str, ...]
    ids: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[Colour, int] = field(default_factory=dict)


# name, label id, colour; the order is that of the train ids. Source: the Cityscapes label definition.
_CITYSCAPES: tuple[tuple[str, int, Colour], ...] = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_NAMES = tuple(name for name, _, _ in _CITYSCAPES)
_COLOURS = {colour: number for number, (_, _, colour) in enumerate(_CITYSCAPES)}

SCHEMES = {
    "cityscapes-train-ids": LabelScheme(_NAMES, colours=_COLOURS),
    "cityscapes-ids": LabelScheme(
        _NAMES, {label: number for number, (_, label, _) in enumerate(_CITYSCAPES)}, _COLOURS
    ),
}


def decode_labels(data: bytes, scheme: LabelScheme) -> NDArray[np.int64]:
    """Bytes of a label image -> H x W class numbers, `IGNORE` where the scheme has none.

    Grey images (8 or 16 bit) and palette images hold ids (a palette's colours are for the eye, its indices are the
    labels); RGB and RGBA images hold colours.

    Raises:
        ValueError: not an image, or a colour map of which the scheme knows no colour.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            if image.mode in ("RGB", "RGBA"):
                return colours_to_classes(np.asarray(image.convert("RGB")), scheme)
            stored = np.asarray(image)
    except OSError as error:
        raise ValueError(f"a label map cannot be read: {error}") from error
    if stored.ndim != 2 or not np.issubdtype(stored.dtype, np.integer):
        raise ValueError("a label map must hold ids, a palette or RGB colours, one value for each pixel")
    return ids_to_classes(stored.astype(np.int64), scheme.ids) if scheme.ids else stored.astype(np.int64)


def ids_to_classes(stored: NDArray[np.int64], ids: Mapping[int, int]) -> NDArray[np.int64]:
    """H x W stored values -> class numbers, by a table."""
    table = np.full(max(stored.max(), *ids) + 1, IGNORE)
    table[list(ids)] = list(ids.values())
    return table[stored]


def colours_to_classes(stored: NDArray[np.uint8], scheme: LabelScheme) -> NDArray[np.int64]:
    """H x W x 3 colours -> class numbers."""
    if not scheme.colours:
        raise ValueError("a label map holds colours, but this label scheme lists none: give the colour of each class")
    packed = stored.astype(np.int64) @ np.array([65536, 256, 1])
    classes = np.full(packed.shape, IGNORE)
    for (red, green, blue), number in scheme.colours.items():
        classes[packed == (red * 256 + green) * 256 + blue] = number
    # An all-black map is one that nobody has labelled, as Cityscapes' test set has them.
    if (classes == IGNORE).all() and packed.any():
        sample = tuple(int(value) for value in stored[0, 0])
        raise ValueError(f"a label map has none of the colours of this label scheme (its first pixel is {sample})")
    return classes
