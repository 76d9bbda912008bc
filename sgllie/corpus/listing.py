"""Which files an input names: a folder, an `s3://` prefix, a glob, one file, a list of paths, or an S3 Inventory."""

import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path, PurePosixPath

from fsspec.utils import glob_translate

from sgllie.corpus.inventory import Inventory, is_inventory
from sgllie.corpus.labels import is_map_by_name
from sgllie.corpus.pack import is_pack, pack_of
from sgllie.corpus.packed import Member, open_pack, unpacked
from sgllie.corpus.path_list import LIST_SUFFIXES, listed_paths, root_of_list
from sgllie.corpus.patterns import Patterns, has_wildcards
from sgllie.errors import ItemError, StorageError, UsageError
from sgllie.images import EXTENSIONS
from sgllie.images.formats import UNREAD
from sgllie.storage import SCRATCH, Entry, S3Options, open_storage, split_uri

FOREIGN = {"__MACOSX", ".AppleDouble", "@eaDir", SCRATCH}
"""Folders that macOS, a file server (Netatalk, Synology) or a run that is at work makes beside the images."""
COMPRESSED_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
EXAMPLES = 20
"""How many of the files that are left out are remembered by name."""


class Noted:
    """Files that are counted, of which the first few are remembered by name."""

    def __init__(self) -> None:
        self.count = self.size = 0
        self.examples: list[str] = []

    def add(self, path: str, size: int | None = None) -> None:
        """Count one file, and its bytes if they are known."""
        self.count += 1
        self.size += size or 0
        if self.count <= EXAMPLES:
            self.examples.append(path)


class Listing:
    """The images below `root`, found anew by each iteration, in a fixed order and never all in memory.

    A folder, prefix or glob yields the files that are images by their names; what a list or the input itself names is
    tried whatever its suffix. Tars, and Parquet files with a column of images, are folders of images.

    Args:
        source: what the user named as input.
        s3: how to reach S3.
        exclude: a folder or prefix whose files are none of the input (the output, where it lies below the input).
        extensions: the suffixes by which files are told, in lower case; packs hold images alone.
        image_column: of Parquet files, that holds the images; by default it is found by what it holds.
        left_out: what of the paths below the root is none of the input.
        included: which of them are photographs whatever their names say.
        photographs_only: whether images that are label maps by their names are left out.

    Attributes:
        root: the folder or prefix to which all paths are relative.

    What the last iteration has met and not yielded:
        others: files that are no images by their name, if they are carried.
        ignored: the same if they are not, and what macOS or a run that is at work has put there.
        unread: those of both that look like pictures by their name, in formats that are not read.
        excluded: files that a pattern leaves out.
        label_maps: images that are label maps by their names.
        unreadable: the folders that may not be listed, and pipes, sockets and devices.
    """

    def __init__(
        self,
        source: str,
        s3: S3Options | None = None,
        exclude: str | None = None,
        extensions: Collection[str] = EXTENSIONS,
        *,
        image_column: str | None = None,
        left_out: Patterns | None = None,
        included: Patterns | None = None,
        photographs_only: bool = False,
    ) -> None:
        self.source = source
        self.image_column = image_column
        self.extensions = extensions
        self.s3 = s3
        self.exclude = exclude
        self.left_out, self.included = left_out or Patterns(), included or Patterns()
        self.photographs_only = photographs_only
        self._forget()
        self.root, self._kind = self._resolve()

    def _resolve(self) -> tuple[str, str]:
        """Return the root, and how entries below it are found: tree, file, glob, list or inventory."""
        if is_inventory(self.source):
            return Inventory(self.source, self.s3).root, "inventory"
        is_local = "://" not in self.source
        if is_local and Path(self.source).is_dir():
            return str(Path(self.source).absolute()), "tree"
        if self.source.lower().endswith(COMPRESSED_TARS):
            raise UsageError(f"input {self.source} is a compressed tar, of which no part can be read alone; unpack it")
        suffix = PurePosixPath(self.source).suffix.lower()
        is_glob = has_wildcards(self.source) and not self._exists_literally()
        if not is_glob and self._holds_images():
            return split_uri(self.source)[0], "file"
        if suffix in LIST_SUFFIXES and not (is_glob and is_pack(self.source)):
            return root_of_list(self.source, self.s3), "list"
        if suffix in self.extensions and not is_glob:
            return split_uri(self.source)[0], "file"
        if is_glob:
            fixed = itertools.takewhile(lambda part: not has_wildcards(part), self.source.split("/")[:-1])
            return "/".join(fixed) or ("/" if self.source.startswith("/") else "."), "glob"
        if is_local and Path(self.source).exists():
            known = ", ".join(sorted(self.extensions))
            raise UsageError(f"input {self.source} is not known by its suffix, which must be one of {known}")
        if is_local:
            raise UsageError(f"input {self.source} does not exist")
        return self.source.rstrip("/"), "tree"

    def _holds_images(self) -> bool:
        """Tell whether the source is a pack of images: a tar, or a Parquet file that is no list."""
        if not is_pack(self.source) or self.extensions is not EXTENSIONS:
            return False
        folder, name = split_uri(self.source)
        try:
            pack = open_pack(open_storage(folder, self.s3), name, self.image_column)
        except ItemError as error:
            if error.error_type == "unsupported":
                raise UsageError(f"input {self.source} cannot be read: {error}") from error
            return self.source.lower().endswith(".tar")  # whose rows say what is wrong
        except (StorageError, OSError) as error:
            raise UsageError(f"input {self.source} cannot be read: {error}") from error
        if pack is None and self.image_column and name.lower().endswith(".parquet"):
            raise UsageError(f"input {self.source} has no column of images that is called {self.image_column}")
        return pack is not None

    def _exists_literally(self) -> bool:
        """Tell whether there is a file, an object or a prefix whose name holds the wildcards themselves."""
        if "://" not in self.source:
            return Path(self.source).exists()
        folder, name = split_uri(self.source.rstrip("/"))
        try:
            below = open_storage(self.source.rstrip("/"), self.s3).list()
            return next(below, None) is not None or open_storage(folder, self.s3).exists(name)
        except StorageError:
            return False  # whoever lists it says what is wrong

    def _forget(self) -> None:
        """Begin to count anew."""
        self.ignored, self.excluded, self.label_maps, self.others = Noted(), Noted(), Noted(), Noted()
        self.unread = Noted()
        self.unreadable: list[str] = []

    def __iter__(self) -> Iterator[Entry]:
        return self.files(None)

    def files(self, carry: Callable[[Entry], None] | None) -> Iterator[Entry]:
        """Yield the images.

        Args:
            carry: told of each file that is no image by its name, on the way; without it they are ignored.
        """
        self._forget()
        for entry in self._entries():
            path = entry.path
            if isinstance(entry, Member) or self._is_named(path) or self._is_image(path):
                is_map = is_map_by_name(path, self.included)
                if is_map:
                    self.label_maps.add(path, entry.size)
                if not (is_map and self.photographs_only):
                    yield entry
                continue
            if PurePosixPath(path).suffix.lower() in UNREAD:
                self.unread.add(path)
            if carry is None:
                self.ignored.add(path)
            else:
                self.others.add(path, entry.size)
                carry(entry)

    @property
    def is_list(self) -> bool:
        """Tell whether the input is a list of paths."""
        return self._kind == "list"

    def listed(self) -> list[str]:
        """Return the paths of a list below the root, in its order."""
        return [relative_to(path, self.root) for path in listed_paths(self.source, self.s3)]

    def _is_image(self, path: str) -> bool:
        """Tell whether a file is an image by its name."""
        return PurePosixPath(path).suffix.lower() in self.extensions

    def _is_named(self, path: str) -> bool:
        """Tell whether the user has named a file: itself, and not a pack that it lies in."""
        return self._kind in ("list", "file") and pack_of(path) is None

    def _entries(self) -> Iterator[Entry]:
        """Yield the files of the input, and in the place of packs what is in them."""
        files = self._wanted(self._files())
        if self.extensions is EXTENSIONS:
            storage = open_storage(self.root, self.s3)
            files = self._wanted(unpacked(files, storage, column=self.image_column))
        return files

    def _wanted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield what belongs to the input by its path, and note the rest."""
        for entry in entries:
            path = entry.path
            if not is_utf8(path):
                self.ignored.add(f"{os.fsencode(path)!r} (its name is not UTF-8)")
            elif path in self.left_out:
                self.excluded.add(path)
            elif is_foreign(path) and not self._is_named(path):
                self.ignored.add(path)
            else:
                yield entry

    def _files(self) -> Iterator[Entry]:
        if self._kind == "list":
            yield from (Entry(path, None, None) for path in self.listed())
        elif self._kind == "inventory":
            yield from filter(self._below(), Inventory(self.source, self.s3))
        elif self._kind == "file":
            folder, name = split_uri(self.source)
            yield open_storage(folder, self.s3).find(name) or Entry(name, None, None)
        else:
            yield from filter(self._below(), open_storage(self.root, self.s3).list(unreadable=self.unreadable))

    def _below(self) -> "Wanted":
        pattern = None
        if self._kind == "glob":
            below = self.source.removeprefix(self.root if self.root != "." else "").lstrip("/")
            pattern = re.compile(glob_translate(below))
        return Wanted(pattern, self.root, self.exclude)


class Wanted:
    """Tells whether a listed file belongs to the input.

    Args:
        pattern: of the paths of a glob.
        root: of the listing.
        exclude: a folder or prefix whose files are none of the input, whatever links to folders lead into it; a link
            to one of its files is a file of the input. Where the root itself lies in it, nothing is left out.
    """

    def __init__(self, pattern: re.Pattern[str] | None, root: str, exclude: str | None) -> None:
        self.pattern = pattern
        self.root = root
        self._real = lru_cache(1)(os.path.realpath)  # of the folder at hand
        self._excluded = f"{exclude.rstrip('/')}/" if exclude else ""
        if exclude and "://" not in exclude:
            self._excluded = os.path.join(os.path.realpath(exclude), "")
        if exclude and self._true(".").startswith(self._excluded):
            self._excluded = ""

    def __call__(self, entry: Entry) -> bool:
        """Decide by the path alone."""
        if self._excluded and self._true(entry.path).startswith(self._excluded):
            return False
        return self.pattern is None or bool(self.pattern.match(entry.path))

    def _true(self, path: str) -> str:
        """Return the absolute path of a file, its folder with all links followed, or its uri."""
        if "://" in self.root:
            return f"{self.root.rstrip('/')}/{path}"
        folder, name = os.path.split(os.path.join(self.root, path))
        return os.path.join(self._real(folder), name)


def is_foreign(path: str) -> bool:
    """Tell whether macOS, a file server, or a run that is at work has put a file there."""
    *folders, name = path.split("/")
    return name.startswith("._") or not FOREIGN.isdisjoint(folders)


def is_pattern(source: str) -> bool:
    """Tell whether a local path or a url is a glob; a file whose name holds a bracket is none."""
    return has_wildcards(source) and ("://" in source or not Path(source).exists())


def is_utf8(text: str) -> bool:
    """Tell whether a file name can be stored as text (Linux allows any bytes)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def relative_to(path: str, root: str) -> str:
    """Return a path below a root: `root/a/b` -> `a/b`."""
    absolute = root if "://" in root else str(Path(root).absolute())
    return path.removeprefix(absolute.rstrip("/") + "/")
