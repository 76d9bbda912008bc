"""A tar as a `Pack`: samples of WebDataset, or any others.

Everything that is no enhanced image is carried block for block as it stands in the file, headers included. Of an
enhanced image only the size and the checksum in its header change, and its name where its format does.
"""

import contextlib
import copy
import tarfile
import threading
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from pathlib import PurePosixPath
from typing import BinaryIO, NamedTuple

from sgllie.corpus.pack import Block, Content, PackedImage, Replacement, damaged
from sgllie.errors import Failure, ItemError
from sgllie.images import EXTENSIONS
from sgllie.storage.base import LARGEST_READ

CARRIED_BYTES = 8 * 2**20
"""Of a block that is carried as it is, at most."""
SIZE_FIELD, CHECKSUM_FIELD, TYPE_FIELD = slice(124, 136), slice(148, 156), slice(156, 157)
"""Of a header, in bytes (POSIX.1-1988, ustar)."""
EXTENSIONS_OF_HEADERS = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, b"x", b"g", b"X")
"""Types of headers that say something of the next one: long names, attributes of POSIX."""
MOST_EXTENSIONS, EXTENSION_BYTES = 16, 2**20
"""For one member; names and attributes have thousands of bytes, not millions."""


class Member(NamedTuple):
    """An image of a tar.

    Attributes:
        name: among the images of the pack.
        info: what its headers say.
        end: where the next member begins.
        failure: why it is not enhanced, if it is not.
    """

    name: str
    info: tarfile.TarInfo
    end: int
    failure: Failure | None


class Span(NamedTuple):
    """A part of the file: an image with its headers, or what is carried as it is."""

    start: int
    end: int
    member: Member | None


class Tar:
    """A tar that is not compressed.

    Args:
        file: opened for reading; this object's own from now on.
        largest: bytes of an image that is read; a larger one is left out.
    """

    def __init__(self, file: BinaryIO, largest: int = LARGEST_READ) -> None:
        self._file = file
        self._largest = largest
        self._lock = threading.Lock()
        self._size = file.seek(0, 2)

    def images(self) -> Iterator[PackedImage]:
        """Yield the regular members whose names are those of images."""
        for span in self._spans():
            if span.member is not None:
                info = span.member.info
                yield PackedImage(span.member.name, info.size, info.offset_data)

    def read(self, name: str) -> bytes:
        """Return the bytes of one image."""
        with self._lock:
            if name not in self._index:
                raise FileNotFoundError(name)
            start, size = self._index[name]
            return self._bytes(start, start + size)

    @cached_property
    def _index(self) -> dict[str, tuple[int, int]]:
        """Where the bytes of each image begin, and how many they are; of a damaged tar those before the damage."""
        found: dict[str, tuple[int, int]] = {}
        with contextlib.suppress(ItemError):
            for image in self.images():
                found[image.name] = image.place, image.size or 0
        return found

    def blocks(self, first: int = 0) -> Iterator[Block]:
        """Yield each image as a block, and what lies between two images as one or more."""
        for number, span in enumerate(self._spans()):
            if number < first:
                continue
            if span.member is None:
                yield Block([], span.end - span.start, partial(carried, self._bytes(span.start, span.end)))
            else:
                yield self._image_block(span.member)

    def _image_block(self, member: Member) -> Block:
        if member.info.size > self._largest:
            sentence = f"it has {member.info.size:,} bytes; at most {self._largest:,} are read at once"
            failure = member.failure or Failure("memory", sentence)
            return Block([Content(member.name, None, failure)], 0, partial(carried, b""))
        info = member.info
        end = info.offset_data + info.size
        header, data = self._bytes(info.offset, info.offset_data), self._bytes(info.offset_data, end)
        padding = self._bytes(end, member.end)
        content = Content(member.name, data, member.failure)
        return Block([content], info.size, partial(written, member, header, data, padding))

    def joined(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the parts, then the mark of the end, filled up to a whole record as tar(1) does."""
        size = 0
        for part in parts:
            size += len(part)
            yield part
        size += 2 * tarfile.BLOCKSIZE
        yield bytes(2 * tarfile.BLOCKSIZE + -size % tarfile.RECORDSIZE)

    def _bytes(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(end - start)
        if len(data) < end - start:
            raise damaged("tar", f"it is cut off at byte {self._size:,}", "truncated")
        return data

    def _spans(self) -> Iterator[Span]:
        """Yield the parts of the file in their order; ItemError behind those that are whole, if it is damaged."""
        position = end = 0
        names: dict[str, int] = {}
        try:
            for info, end in self._headers():
                name = info.name.removeprefix("./")
                if not is_image(info):
                    continue
                yield from carried_spans(position, info.offset)
                unique = unique_name(name, names)
                yield Span(info.offset, end, Member(unique, info, end, obstacle(info, name, unique)))
                position = end
        except ItemError:
            yield from carried_spans(position, end)
            raise
        yield from carried_spans(position, end)

    def _headers(self) -> Iterator[tuple[tarfile.TarInfo, int]]:
        """Yield each member and where it ends; ItemError where the tar is damaged, or its end is not marked."""
        position = 0
        try:
            self._file.seek(0)
            with tarfile.TarFile(fileobj=self._file, mode="r") as tar:
                while True:
                    self._check_extensions(position)
                    self._file.seek(position)  # others read as well
                    info = tar.next()
                    if info is None:
                        break
                    vars(tar)["members"].clear()  # it would keep them all
                    if tar.offset <= position:
                        raise damaged("tar", f"the header at byte {position:,} claims a size below zero")
                    position = tar.offset
                    if position > self._size and not is_image(info):
                        break
                    yield info, position
        except (tarfile.TarError, ValueError, OverflowError) as error:
            raise damaged("tar", self._reason(error), "corrupt" if self._size else "empty") from error
        if position > self._size:
            raise damaged("tar", f"it is cut off at byte {self._size:,}", "truncated")
        self._file.seek(position)
        mark = self._file.read(tarfile.BLOCKSIZE)
        if mark != bytes(tarfile.BLOCKSIZE):
            if len(mark) < tarfile.BLOCKSIZE:
                raise damaged("tar", f"it ends at byte {self._size:,} without the mark of an end", "truncated")
            raise damaged("tar", f"what follows byte {position:,} is no header")

    def _check_extensions(self, position: int) -> None:
        """Refuse a member whose headers `tarfile` would read into memory, or follow, without end."""
        for _ in range(MOST_EXTENSIONS):
            self._file.seek(position)
            block = self._file.read(tarfile.BLOCKSIZE)
            if block[TYPE_FIELD] not in EXTENSIONS_OF_HEADERS:
                return
            size = tarfile.nti(block[SIZE_FIELD])  # type: ignore[attr-defined]
            if not 0 <= size <= EXTENSION_BYTES:
                raise damaged("tar", f"the header at byte {position:,} claims {size:,} bytes")
            position += tarfile.BLOCKSIZE * (1 + -(-size // tarfile.BLOCKSIZE))
        raise damaged("tar", f"a member before byte {position:,} has more than {MOST_EXTENSIONS} headers")

    def _reason(self, error: Exception) -> str:
        self._file.seek(0)
        if self._file.read(2) == b"\x1f\x8b":
            return "it is compressed; unpack it with gunzip"
        return str(error)


def is_image(info: tarfile.TarInfo) -> bool:
    """Tell whether a member is an image by its name: no link, and no file with holes."""
    return info.isreg() and not info.issparse() and PurePosixPath(info.name).suffix.lower() in EXTENSIONS


def unique_name(name: str, names: dict[str, int]) -> str:
    """Return a name that is not among others: `a/b.jpg`, else `a/b#2.jpg`.

    Args:
        name: of a member.
        names: those that were returned, each with the number of the last one that was made of it; kept up to date.
    """
    stem, suffix = name.removesuffix(PurePosixPath(name).suffix), PurePosixPath(name).suffix
    number, found = names.get(name, 1), name
    while found in names:
        number += 1
        found = f"{stem}#{number}{suffix}"
    names[name], names[found] = number, 1 if found != name else number
    return found


def obstacle(info: tarfile.TarInfo, name: str, unique: str) -> Failure | None:
    """Return why a member is not enhanced, if it is not."""
    if name.startswith("/") or ".." in name.split("/"):
        return Failure("write", f"the tar would have it written outside, to {name!r}")
    if unique != name:
        return Failure("write", f"the tar holds an earlier member of the same name, {name!r}")
    return None


def carried_spans(start: int, end: int) -> Iterator[Span]:
    """Yield the spans of a part of the file that is carried as it is."""
    for begin in range(start, end, CARRIED_BYTES):
        yield Span(begin, min(begin + CARRIED_BYTES, end), None)


def carried(data: bytes, _: list[Replacement]) -> bytes:
    """Return a part of the file as it was."""
    return data


def written(member: Member, header: bytes, data: bytes, padding: bytes, replacements: list[Replacement]) -> bytes:
    """Return the bytes of one image in the new tar; none where it is left out."""
    new = replacements[0]
    if new.data is None:
        return b""
    if new.name == member.name and new.data is data:
        return header + data + padding
    if new.name == member.name and "size" not in member.info.pax_headers:
        header = with_size(header, len(new.data))
    else:
        header = header_like(member.info, header, PurePosixPath(new.name).suffix, len(new.data))
    return header + new.data + bytes(-len(new.data) % tarfile.BLOCKSIZE)


def with_size(header: bytes, size: int) -> bytes:
    """Return headers of which the last one tells another size."""
    block = bytearray(header[-tarfile.BLOCKSIZE :])
    block[SIZE_FIELD] = b"%011o\0" % size
    block[CHECKSUM_FIELD] = b" " * 8
    block[CHECKSUM_FIELD] = b"%06o\0 " % sum(block)
    return header[: -tarfile.BLOCKSIZE] + bytes(block)


def header_like(info: tarfile.TarInfo, header: bytes, suffix: str, size: int) -> bytes:
    """Return the headers of a member with another suffix and size, in the format that it has."""
    other = copy.copy(info)
    other.name = info.name.removesuffix(PurePosixPath(info.name).suffix) + suffix
    other.size = size
    other.pax_headers = {key: value for key, value in info.pax_headers.items() if key not in ("path", "size")}
    is_gnu = header[-tarfile.BLOCKSIZE :][257:265] == tarfile.GNU_MAGIC
    return other.tobuf(tarfile.GNU_FORMAT if is_gnu else tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
