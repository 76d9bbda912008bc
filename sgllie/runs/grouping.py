"""The images of one moment, put beside each other before a listing is cut into shards."""

from array import array
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from sgllie.corpus.pack import pack_of
from sgllie.corpus.rig import Rig
from sgllie.corpus.spool import Spool
from sgllie.errors import UsageError
from sgllie.runs.plan import name_hash
from sgllie.runs.words import plural
from sgllie.storage import Entry

MOST_IMAGES = 1000
"""Of one moment: more are no rig, but a pattern whose groups do not name the moment."""


class Grouping:
    """The moments of a listing, watched as it streams by: 24 bytes are kept of each image."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.alone = 0
        self.images = 0

    def together(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        """Yield the entries of one moment one after another, where the first one of them stands.

        Those of a tar or Parquet file keep their order, in which it will be written.

        Raises:
            UsageError: a moment has too many images, or lies in several tars or Parquet files; or no image has one.
        """
        bonds, moments, packs = array("Q"), array("Q"), array("Q")
        with Spool() as spool:
            for entry in entries:
                moment, pack = self.rig.moment(entry.path), pack_of(entry.path) or ""
                self.images += 1
                self.alone += moment is None
                if moment is not None:
                    moments.append(name_hash(moment))
                    packs.append(name_hash(pack))
                bonds.append(name_hash(pack or (entry.path if moment is None else f"{moment}/")))  # no file ends so
                spool.add(entry)
            if self.images and self.images == self.alone:
                raise UsageError(
                    f"--rig {self.rig.pattern} matches none of the paths, such as {next(iter(spool)).path}"
                )
            self._refuse(np.array(moments, np.uint64), np.array(packs, np.uint64), spool)
            _, firsts, places = np.unique(np.array(bonds, np.uint64), return_index=True, return_inverse=True)
            yield from spool.in_order(np.argsort(firsts[places], kind="stable"))

    def note(self) -> list[str]:
        """Return what the user is to know of images that have no moment, if there are any."""
        if not self.alone:
            return []
        return [f"{self.alone:,} of {plural(self.images, 'images')} match no --rig, and are enhanced one by one"]

    def _refuse(self, moments: NDArray[np.uint64], packs: NDArray[np.uint64], spool: Spool) -> None:
        """Raise UsageError for the first moment that cannot be enhanced as one."""
        values, counts = np.unique(moments, return_counts=True)
        for moment, count in zip(values[counts > MOST_IMAGES], counts[counts > MOST_IMAGES], strict=True):
            name, _ = self._found(int(moment), spool)
            raise UsageError(
                f"--rig {self.rig.pattern} finds {count:,} images of one moment, {name!r}, of {MOST_IMAGES:,} at most; "
                "its groups must name the moment"
            )
        pairs = np.unique(np.stack([moments, packs]), axis=1)[0]
        for moment in pairs[1:][pairs[1:] == pairs[:-1]]:
            name, found = self._found(int(moment), spool)
            one, other = [pack or "loose files" for pack in found][:2]
            raise UsageError(
                f"--rig {self.rig.pattern}: the moment {name!r} lies in {one} and in {other}, which are enhanced "
                "apart; put it into one tar or Parquet file, or unpack them"
            )

    def _found(self, wanted: int, spool: Spool) -> tuple[str, list[str]]:
        """Return the name of a moment, and the tars and Parquet files that its images lie in ("" for none)."""
        named = ((self.rig.moment(entry.path), pack_of(entry.path) or "") for entry in spool)
        found = [(moment, pack) for moment, pack in named if moment is not None and name_hash(moment) == wanted]
        return found[0][0], sorted({pack for _, pack in found})
