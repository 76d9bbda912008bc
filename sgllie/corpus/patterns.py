"""Patterns of paths: those of a .gitignore file, and globs."""

import re
from collections.abc import Sequence

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from sgllie.errors import UsageError


class Patterns:
    """Tells which paths match one of some patterns; of several that match, the last decides, and `!` takes back.

    It takes back a file of a folder that matches, too, which it does not in git.

    Args:
        lines: the patterns.
        option: where the user gave them.

    Raises:
        UsageError: one of them is none.
    """

    def __init__(self, lines: Sequence[str] = (), option: str = "the patterns") -> None:
        self.lines = lines
        try:
            self._spec = GitIgnoreSpec.from_lines(lines) if lines else None
        except GitIgnorePatternError as error:
            raise UsageError(
                f"{option} is {', '.join(lines)}; it must be a pattern as in .gitignore: {error}"
            ) from error

    def __contains__(self, path: str) -> bool:
        return self._spec is not None and self._spec.match_file(path)


def has_wildcards(path: str) -> bool:
    """Tell whether a path holds the characters of a glob."""
    return bool(re.search(r"[*?\[]", path))
