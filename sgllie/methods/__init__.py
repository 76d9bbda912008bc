"""The methods of enhancement, behind one protocol: the jobs never know which one runs.

    from sgllie.methods import make_method
    from sgllie.settings import MethodSettings

    bright = make_method(MethodSettings(method="lime"))(image)

Each file of this folder has `make(settings)`; those whose method takes weights also have `describe(settings)`.
"""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from sgllie.enhancer import Factor, Pixels
    from sgllie.settings import MethodSettings

MethodName = Literal["sgz", "zero-dce", "lime", "pie", "msrcr", "clahe", "gamma", "onnx"]


class Method(Protocol):
    """Brightens images of any size, H x W x 3 RGB or H x W grey, uint8 or uint16. Thread-safe: threads may share one.

    It works in two steps, so that the first can be measured, and smoothed over the frames of a video.
    """

    def factor_map(self, image: "Pixels") -> "Factor":
        """What the method derives from one image, as float32 h x w x C: an empty array, where it derives nothing."""

    def factor_maps(self, images: Sequence["Pixels"]) -> Iterable["Factor"]:
        """The factor maps of images of one shape."""

    def apply(self, image: "Pixels", factor: "Factor") -> "Pixels":
        """The image enhanced with a given factor map, in its own shape and dtype."""

    def __call__(self, image: "Pixels", /) -> "Pixels":
        """The image enhanced with its own factor map; ValueError for another shape or dtype."""


@dataclass(frozen=True)
class Entry:
    """What must be known of a method before it is made.

    Attributes:
        module: the file of this folder that makes it. It is imported then and not before, since the driver of a job
            makes none, and would wait for the libraries that it needs.
        takes_weights: whether it has weights, in a file that `--weights` may name.
        uses_gpu: whether it can run on CUDA; the others run on the CPU.
    """

    module: str
    takes_weights: bool = False
    uses_gpu: bool = False


METHODS: dict[MethodName, Entry] = {
    "sgz": Entry("learned", takes_weights=True, uses_gpu=True),
    "zero-dce": Entry("learned", takes_weights=True, uses_gpu=True),
    "lime": Entry("lime"),
    "pie": Entry("pie"),
    "msrcr": Entry("msrcr"),
    "clahe": Entry("clahe"),
    "gamma": Entry("gamma"),
    "onnx": Entry("onnx_file", takes_weights=True),
}


def make_method(settings: "MethodSettings") -> Method:
    """The method that the settings describe.

    Raises:
        UsageError: its weights are missing, cannot be read or do not fit it, or the device is not there.
    """
    return module_of(settings).make(settings)


def describe_weights(settings: "MethodSettings") -> dict[str, Any] | None:
    """Name, fingerprint and kind of the weights, for run.json; None for a method that has none.

    Raises:
        UsageError: they are missing, cannot be read or do not fit the method.
    """
    return module_of(settings).describe(settings) if METHODS[settings.method].takes_weights else None


def module_of(settings: "MethodSettings") -> Any:
    """The module that makes the method."""
    return importlib.import_module(f"{__name__}.{METHODS[settings.method].module}")
