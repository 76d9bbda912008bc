"""Images that were taken at one moment: by the cameras of a rig, or by the two eyes of a stereo pair."""

import re
from collections.abc import Callable
from typing import Any

from sgllie.errors import UsageError

PRESETS = {
    "kitti": r"^(.*?)(?:image_0?|colored_)[0-3](/(?:data(?:_rect|_rgb)?/)?\d+(?:_\d+)?)\.",
    "nuscenes": r"(n\d{3}-[^/]*?__)CAM_[A-Z_]+?__(\d{10})\d{6}\.",
    "waymo": r"^(.*?)(?:image_[0-4]|(?:FRONT|SIDE|REAR)(?:_LEFT|_RIGHT)?)(?=[/_.])(.*)\.",
}
"""Patterns of known names. KITTI: left and right (`image_2/000000.png` and `image_3`, `image_02/data`, `colored_0`; of
KITTI-360 `image_00/data_rect`).
nuScenes: the cameras of one second, since each has a time of its own, and tables say which belong together. Waymo: the
folders of its converters (`image_0` .. `image_4`), or the names of its cameras as a folder or at the end of a name."""


class Rig:
    """Tells which moment an image shows.

    Args:
        pattern: a regular expression, whose groups name the moment, or the name of a preset.

    Raises:
        UsageError: it is none.
    """

    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        try:
            self._expression = re.compile(PRESETS.get(pattern, pattern))
        except re.error as error:
            rule = f"it must be a regular expression, or one of {', '.join(PRESETS)}"
            raise UsageError(f"--rig is {pattern}; {rule}: {error}") from error
        if not self._expression.groups:
            raise UsageError(f"--rig is {pattern}; it must have a group, in parentheses, that names the moment")

    def moment(self, path: str) -> str | None:
        """Return the name of the moment, what the groups match put together; None for an image of no rig."""
        found = self._expression.search(path)
        return "".join(filter(None, found.groups())) if found else None


def moment_of(pattern: str | None) -> Callable[[Any], str | None]:
    """Return what tells the moment of a listed image; without a pattern none has any."""
    rig = Rig(pattern) if pattern else None
    return lambda entry: rig.moment(entry.path) if rig else None
