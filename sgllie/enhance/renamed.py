"""Whether other files of a dataset name images that are written under new names."""

import re
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import PurePosixPath

from sgllie.errors import StorageError
from sgllie.images import EXTENSIONS
from sgllie.runs.words import examples, plural
from sgllie.storage import Entry, Storage

TEXTS = {".json", ".jsonl", ".txt", ".csv", ".xml", ".yaml", ".yml", ".lst"}
IMAGES, FILES, BYTES = 1000, 20, 2**20
"""What is looked at, at most: names of images, files, and bytes of each."""

NAMES = re.compile(rf"[^\s\"'/\\<>,;:=]+(?:{'|'.join(map(re.escape, EXTENSIONS))})\b", re.IGNORECASE)


def renamed_note(
    source: Storage, images: Iterable[Entry], others: Iterable[Entry], output_name: Callable[[str], str]
) -> list[str]:
    """Return a sentence on the files that name an image by a name that it will not have, if the first few hold such.

    Args:
        source: where all of them lie.
        images: of the input.
        others: the files that are carried beside them.
        output_name: path of an image -> path of its output.
    """
    paths = {entry.path: output_name(entry.path) for entry in islice(images, IMAGES)}
    new = {PurePosixPath(old).name: PurePosixPath(name).name for old, name in paths.items() if old != name}
    texts = (entry.path for entry in others if PurePosixPath(entry.path).suffix.lower() in TEXTS)
    named = [(path, old) for path in islice(texts, FILES if new else 0) for old in first_of(new, source, path)]
    if not named:
        return []
    old = named[0][1]
    files = f"{plural(len(named), 'files')} of those looked at: {examples([path for path, _ in named])}"
    return [f"Images get new names, and other files name them by the old ones ({old} becomes {new[old]}) in {files}"]


def first_of(names: dict[str, str], source: Storage, path: str) -> list[str]:
    """Return the first of some names that stands in a text, if one does and the text can be read."""
    try:
        with source.open(path) as file:
            text = file.read(BYTES).decode(errors="replace")
    except (OSError, StorageError):
        return []  # its row will say so
    return list(islice((name for name in NAMES.findall(text) if name in names), 1))
