"""How strongly images are enhanced, and how finely the network looks at them: one declaration for library and jobs."""

from dataclasses import dataclass

from sgllie.network.architecture import SCALE_FACTOR
from sgllie.settings import setting


@dataclass(frozen=True, kw_only=True)
class EffectSettings:
    """The numbers that every enhancement has, with their defaults and limits."""

    scale_factor: int = setting(SCALE_FACTOR, least=1)
    """The network looks at one sample for each block of this many pixels squared. Zero-DCE was published with 1."""
    strength: float = setting(1.0, least=0, most=1)
    """0 leaves images as they are, 1 is the full effect."""
