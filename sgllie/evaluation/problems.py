"""What went wrong with one picture, gathered until its row is written."""

from collections.abc import Iterable
from typing import NamedTuple

from sgllie.corpus import Row
from sgllie.storage import Storage, StorageError


class Problem(NamedTuple):
    """A kind, such as `missing`, and a sentence."""

    error_type: str
    sentence: str


class Problems:
    """All problems of one picture; its row is failed if there is any."""

    def __init__(self, known: Iterable[Problem] = ()) -> None:
        self._found = dict.fromkeys(known)

    def add(self, error_type: str, sentence: str) -> None:
        """Note one problem, once."""
        self._found[Problem(error_type, sentence)] = None

    def columns(self) -> Row:
        """The columns `status`, `error_type` (of the first problem) and `error` (all of them)."""
        if not self._found:
            return {"status": "ok"}
        sentences = "; ".join(problem.sentence for problem in self._found)
        return {"status": "failed", "error_type": next(iter(self._found)).error_type, "error": sentences}


def read_sides(
    sources: dict[str, Storage], paths: dict[str, str | None], problem: str | None
) -> tuple[dict[str, bytes], list[Problem]]:
    """The bytes of each side that can be read, and why the others cannot.

    Args:
        sources: where the files of each side lie.
        paths: of the files, None where a side has none.
        problem: why it has none, if it should have one.
    """
    files: dict[str, bytes] = {}
    problems = [Problem("missing", problem)] if problem else []
    for side, path in paths.items():
        if path is None:
            continue
        try:
            files[side] = sources[side].read(path)
        except FileNotFoundError:
            problems.append(Problem("missing", f"{sources[side].uri}/{path} was listed but is not there now"))
        except (OSError, StorageError) as error:
            problems.append(Problem("read", f"{sources[side].uri}/{path} cannot be read: {error}"))
    return files, problems
