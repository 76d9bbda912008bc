"""Low-light enhancement for image corpora too large for one machine."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgllie.enhancer import Enhancer

__all__ = ["Enhancer"]


def __getattr__(name: str) -> Any:
    """Import the Enhancer when it is asked for: a driver that only lists and shards starts a second earlier."""
    if name == "Enhancer":
        from sgllie.enhancer import Enhancer

        return Enhancer
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
