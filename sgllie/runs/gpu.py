"""GPUs as a job sees them: where one is in reach, and the CPU that takes over where it cannot be opened."""

import dataclasses
import os
import platform
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sgllie.errors import DeviceError, DeviceMemoryError, NoDeviceError, SlowCurveWarning
from sgllie.methods import METHODS, MethodSettings
from sgllie.methods.settings import Device

DRIVERS = ("/dev/nvidiactl", "/usr/lib/wsl/lib/libcuda.so.1")
"""One of these is there where NVIDIA's driver is: the second in WSL 2, where that of Windows does the work."""

Made = TypeVar("Made")


def is_in_reach() -> bool:
    """Tell whether this machine has a GPU."""
    return any(map(os.path.exists, DRIVERS))


def unused(settings: Any) -> str:
    """Say that the GPUs in reach are not used, and why; nothing where there is no choice."""
    is_choice = (
        METHODS[settings.method].uses_gpu if isinstance(settings, MethodSettings) else hasattr(settings, "device")
    )
    why = "Computing on the CPUs: the network is light, or --device says so; --device cuda takes the GPU."
    return why if is_choice else ""


def not_opened(why: str) -> str:
    """Say that the GPU of this machine cannot be opened, why, and what to do."""
    more = "there `python -c 'import torch; torch.cuda.init()'` tells more, and `nvidia-smi` who uses it"
    return f"the GPU of {platform.node()} cannot be opened ({why}); {more}"


def on_device(settings: Any, device: Device) -> Any:
    """Return the same settings with their device decided; for the CPU without what only a GPU has."""
    changes: dict[str, Any] = {"device": device} if hasattr(settings, "device") else {}
    if device == "cpu":
        changes |= dict.fromkeys((name for name in ("half", "gpu_jpeg") if hasattr(settings, name)), False)
    return dataclasses.replace(settings, **changes)


def opened(make: Callable[[Any], Made], settings: Any, tell: Callable[[str], object] = lambda why: None) -> Made:
    """Return `make(settings)`; on the CPU, where the GPU cannot be opened.

    Args:
        make: what may need the GPU.
        settings: with their device decided.
        tell: called with the reason before the CPU takes over.
    """
    try:
        return make(settings)
    except (NoDeviceError, DeviceError, DeviceMemoryError) as error:
        if getattr(settings, "device", "cpu") == "cpu":
            raise
        why = str(error)
    tell(why)
    return make(on_device(settings, "cpu"))


@contextmanager
def slow_curve_told(tell: Callable[[str], object]) -> Iterator[None]:
    """Have it told, and not warned of, that a GPU opened within the block takes the slow curve."""
    with warnings.catch_warnings(record=True) as found:
        yield
    for one in found:
        if issubclass(one.category, SlowCurveWarning):
            tell(str(one.message))
        else:
            warnings.showwarning(one.message, one.category, one.filename, one.lineno)
