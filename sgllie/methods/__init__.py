"""The methods of enhancement, behind one protocol: the jobs never know which one runs.

    from sgllie.methods import MethodSettings, make_method

    bright = make_method(MethodSettings(method="lime"))(image)

Each method's file has `make(settings)`; those whose method takes weights also have `describe(settings)`.
"""

import importlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sgllie.methods.registry import METHODS, MethodName
from sgllie.methods.settings import MethodSettings

if TYPE_CHECKING:
    from sgllie.enhancer import Enhanced, Factor, Level
    from sgllie.images import Pixels

__all__ = ["METHODS", "Method", "MethodName", "MethodSettings", "cpu_instead", "describe_weights", "make_method"]


class Method(Protocol):
    """Brightens images of any size, H x W x 3 RGB or H x W grey, uint8 or uint16. Thread-safe: threads may share one.

    It works in two steps, so that the first can be measured, and smoothed over the frames of a video.
    """

    def enhance(self, image: "Pixels", level: "Level | None" = None) -> "Enhanced":
        """Take both steps at once, on the device, with the image's own level or one that it shares with others.

        ValueError for another shape or dtype.
        """

    def level(self, image: "Pixels") -> "Level":
        """Return what the method takes of all of an image at once: as many float32 for every image, or nothing."""

    def factor_map(self, image: "Pixels") -> "Factor":
        """Return what the method derives from one image, as float32 h x w x C; an empty array where it is nothing."""

    def factor_maps(self, images: Sequence["Pixels"]) -> Iterable["Factor"]:
        """Return the factor maps of images of one shape."""

    def apply(self, image: "Pixels", factor: "Factor") -> "Pixels":
        """Return the image enhanced with a given factor map, in its own shape and dtype."""

    def __call__(self, image: "Pixels", /) -> "Pixels":
        """Return the image enhanced with its own factor map; ValueError for another shape or dtype."""


def make_method(settings: MethodSettings) -> Method:
    """Make the method that the settings describe.

    Raises:
        UsageError: its weights are missing, cannot be read or do not fit it, or the device is not there.
    """
    return module_of(settings).make(settings)


def describe_weights(settings: MethodSettings) -> dict[str, Any] | None:
    """Return name, fingerprint and kind of the weights, for run.json; None for a method that has none.

    Raises:
        UsageError: they are missing, cannot be read or do not fit the method.
    """
    return module_of(settings).describe(settings) if METHODS[settings.method].takes_weights else None


def cpu_instead(settings: MethodSettings) -> str | None:
    """Say why a network that is to run on a GPU will run on the CPU, as far as it can be told on this machine."""
    if settings.method != "onnx" or settings.device != "cuda" or module_of(settings).has_cuda():
        return None
    return (
        "--device cuda: this machine's onnxruntime has no CUDA (the package onnxruntime-gpu has); where workers have "
        "none either, the network runs on the CPU, and rows say so in the column device."
    )


def module_of(settings: MethodSettings) -> Any:
    """Import the module that makes the method."""
    return importlib.import_module(f"{__name__}.{METHODS[settings.method].module}")
