"""Label maps: from the bytes of a file with ids, a palette or colours to an array of class numbers."""

import struct
from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from sgllie.errors import ImageError
from sgllie.images import tiff_layout
from sgllie.images.pillow import open_image
from sgllie.metrics.segmentation import IGNORE

Colour = tuple[int, int, int]

FORMATS = ("PNG", "BMP", "TIFF")
"""What label maps are read from. Pillow knows many more, of which some change colours and some run other programs."""
LOSSY = ("jpeg", "tiff_jpeg", "webp")
"""Compressions of a TIFF that change colours."""
HIGHEST_ID = 65535
"""Of a label scheme."""
UNKNOWN = -1


@dataclass(frozen=True)
class LabelScheme:
    """What the values of a label map mean.

    Attributes:
        names: of the classes, in the order of their numbers.
        ids: stored value -> class, for maps of ids and palettes. Empty: stored values are class numbers already.
        colours: RGB -> class, for colour maps.
        void_ids: stored values that belong to no class on purpose; besides `IGNORE`, which never does unless listed.
        void_colours: the same of colours; besides black.
    """

    names: tuple[str, ...]
    ids: Mapping[int, int] = field(default_factory=dict)
    colours: Mapping[Colour, int] = field(default_factory=dict)
    void_ids: Set[int] = frozenset()
    void_colours: Set[Colour] = frozenset()


class LabelMap(NamedTuple):
    """A label map that was read.

    Attributes:
        classes: H x W int64 class numbers, `IGNORE` where the scheme has no class. Without a table of ids, values that
            are no class number are kept.
        unknown: share of the pixels (0..1) whose value belongs neither to a class nor to what is void on purpose.
        example: one such value in words, None where there is none.
    """

    classes: NDArray[np.int64]
    unknown: float
    example: str | None


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
# Those that are labelled, but not evaluated: dynamic, ground, parking, rail track, guard rail, bridge, tunnel, caravan,
# trailer; what is unlabelled, the car itself and the border are black.
_VOID_COLOURS: frozenset[Colour] = frozenset(
    {
        (111, 74, 0),
        (81, 0, 81),
        (250, 170, 160),
        (230, 150, 140),
        (180, 165, 180),
        (150, 100, 100),
        (150, 120, 90),
        (0, 0, 90),
        (0, 0, 110),
    }
)
_VOID_IDS = frozenset({*range(7), 9, 10, 14, 15, 16, 18, 29, 30})
_NAMES = tuple(name for name, _, _ in _CITYSCAPES)
_COLOURS = {colour: number for number, (_, _, colour) in enumerate(_CITYSCAPES)}
_IDS = {label: number for number, (_, label, _) in enumerate(_CITYSCAPES)}

SCHEMES = {
    "cityscapes-train-ids": LabelScheme(_NAMES, colours=_COLOURS, void_colours=_VOID_COLOURS),
    "cityscapes-ids": LabelScheme(_NAMES, _IDS, _COLOURS, _VOID_IDS, _VOID_COLOURS),
}


def decode_labels(data: bytes, scheme: LabelScheme, max_pixels: int | None = None) -> LabelMap:
    """Decode a label map, upright as its EXIF says.

    Grey images (up to 32 bits) hold ids, RGB and RGBA images colours. The indices of a palette are ids, and its colours
    for the eye, unless all that are used are colours of the scheme: programs that save colours put them in any order.

    Args:
        data: a PNG, BMP or TIFF; formats that change colours are refused.
        scheme: what its values mean.
        max_pixels: larger maps are refused before they are decoded.

    Raises:
        ImageError: `too_large`, `multi_frame`, or a TIFF whose tags claim what makes no sense.
        ValueError: not such a file, or a colour map of which the scheme knows no colour.
    """
    stored = read_map(data, scheme, max_pixels)
    return colours_to_classes(stored, scheme) if stored.ndim == 3 else ids_to_classes(stored.astype(np.int64), scheme)


def read_map(data: bytes, scheme: LabelScheme, max_pixels: int | None) -> NDArray:
    """Return the values of a label map: H x W x 3 uint8 of colours that the scheme knows, otherwise H x W integers."""
    if data[:2] == b"\xff\xd8":
        raise ValueError("a label map is stored as JPEG, which changes its colours and ids; store it as PNG")
    try:
        if data[:2] in (b"II", b"MM"):
            tiff_layout.check_claims(data)
        with open_image(data, FORMATS) as image:
            refuse_strange(image, max_pixels)
            upright = ImageOps.exif_transpose(image)
            if image.mode in ("RGB", "RGBA") or is_of_colours(image, scheme):
                return np.asarray(upright.convert("RGB"))
            stored = np.asarray(upright)
    except UnidentifiedImageError as error:
        raise ValueError("a label map cannot be read: it is not a PNG, BMP or TIFF; store it as PNG") from error
    except (OSError, SyntaxError, struct.error) as error:
        raise ValueError(f"a label map cannot be read: {error}") from error
    if stored.ndim != 2 or not np.issubdtype(stored.dtype, np.integer):
        raise ValueError("a label map must hold ids, a palette or RGB colours, one value for each pixel")
    return stored


def is_of_colours(image: Image.Image, scheme: LabelScheme) -> bool:
    """Tell whether all colours that a palette image uses are of the scheme, some of them of its classes."""
    if image.mode != "P":
        return False
    counted = image.convert("RGB").getcolors(256) or []
    used = {colour for _, colour in counted if isinstance(colour, tuple)}
    known = {(0, 0, 0), *scheme.void_colours, *scheme.colours}
    return used <= known and not used.isdisjoint(scheme.colours)


def refuse_strange(image: Image.Image, max_pixels: int | None) -> None:
    """Raise for a file that is opened, but not decoded, where its pixels are too many or not those of one label map."""
    width, height = image.size
    if max_pixels is not None and width * height > max_pixels:
        sentence = f"a label map has {width} x {height} pixels; at most {max_pixels} are allowed"
        raise ImageError("too_large", sentence)
    if image.info.get("compression") in LOSSY:
        raise ValueError("a label map is compressed with loss, which changes its colours and ids; store it as PNG")
    if getattr(image, "is_animated", False):  # to count frames would walk through all of them
        raise ImageError("multi_frame", "a label map holds several images; store each in a file of its own")


def ids_to_classes(stored: NDArray[np.int64], scheme: LabelScheme) -> LabelMap:
    """Turn H x W stored values into class numbers, by a table of the ids that the scheme has."""
    void = scheme.void_ids | {IGNORE}
    ids = dict.fromkeys(void, IGNORE) | dict(scheme.ids or enumerate(range(len(scheme.names))))
    table = np.full(max(ids) + 2, UNKNOWN)
    table[list(ids)] = list(ids.values())
    beyond = len(table) - 1  # where ids that the table does not reach are sent, however high
    classes = table[np.where((stored < 0) | (stored > beyond), beyond, stored)]
    unknown = classes == UNKNOWN
    example = f"the id {stored[unknown][0]}" if unknown.any() else None
    classes[unknown] = IGNORE if scheme.ids else stored[unknown]
    return LabelMap(classes, float(unknown.mean()), example)


def colours_to_classes(stored: NDArray[np.uint8], scheme: LabelScheme) -> LabelMap:
    """Turn H x W x 3 colours into class numbers."""
    if not scheme.colours:
        raise ValueError("a label map holds colours, but this label scheme lists none: give the colour of each class")
    red, green, blue = cv2.split(stored)
    packed = cv2.merge([blue, green, red, np.zeros_like(red)]).view("<i4")[..., 0]
    classes = np.full(packed.shape, UNKNOWN)
    void = dict.fromkeys({(0, 0, 0), *scheme.void_colours}, IGNORE)
    for colour, number in (void | dict(scheme.colours)).items():
        classes[packed == int.from_bytes(colour)] = number
    unknown = classes == UNKNOWN
    sample = tuple(stored[unknown][0].tolist()) if unknown.any() else None
    if unknown.all():
        raise ValueError(f"a label map has none of the colours of this label scheme (its first pixel is {sample})")
    classes[unknown] = IGNORE
    return LabelMap(classes, float(unknown.mean()), f"the colour {sample}" if sample else None)
