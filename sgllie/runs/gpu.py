"""GPUs as a job sees them: one that cannot be opened is no reason to stop, for the CPU takes over."""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from sgllie.errors import DeviceError, DeviceMemoryError, SgllieError, UsageError
from sgllie.methods.settings import Device

Made = TypeVar("Made")


def cannot_be_opened(error: SgllieError) -> bool:
    """Tell whether what was raised while something was made means no more than that the GPU cannot be opened.

    One that has fallen off its bus is no longer found, as if there had never been one. A torch without CUDA is another
    matter: with it no GPU of the cluster would ever be used.
    """
    if isinstance(error, UsageError):
        import torch

        return torch.backends.cuda.is_built() and not torch.cuda.is_available()
    return isinstance(error, DeviceError | DeviceMemoryError)


def on_device(settings: Any, device: Device) -> Any:
    """Return the same settings with their device decided; for the CPU without what only a GPU has."""
    changes: dict[str, Any] = {"device": device} if hasattr(settings, "device") else {}
    if device == "cpu":
        changes |= dict.fromkeys((name for name in ("half", "gpu_jpeg") if hasattr(settings, name)), False)
    return dataclasses.replace(settings, **changes)


def opened(make: Callable[[Any], Made], settings: Any) -> Made:
    """Return `make(settings)`; on the CPU, where the GPU cannot be opened."""
    try:
        return make(settings)
    except SgllieError as error:
        if not cannot_be_opened(error):
            raise
    return make(on_device(settings, "cpu"))
