"""A storage in which packs are folders: the images of tars and Parquet files have paths of their own."""

import io
import threading
from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, cast

from sgllie.corpus.pack import Pack, is_pack, pack_of
from sgllie.corpus.parquet import ParquetImages
from sgllie.corpus.tar import Tar
from sgllie.errors import ItemError, ReadError, UsageError
from sgllie.storage import Entry, Storage
from sgllie.storage.base import LARGEST_READ, Paths

LISTED_AT_ONCE = 8
"""Packs that are listed at the same time."""
LONGEST_QUEUE = 1000
"""Files, at most, that wait for a pack before them to be listed."""
KEPT_OPEN = 16
"""Packs from which images were read last."""


class Member(Entry):
    """An image of a Parquet file, whose name does not tell that it is one, or a pack that cannot be read to its end."""


class PackedStorage:
    """A storage around another one, with all that the other one can do.

    Args:
        inner: where the packs lie.
        column: of Parquet files, that holds the images which are listed; by default the one that does.
    """

    def __init__(self, inner: Storage, column: str | None = None) -> None:
        self.inner = inner
        self._column = column
        self._lock = threading.Lock()
        self._packs: OrderedDict[tuple[str, str | None], Pack | None] = OrderedDict()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def __reduce__(self) -> tuple[Any, ...]:
        return PackedStorage, (self.inner, self._column)

    def list(self, folder: str = "", unreadable: Paths | None = None) -> Iterator[Entry]:
        """Yield all objects; in the place of a pack the images in it."""
        yield from unpacked(self.inner.list(folder, unreadable), self.inner, folder, self._column)

    def read(self, path: str) -> bytes:
        """Return the bytes of an object, or of an image in a pack."""
        image = self._image(path)
        return self.inner.read(path) if image is None else image

    def open(self, path: str) -> BinaryIO:
        """Open an object, or an image in a pack, which is read whole."""
        image = self._image(path)
        return self.inner.open(path) if image is None else io.BytesIO(image)

    def _image(self, path: str) -> bytes | None:
        """Return the bytes of an image in a pack; None for any other object."""
        place = pack_of(path)
        try:
            pack = self._opened(place, column_of(path)) if place and place != path else None
            return pack.read(path.removeprefix(f"{place}/")) if pack else None
        except ItemError as error:
            raise ReadError(str(error)) from error

    def _opened(self, path: str, column: str | None) -> Pack | None:
        """Return a pack, and keep it open for a while."""
        key = path, column
        with self._lock:
            if key not in self._packs:
                self._packs[key] = open_pack(self.inner, path, column)
            self._packs.move_to_end(key)
            while len(self._packs) > KEPT_OPEN:
                self._packs.popitem(last=False)
            return self._packs[key]


def packed(storage: Storage, column: str | None = None) -> Storage:
    """Return a storage in which packs are folders; see `PackedStorage`."""
    return cast(Storage, PackedStorage(storage, column))  # what `__getattr__` passes on is not seen by the type checker


def open_pack(storage: Storage, path: str, column: str | None = None, largest: int = LARGEST_READ) -> Pack | None:
    """Open a tar or a Parquet file.

    Args:
        storage: where it lies.
        path: of the file.
        column: of a Parquet file, that holds the images; without it the one that does.
        largest: bytes that may be read at once: of an image in a tar, or of a row group.

    Returns:
        The pack; None where there is no such file, but perhaps a folder, or the file is no pack of images.

    Raises:
        ItemError: it is damaged.
        UsageError: several columns hold images.
    """
    if storage.find(path) is None:
        return None
    if path.lower().endswith(".tar"):
        return Tar(storage.open(path), largest)
    images = ParquetImages(storage.open(path), column, largest)
    return images if images.column else None


def column_of(path: str) -> str | None:
    """Return the column of Parquet that an image lies in: `b.parquet/image/000042` -> `image`."""
    pack = pack_of(path)
    return None if pack == path else path.removeprefix(f"{pack}/").rpartition("/")[0]


def unpacked(
    entries: Iterable[Entry], storage: Storage, folder: str = "", column: str | None = None
) -> Iterator[Entry]:
    """Yield listed files in their order, and in the place of each pack the images in it.

    A file that holds no images stays as it is; a pack that is damaged follows the images before the damage.

    Args:
        entries: the files.
        storage: where they lie.
        folder: that their paths are relative to.
        column: of Parquet files, that holds images.
    """
    waiting: deque[Entry | Future[list[Entry]]] = deque()
    with ThreadPoolExecutor(LISTED_AT_ONCE) as pool:
        try:
            for entry in entries:
                if not is_pack(entry.path):
                    waiting.append(entry)
                else:
                    waiting.append(pool.submit(images_of, entry, storage, folder, column))
                yield from ready(waiting)
            while waiting:
                yield from of(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def ready(waiting: "deque[Entry | Future[list[Entry]]]") -> Iterator[Entry]:
    """Yield what is known, as long as nothing before it is not; wait only where too much is kept waiting."""
    while waiting:
        first = waiting[0]
        packs = sum(isinstance(one, Future) for one in waiting) if len(waiting) <= LONGEST_QUEUE else LONGEST_QUEUE
        if isinstance(first, Future) and not first.done() and packs <= 2 * LISTED_AT_ONCE:
            return
        yield from of(waiting.popleft())


def of(waited: "Entry | Future[list[Entry]]") -> list[Entry]:
    """Return the entries that stand for one listed file."""
    return waited.result() if isinstance(waited, Future) else [waited]


def images_of(entry: Entry, storage: Storage, folder: str, column: str | None) -> list[Entry]:
    """Return the entries that stand for a pack."""
    found: list[Entry] = []
    path = f"{folder}/{entry.path}" if folder else entry.path
    try:
        if entry.version is None:  # named by a list
            entry = entry._replace(version=getattr(storage.find(path), "version", None))
        version = entry.version
        pack = open_pack(storage, path, column)
        for image in pack.images() if pack else ():
            kind = Entry if isinstance(pack, Tar) else Member
            found.append(kind(f"{entry.path}/{image.name}", image.size, f"{version or ''}:{image.place}"))
    except (ItemError, ReadError, FileNotFoundError):
        found.append(Member(*entry))
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    return found or [entry]
