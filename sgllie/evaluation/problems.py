"""What went wrong with one picture, gathered until its row is written."""

from sgllie.corpus import Row


class Problems:
    """Kinds and sentences; a row is failed if there is any."""

    def __init__(self) -> None:
        self._found: dict[str, str] = {}

    def add(self, error_type: str, sentence: str) -> None:
        """Note one problem, once."""
        self._found.setdefault(sentence, error_type)

    def columns(self) -> Row:
        """The columns `status`, `error_type` (of the first problem) and `error` (all of them)."""
        if not self._found:
            return {"status": "ok"}
        return {"status": "failed", "error_type": next(iter(self._found.values())), "error": "; ".join(self._found)}
