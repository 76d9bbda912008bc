"""Images in processes of their own, several at a time, within the memory that their worker has for pixels."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from sgllie.enhance.memory import PROCESS_BYTES, bytes_needed
from sgllie.enhance.processor import ImageProcessor, ImageResult, Processor
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import ItemError
from sgllie.images import open_image
from sgllie.network.factor import Level
from sgllie.runs.gpu import on_device
from sgllie.runs.isolation import Isolated
from sgllie.runs.memory import TORCH_BYTES, MemoryBudget


@contextmanager
def isolated_processor(settings: EnhanceSettings, pixels: int) -> Iterator[Processor]:
    """Give what does the same as `ImageProcessor`, for images of which one may kill the process that works on it.

    There are as many processes as threads, if they leave half of the memory to pixels. An image that needs more than is
    left beside all of them is worked on when the others have ended.

    All of it is computed on the CPU: what killed a worker may be what a GPU makes of an image, and the next process
    would only fail in the same way.

    Args:
        settings: of the job.
        pixels: bytes that the worker has for pixels, beside one such process.
    """
    settings = on_device(settings, "cpu")
    each = PROCESS_BYTES + (TORCH_BYTES if settings.loads_torch else 0)
    processes = min(settings.at_once, 1 + pixels // 2 // each)
    budget = MemoryBudget(pixels - (processes - 1) * each)
    make = partial(ProcessorInSteps, pixels)
    with Isolated(processes, settings.deadline, make, settings) as isolated:
        yield IsolatedProcessor(isolated, budget, pixels)


class IsolatedProcessor:
    """A `Processor` of other processes; see `isolated_processor`."""

    def __init__(self, isolated: Isolated, budget: MemoryBudget, pixels: int) -> None:
        self.isolated, self.budget, self.pixels = isolated, budget, pixels

    def __call__(self, path: str, data: bytes, level: Level | None = None) -> ImageResult:
        """Process one image."""
        return self._held(data, lambda: self.isolated(data, path, level))

    def level(self, path: str, data: bytes) -> Level | None:
        """Return what one image brings to the level of its moment; nothing, if it kills its process."""
        try:
            return self._held(data, lambda: self.isolated(data, path, None, True))
        except ItemError:
            return None

    def _held(self, data: bytes, work: Callable[[], Any]) -> Any:
        """Work within the memory that an image needs."""
        budget, isolated = self.budget, self.isolated
        with budget.held(1):  # nobody begins a process while all is held
            needed = isolated(data)
        is_large = budget.total < needed <= self.pixels
        with budget.held(budget.total if is_large else needed if needed <= self.pixels else 1):
            if is_large:
                isolated.end_idle()
            return work()


class ProcessorInSteps:
    """Tells what an image will need, then processes it, or finds its level, one at a time.

    Args:
        pixels: bytes that its worker has for pixels, which is not what this process would have by itself.
        settings: of the job.
    """

    def __init__(self, pixels: int, settings: EnhanceSettings) -> None:
        self.settings = settings
        self.processor = ImageProcessor(settings, MemoryBudget(pixels).held)

    def __call__(
        self, data: bytes, path: str | None = None, level: Level | None = None, finds_level: bool = False
    ) -> Any:
        """Return the result for an image; without a path the bytes of memory that it needs, 1 where it will fail."""
        if path is not None:
            return self.processor.level(path, data) if finds_level else self.processor(path, data, level)
        try:
            return bytes_needed(open_image(data, max_pixels=self.settings.max_pixels), self.settings)
        except Exception:
            return 1
