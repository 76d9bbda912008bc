"""How much memory the measuring of one picture will need, and its turn to have it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from sgllie import images
from sgllie.errors import ImageError
from sgllie.runs.allocator import make_room
from sgllie.runs.memory import MARGIN, budgets, file_bytes, lenient, worker_bytes

KEPT_BYTES = 4
"""Of each pixel of a decoded file, for each 8 bits of its depth: RGB and alpha."""
DECODING_BYTES = 26
"""For each pixel while a file is decoded; the most that was measured (TIFF with LZW), as those below."""
DEEP_BYTES = 50
"""For each pixel beside a metric, where files of 16 bits are rounded to 8 to be compared with others."""
MAP_BYTES = 60
"""For each pixel of three label maps, or of the score of DarkCityScape, beside the decoded files."""


class PictureMemory:
    """The memory that a worker has for files, and for the pixels of what is measured. Threads share it.

    Args:
        worker_memory: of the settings.
        pixel_bytes: what is done with decoded files needs at its peak, for each pixel of the largest.
        with_torch: whether the worker imports torch.
    """

    def __init__(self, worker_memory: float | None, pixel_bytes: float, with_torch: bool = False) -> None:
        self.files, self.pixels = (lenient(budget, worker_memory) for budget in budgets(worker_memory, with_torch))
        self.pixel_bytes = pixel_bytes
        self.most_bytes = worker_bytes(worker_memory, with_torch)

    @contextmanager
    def reading(self, size: int | None) -> Iterator[None]:
        """Hold memory for files of so many bytes together; ItemError where they need too many."""
        with self.files.held(file_bytes(size)):
            yield

    @contextmanager
    def measuring(self, files: Mapping[str, bytes], isolated: bool = False) -> Iterator[None]:
        """Hold memory for the pixels of some files, as their headers tell; ItemError where they need too many.

        Files of unknown kinds, which may be label maps, are worked on alone; and those that are isolated, since even
        their headers may kill a process.
        """
        try:
            needed = self.pixels.total if isolated else bytes_needed(files.values(), self.pixel_bytes)
        except ImageError:
            needed = self.pixels.total
        with self.pixels.held(needed):
            make_room(needed, self.most_bytes)
            yield


def bytes_needed(files: Iterable[bytes], pixel_bytes: float) -> int:
    """Return the bytes that measuring some files together needs at its peak; ImageError where a header tells nothing.

    Args:
        files: of one picture.
        pixel_bytes: see `PictureMemory`.
    """
    headers = [images.open_image(data).header for data in files]
    sizes = [header.width * header.height for header in headers]
    kept = sum(size * KEPT_BYTES * max(header.bit_depth // 8, 1) for size, header in zip(sizes, headers, strict=True))
    deep = DEEP_BYTES if any(header.bit_depth > 8 for header in headers) else 0
    return math.ceil(MARGIN * (kept + max(sizes, default=0) * max(DECODING_BYTES, pixel_bytes + deep)))
