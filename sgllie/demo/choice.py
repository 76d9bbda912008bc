"""What the controls of the page say, as settings of the job and as its command."""

import shlex
from dataclasses import dataclass, fields, replace
from typing import Any

from sgllie.enhance.settings import EnhanceSettings
from sgllie.images import MAX_PIXELS
from sgllie.methods import METHODS, MethodName
from sgllie.network.architecture import SCALE_FACTOR
from sgllie.settings import option
from sgllie.video.settings import VideoSettings

BUNDLED = "bundled"
"""The name of the weights that come with the package, where one chooses."""
FOLDERS = ("PHOTOGRAPHS", "BRIGHT")
"""What stands for input and output in the command."""


@dataclass(frozen=True)
class Choice:
    """One setting of all controls.

    Attributes:
        method, scale_factor, strength: as for the job.
        weights: as for the job, or BUNDLED; a method that has none does not look at them.
        only_darker_than: mean luma; 1 leaves out nothing.
        denoise: as for the job; a method without a network of our kind does not look at it.
    """

    method: MethodName = "sgz"
    weights: str = BUNDLED
    scale_factor: int = SCALE_FACTOR
    strength: float = 1.0
    only_darker_than: float = 1.0
    denoise: bool = False

    def options(self, kind: type[EnhanceSettings | VideoSettings]) -> dict[str, Any]:
        """Return the options of a job that differ from its defaults."""
        info = METHODS[self.method]
        values = {
            "method": self.method,
            "weights": self.weights if info.takes_weights and self.weights != BUNDLED else None,
            "scale_factor": self.scale_factor if info.parameters else SCALE_FACTOR,  # those with a network of our kind
            "strength": self.strength,
            "only_darker_than": self.only_darker_than if self.only_darker_than < 1 else None,
            "denoise": self.denoise and info.parameters > 0,
        }
        defaults = {field.name: field.default for field in fields(kind)}
        return {name: value for name, value in values.items() if value != defaults.get(name, value)}

    @property
    def in_full(self) -> "Choice":
        """The choice whose effect is blended: at strength 1, for photographs of any brightness."""
        return replace(self, strength=1.0, only_darker_than=1.0)

    def settings(self, max_pixels: int = MAX_PIXELS) -> EnhanceSettings:
        """Return the settings of the job on photographs; what is chosen one by one is one, whatever it looks like."""
        options = self.options(EnhanceSettings) | {"device": "cpu", "max_pixels": max_pixels, "include": ("*",)}
        return EnhanceSettings(*FOLDERS, **options)

    def command(self, clips: bool) -> str:
        """Return the command that does the same to a folder, of photographs or of clips."""
        kind, name = (VideoSettings, "video") if clips else (EnhanceSettings, "enhance")
        words = ["sgllie", name, *FOLDERS]
        for key, value in self.options(kind).items():
            words += [option(key)] if value is True else [option(key), f"{value}"]
        return shlex.join(words)
