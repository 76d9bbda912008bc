"""The level that the images of one moment share: the mean of what each of them would have by itself.

A level is the mean luma, and what the method takes of all of an image at once (for the bundled network, what its global
term sees). What is local in an image stays its own. Each image counts alike, whatever its resolution.

The level stands in the rows, and whoever goes on with a shard takes it from there: a moment of which some images are
done has the level that these were given, whatever can or cannot be read by now.
"""

import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterable

import numpy as np

from sgllie.corpus.rig import Rig
from sgllie.network.factor import Level
from sgllie.runs.schemas import Row
from sgllie.storage import Entry

Measure = Callable[[Entry], Level | None]


class Moments:
    """The moments of one shard. Thread-safe; what several threads wait for, they do together.

    Args:
        rig: tells the moment of an image; None where each is one by itself.
        items: all images of the shard.
        rows: those of images that are done.
    """

    def __init__(self, rig: Rig | None, items: Iterable[Entry] = (), rows: Iterable[Row] = ()) -> None:
        self.rig = rig
        images: dict[str, list[Entry]] = defaultdict(list)
        for item in items if rig else ():
            if moment := self.name(item):
                images[moment].append(item)
        self._moments = {name: Moment(found) for name, found in images.items()}
        self.learn(rows)

    def learn(self, rows: Iterable[Row]) -> None:
        """Take the levels of moments from the rows of further images that are done."""
        for row in rows:
            if row.get("level") and row["moment"] in self._moments:
                self._moments[row["moment"]].know(row["level"])

    def name(self, item: Entry) -> str | None:
        """Return the moment of an image, if it has one."""
        return self.rig.moment(item.path) if self.rig else None

    def level(self, item: Entry, measure: Measure) -> Level | None:
        """Return the level that an image shares; None where it shares none.

        Args:
            item: the image.
            measure: returns what one image brings to it, None where it brings nothing; what it raises ends the shard.
        """
        moment = self._moments.get(self.name(item) or "")
        return moment.level(measure) if moment else None


class Moment:
    """One of them."""

    def __init__(self, items: list[Entry]) -> None:
        self._waiting = deque(enumerate(items))
        self._found: list[Level | None] = [None] * len(items)
        self._missing = len(items)
        self._lock = threading.Lock()
        self._is_known = threading.Event()
        self._error: Exception | None = None
        self._level: Level | None = None

    def know(self, level: Level) -> None:
        """Note the level that images of the moment have been given."""
        self._level = level
        self._is_known.set()

    def level(self, measure: Measure) -> Level | None:
        """Measure what no other thread has begun to, wait for the rest, and return the mean."""
        while not self._is_known.is_set():
            try:
                place, item = self._waiting.popleft()
            except IndexError:
                self._is_known.wait()
                break
            try:
                self._found[place] = measure(item)
            except Exception as error:
                self._error = error
            with self._lock:
                self._missing -= 1
                if not self._missing:
                    self._level = mean(self._found)
                    self._is_known.set()
        if self._error:
            raise self._error
        return self._level


def mean(levels: Iterable[Level | None]) -> Level | None:
    """Return the mean of levels, in float32; None where there are none."""
    found = np.array([level for level in levels if level], np.float64)
    return [float(value) for value in found.mean(axis=0).astype(np.float32)] if len(found) else None
