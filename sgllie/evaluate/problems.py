"""What went wrong with one picture, gathered until its row is written."""

from collections.abc import Iterable

from sgllie.errors import Failure, failure_of
from sgllie.runs.schemas import Row
from sgllie.storage import Storage

UNDEFINED = "undefined"
"""The column that says why a metric has no value for an image, although nothing is wrong with it."""


class Problems:
    """All problems of one picture; its row is failed if there is any. What is undefined is none."""

    def __init__(self, known: Iterable[Failure] = ()) -> None:
        self._found = dict.fromkeys(known)
        self._undefined: dict[str, None] = {}

    def add(self, error_type: str, sentence: str) -> None:
        """Note one problem, once."""
        self._found[Failure(error_type, sentence)] = None

    def add_undefined(self, sentence: str) -> None:
        """Note why a metric has no value, once."""
        self._undefined[sentence] = None

    def columns(self) -> Row:
        """Return the columns `status`, `error_type` (of the first problem), `error` (all of them) and `undefined`."""
        row: Row = {UNDEFINED: "; ".join(self._undefined)} if self._undefined else {}
        if not self._found:
            return row | {"status": "ok"}
        sentences = "; ".join(problem.error for problem in self._found)
        return row | {"status": "failed", "error_type": next(iter(self._found)).error_type, "error": sentences}


def read_sides(
    sources: dict[str, Storage], paths: dict[str, str | None], problem: str | None
) -> tuple[dict[str, bytes], list[Failure]]:
    """Return the bytes of each side that can be read, and why the others cannot.

    Args:
        sources: where the files of each side lie.
        paths: of the files, None where a side has none.
        problem: why it has none, if it should have one.

    Raises:
        StorageError: a storage is gone; no picture is to blame.
    """
    files: dict[str, bytes] = {}
    problems = [Failure("missing", problem)] if problem else []
    for side, path in paths.items():
        if path is None:
            continue
        try:
            files[side] = sources[side].read(path)
        except Exception as error:
            problems.append(failure_of(error, f"file {sources[side].uri}/{path}"))
    return files, problems
