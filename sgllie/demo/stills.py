"""The decoded photographs of the page: another choice for one of them need not read it again."""

import threading
from collections import OrderedDict
from collections.abc import Iterable

from sgllie.demo.item import Item
from sgllie.demo.preview import Still
from sgllie.demo.settings import DemoSettings

KEPT = 2
"""Of all tabs together; one has half a gigabyte at most, by default."""


class Stills:
    """What is shown of the files that were looked at last. All tabs share it: memory does not grow with them."""

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings
        self._kept: OrderedDict[Item, Still] = OrderedDict()
        self._lock = threading.Lock()

    def __getitem__(self, item: Item) -> Still:
        """Return what is shown of a file; errors as of `Item.still`. Nobody waits while another's is decoded."""
        with self._lock:
            still = self._kept.get(item)
        still = still or item.still(self.settings)
        with self._lock:
            self._kept[item] = still
            self._kept.move_to_end(item)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return still

    def forget(self, items: Iterable[Item]) -> None:
        """Free what is kept of some files."""
        with self._lock:
            for item in items:
                self._kept.pop(item, None)
