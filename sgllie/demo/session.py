"""One person's files on the page, from the drop to the moment the page is closed."""

import secrets
import shutil
import threading
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from sgllie.demo.choice import Choice
from sgllie.demo.item import Item, refusal
from sgllie.demo.preview import Preview, Side, full_method, make_preview
from sgllie.demo.settings import DemoSettings
from sgllie.demo.stills import Stills
from sgllie.errors import SgllieError, failure_of

KEPT_PREVIEWS = 3
"""Previews that are ready at the same time; the largest has 15 MB."""
KEPT_PICTURES = 9
"""Pictures for the browser: those it shows, and those that it may be fetching still."""
ARCHIVE = "bright.zip"


@dataclass
class Shown:
    """A preview, and what of it does not depend on the strength.

    Attributes:
        preview: the two pictures.
        before: the left one, encoded and measured.
        niqe: of the left one; None where it cannot be measured, or was not yet.
    """

    preview: Preview
    before: Side
    niqe: float | None = None


class Session:
    """The files that one person has dropped, in a folder of their own. Its methods may be called from any thread.

    Args:
        folder: is made, and removed with all that is in it.
        stills: of all tabs.

    Attributes:
        items: the files, in the order in which they were dropped.
        refused: a sentence for each of the last drop that was not taken.
        turns: how often the controls have changed.
        removed: whether the tab is closed, or its files were removed; what is at work still comes to nothing.
    """

    def __init__(self, folder: Path, settings: DemoSettings, stills: Stills) -> None:
        self.folder, self.settings, self.stills = folder, settings, stills
        self.items: list[Item] = []
        self.refused: list[str] = []
        self.turns = 0
        self.removed = False
        self._shown: OrderedDict[tuple[Item, Choice], Shown] = OrderedDict()
        self._pictures: list[Path] = []
        self._made: Path | None = None
        self._uploads: list[tuple[Path, int]] = []
        self._lock = threading.RLock()
        folder.mkdir(parents=True)

    def take(self, dropped: Iterable[Path], *, uploaded: bool = False) -> list[str]:
        """Take files over; return a sentence for each that is refused.

        Args:
            dropped: the files.
            uploaded: whether they are there for this page only, and are to go with the session.
        """
        paths, refused = list(dropped), []
        with self._lock:
            if uploaded:
                self._uploads += [(path, path.stat().st_ino) for path in paths]
            if self.removed:
                self.remove()
                return []
            for path in paths:
                sentence = refusal(path.name)
                if sentence is None and len(self.items) >= self.settings.max_files:
                    sentence = f"{path.name}: at most {self.settings.max_files} files are taken at a time (--max-files)"
                if sentence:
                    refused.append(sentence)
                    continue
                place = self.folder / f"{len(self.items)}{path.suffix.lower()}"
                take_over(path, place)
                self.items.append(Item(self._free_name(path.name), place))
        return refused

    def find(self, name: str | None) -> Item | None:
        """Return the file of this name, if there is one."""
        return next((item for item in self.items if item.name == name), None)

    def shown(self, item: Item, choice: Choice) -> "Shown":
        """Return what a choice makes of a file, from memory where it was shown lately.

        Raises:
            ItemError: it cannot be enhanced, or is beyond a limit.
            UsageError: weights and method do not fit.
        """
        in_full = choice.in_full
        key = item, in_full
        with self._lock:
            if key not in self._shown:
                # Whoever moves a slider is not kept waiting for libraries: the method is made before the file is read.
                method = full_method(in_full)
                preview = make_preview(self.stills[item], method)
                self._shown[key] = Shown(preview, preview.side(preview.before))
            self._shown.move_to_end(key)
            if len(self._shown) > KEPT_PREVIEWS:
                self._shown.popitem(last=False)
            return self._shown[key]

    def picture(self, data: bytes) -> str:
        """Write a JPEG for the browser, under a name that it has not seen yet; return the path."""
        with self._lock:
            path = self.folder / f"{secrets.token_hex(8)}.jpg"
            path.write_bytes(data)
            self._pictures.append(path)
            while len(self._pictures) > KEPT_PICTURES:
                self._pictures.pop(0).unlink(missing_ok=True)
            return str(path)

    def enhance_all(self, choice: Choice) -> tuple[Path | None, list[str]]:
        """Enhance all files at their full size.

        Returns:
            The output, or an archive where there are several files, or None where there is nothing in it; and a
            sentence for each file that is left out.
        """
        items, refused = list(self.items), []
        with TemporaryDirectory(prefix="sgllie-") as scratch, ExitStack() as opened:
            target = Path(scratch) / (items[0].output if len(items) == 1 else ARCHIVE)
            archive = opened.enter_context(zipfile.ZipFile(target, "w")) if len(items) > 1 else None
            for item in items:
                try:
                    data = item.enhance(choice, self.settings)
                except Exception as error:
                    refused.append(sentence_of(error, item))
                    continue
                if archive:
                    archive.writestr(item.output, data)  # stored: images and videos are compressed already
                else:
                    target.write_bytes(data)
            opened.close()
            return self._offer(target) if len(refused) < len(items) else None, refused

    def _offer(self, made: Path) -> Path | None:
        """Put what was made in the place of what was made before; None where the session is removed by now."""
        with self._lock:
            if self.removed:
                return None
            if self._made:
                shutil.rmtree(self._made, ignore_errors=True)
            self._made = self.folder / secrets.token_hex(8)
            self._made.mkdir()
            return Path(shutil.move(made, self._made / made.name))

    def remove(self) -> None:
        """Remove all files, and the uploads that they came from; what comes later goes at once.

        Gradio names an upload by its content: where somebody else has uploaded the same since, it is theirs.
        """
        with self._lock:
            self.removed = True
            self.stills.forget(self.items)
            shutil.rmtree(self.folder, ignore_errors=True)
            for path, number in self._uploads:
                with suppress(OSError):
                    if path.stat().st_ino == number:
                        path.unlink()
                        path.parent.rmdir()

    def _free_name(self, name: str) -> str:
        """Return the name of a file, with a number where the output of another one would have the same."""
        path, taken = PurePosixPath(name), {item.output.casefold() for item in self.items}
        number = 1
        while Item(name, self.folder).output.casefold() in taken:
            number += 1
            name = f"{path.stem} ({number}){path.suffix}"
        return name


class Sessions:
    """All sessions of a page, by the name that the browser's tab has.

    Args:
        folder: in which each session has its own.
    """

    def __init__(self, folder: Path, settings: DemoSettings) -> None:
        self.folder, self.settings, self.stills = folder, settings, Stills(settings)
        self._open: dict[str, Session] = {}
        self._lock = threading.Lock()

    def __getitem__(self, tab: str) -> Session:
        """Return the session of a tab; a new one where it has none."""
        with self._lock:
            if tab not in self._open:
                # What the browser is sent has this in its address, so nobody can guess another's.
                self._open[tab] = Session(self.folder / secrets.token_urlsafe(16), self.settings, self.stills)
            return self._open[tab]

    def close(self, tab: str) -> None:
        """Remove all that a tab has left."""
        with self._lock:
            session = self._open.pop(tab, None)
        if session:
            session.remove()


def take_over(source: Path, place: Path) -> None:
    """Let a file be in a second place, without using its space twice where that is possible."""
    try:
        place.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, place)


def sentence_of(error: Exception, item: Item) -> str:
    """Return what the page says about a file that cannot be enhanced."""
    if isinstance(error, SgllieError):
        return f"{item.name}: {error}"
    return f"{item.name}: {failure_of(error, 'clip' if item.is_clip else 'photograph').error}"
