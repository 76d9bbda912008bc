"""Low-light enhancement for image corpora too large for one machine."""

from sgllie.enhancer import Enhancer

__all__ = ["Enhancer"]
