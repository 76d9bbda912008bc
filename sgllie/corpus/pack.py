"""A pack: one file that holds many images, and can be written again with other images in their places.

To the rest of the system it is a folder. Its images have paths such as `a.tar/000123.jpg` and
`b.parquet/image/000042`: the pack, and the name of the image within it.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sgllie.errors import Failure, ItemError, first_line

PACK = re.compile(r"(?:.*?\.tar|.*\.parquet)(?=/|$)", re.IGNORECASE)
"""The path of a pack at the beginning of a path: tars may hold folders of any name, and Parquet files often lie in
folders that are called so, too."""


class PackedImage(NamedTuple):
    """An image in a pack.

    Attributes:
        name: within the pack; no other image of it has the same.
        size: bytes, if they are known.
        place: what changes when it moves within the pack.
    """

    name: str
    size: int | None
    place: int


class Content(NamedTuple):
    """An image in a pack, with its bytes, or with the reason why there is none that can be enhanced."""

    name: str
    data: bytes | None
    failure: Failure | None = None


class Replacement(NamedTuple):
    """What takes the place of an image: its name in the new pack, and its bytes; None where it is left out."""

    name: str
    data: bytes | None


@dataclass(frozen=True)
class Block:
    """The part of a pack that is read and written at once.

    Attributes:
        images: in it, in their order; none, where it is carried as it is.
        size: bytes that are held for it.
        written: returns the bytes of this part of the new pack, given a replacement for each image. Where fewer are
            given, the pack ends after those.
    """

    images: list[Content]
    size: int
    written: Callable[[list[Replacement]], bytes]


class Pack(Protocol):
    """A tar or a Parquet file, opened for reading. ItemError where it is damaged, or is no such file."""

    def images(self) -> Iterator[PackedImage]:
        """Yield the images in it, without reading them."""

    def read(self, name: str) -> bytes:
        """Return the bytes of one image; FileNotFoundError where there is none of this name. Thread-safe."""

    def blocks(self, first: int = 0) -> Iterator[Block]:
        """Yield the blocks in their order, from a number on."""

    def joined(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the bytes of the new pack, given those of its blocks; one part may hold several blocks."""


def pack_of(path: str) -> str | None:
    """Return the pack that the file of a path is, or lies in, as far as names tell: `a.tar/b.jpg` -> `a.tar`."""
    found = PACK.match(path)
    return found[0] if found else None


def is_pack(path: str) -> bool:
    """Tell whether a file is a pack by its name."""
    return pack_of(path) == path


def damaged(kind: str, sentence: object, error_type: str = "corrupt") -> ItemError:
    """Return what to raise for a pack that cannot be read to its end."""
    return ItemError(error_type, f"the {kind} is damaged: {first_line(sentence)}")
