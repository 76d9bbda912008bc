"""Whether other files of a dataset name images in a way that no longer holds in the output."""

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


def stale_names(
    source: Storage, images: Iterable[Entry], others: Iterable[Entry], output_name: Callable[[str], str]
) -> list[str]:
    """Return sentences on the first few files that name images by old names, or by where they lie in the input.

    Args:
        source: where all of them lie.
        images: of the input.
        others: the files that are carried beside them.
        output_name: path of an image -> path of its output.
    """
    paths = {entry.path: output_name(entry.path) for entry in islice(images, IMAGES)}
    new = {PurePosixPath(old).name: PurePosixPath(name).name for old, name in paths.items() if old != name}
    inside = re.compile(rf"{re.escape(source.uri)}(?=[/\"'\s]|$)")
    renamed: dict[str, str] = {}
    absolute: list[str] = []
    for path in islice((one.path for one in others if PurePosixPath(one.path).suffix.lower() in TEXTS), FILES):
        text = beginning(source, path)
        if old := next((name for name in NAMES.findall(text if new else "") if name in new), None):
            renamed[path] = old
        if inside.search(text):
            absolute.append(path)
    notes = []
    if renamed:
        old = next(iter(renamed.values()))
        what = f"Images get new names, and other files name them by the old ones ({old} becomes {new[old]})"
        notes.append(f"{what} in {looked_at(renamed)}")
    if absolute:
        what = f"Files say that images lie in {source.uri}, where a loader that follows them finds the old ones"
        notes.append(f"{what}: {looked_at(absolute)}")
    return notes


def looked_at(paths: Iterable[str]) -> str:
    """Write how many files were found, and the first of them."""
    found = list(paths)
    return f"{plural(len(found), 'files')} of those looked at: {examples(found)}"


def beginning(source: Storage, path: str) -> str:
    """Return the beginning of a text; nothing where it cannot be read."""
    try:
        with source.open(path) as file:
            return file.read(BYTES).decode(errors="replace")
    except (OSError, StorageError):
        return ""  # its row will say so
