"""Low-light enhancement for image corpora too large for one machine.

What is imported from here is the public interface: `docs/python.md` says what each name promises.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgllie.enhancer import Enhancer
    from sgllie.images import decode, encode
    from sgllie.methods import MethodSettings, make_method
    from sgllie.metrics import METRICS
    from sgllie.video.clip import enhance_video

__all__ = ["METRICS", "Enhancer", "MethodSettings", "decode", "encode", "enhance_video", "make_method"]

# New versions of onnxruntime report their use to its maker, unless they are told not to before they are imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_MODULES = {
    "Enhancer": "sgllie.enhancer",
    "METRICS": "sgllie.metrics",
    "MethodSettings": "sgllie.methods",
    "decode": "sgllie.images",
    "encode": "sgllie.images",
    "enhance_video": "sgllie.video.clip",
    "make_method": "sgllie.methods",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is asked for: a driver that only lists and shards starts a second earlier."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
