"""What the controls of the page set in motion: each function takes what they say, and returns what is to be shown."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr

from sgllie.demo import words
from sgllie.demo.chart import histograms, map_picture
from sgllie.demo.choice import Choice
from sgllie.demo.item import Item
from sgllie.demo.preview import Preview
from sgllie.demo.session import Session, Sessions, sentence_of
from sgllie.metrics.niqe import niqe_of_middle

SETTLED_SECONDS = 0.3
"""Without a change, after which NIQE is measured: it takes longer than all else."""


class Taken(NamedTuple):
    """What changes when files come or go."""

    drop: Any
    names: Any
    several: Any
    status: Any


class Shown(NamedTuple):
    """What changes with every control."""

    pictures: Any = None
    facts: Any = ""
    chart: Any = ""
    factor: Any = None
    caption: Any = ""
    status: Any = words.WELCOME
    command: Any = None
    download: Any = None


class Actions:
    """The functions of a page.

    Args:
        sessions: where dropped files go.
    """

    def __init__(self, sessions: Sessions) -> None:
        self.sessions = sessions

    def take(self, dropped: Sequence[str] | None, request: gr.Request) -> Taken:
        """Take files over from the browser."""
        return self._take([Path(path) for path in dropped or []], request, uploaded=True)

    def sample(self, path: Path) -> Callable[[gr.Request], Taken]:
        """Return the function that takes a sample as if it had been dropped."""

        def take(request: gr.Request) -> Taken:
            return self._take([path], request, uploaded=False)

        return take

    def remove_all(self, request: gr.Request) -> tuple[Any, ...]:
        """Remove what was dropped, and all that was made of it."""
        self.leave(request)
        names = gr.Radio([], value=None)
        return (None, names, gr.Row(visible=False), *self._nothing(words.WELCOME, Choice()))

    def leave(self, request: gr.Request) -> None:
        """Forget a tab that was closed."""
        self.sessions.close(str(request.session_hash))

    def show(self, request: gr.Request, name: str | None, *controls: Any) -> Shown:
        """Show what the controls say of the chosen file."""
        choice, session = Choice(*controls), self._session(request)
        session.turns += 1
        refused, session.refused = session.refused, []
        item = session.find(name)
        if item is None:
            return self._nothing(words.sentences(refused) or (words.GONE if name else words.WELCOME), choice)
        try:
            return self._show(session, item, choice, refused)
        except Exception as error:
            if session.removed:
                return gr.skip()
            return self._nothing(words.sentences([*refused, sentence_of(error, item)]), choice, item)

    def _show(self, session: Session, item: Item, choice: Choice, refused: list[str]) -> Shown:
        shown = session.shown(item, choice)
        preview = shown.preview
        is_copied = item.is_copied(preview, choice)
        after = preview.side(preview.before if is_copied else preview.after(choice.strength))
        said = words.outcome(item.name, preview, choice.only_darker_than if is_copied else None)
        return Shown(
            (session.picture(shown.before.jpeg), session.picture(after.jpeg)),
            words.facts(shown.before, after, None),
            histograms(shown.before, after),
            self._map(session, preview),
            words.map_caption(preview.factor),
            words.sentences([*refused, said]),
            choice.command(item.is_clip),
            gr.DownloadButton(visible=False),
        )

    def _map(self, session: Session, preview: Preview) -> Any:
        if preview.factor.size <= 1:
            return gr.Image(None, visible=False)
        return gr.Image(session.picture(map_picture(preview.factor)), visible=True)

    def _nothing(self, status: str, choice: Choice, item: Item | None = None) -> Shown:
        """Show no picture, and say why."""
        command = choice.command(bool(item and item.is_clip))
        hidden = gr.Image(None, visible=False), gr.DownloadButton(visible=False)
        return Shown(status=status, factor=hidden[0], command=command, download=hidden[1])

    def measure(self, request: gr.Request, name: str | None, *controls: Any) -> Any:
        """Measure NIQE of both pictures, once nothing has changed for a moment."""
        choice, session = Choice(*controls), self._session(request)
        item, turn = session.find(name), session.turns
        time.sleep(SETTLED_SECONDS)
        if item is None or session.turns != turn:
            return gr.skip()
        try:
            shown = session.shown(item, choice)
        except Exception:  # `show` has said why
            return gr.skip()
        preview = shown.preview
        pixels = preview.before if item.is_copied(preview, choice) else preview.after(choice.strength)
        if shown.niqe is None:
            shown.niqe = niqe_of_middle(preview.before)
        pair = shown.niqe, niqe_of_middle(pixels)
        return words.facts(shown.before, preview.side(pixels), pair)

    def enhance(self, request: gr.Request, name: str | None, *controls: Any) -> tuple[Any, Any]:
        """Enhance all files at full size, and offer them for download."""
        choice, session = Choice(*controls), self._session(request)
        if not session.items:
            return gr.DownloadButton(visible=False), words.sentences([words.GONE if name else words.NOTHING])
        path, refused = session.enhance_all(choice)
        if session.removed:
            return gr.skip(), gr.skip()
        if path is None:
            return gr.DownloadButton(visible=False), words.sentences(refused)
        label = f"Download {path.name} ({path.stat().st_size / 1e6:.2f} MB)"
        left_out = [f"Left out: {sentence}" for sentence in refused]
        button = gr.DownloadButton(label, value=str(path), visible=True)
        return button, words.sentences([*left_out, f"{path.name} is ready, at full size and with all metadata."])

    def _take(self, paths: Sequence[Path], request: gr.Request, *, uploaded: bool) -> Taken:
        session = self._session(request)
        before = len(session.items)
        session.refused = session.take(paths, uploaded=uploaded)
        names = [item.name for item in session.items]
        chosen = names[min(before, len(names) - 1)] if names else None
        return Taken(None, gr.Radio(names, value=chosen), gr.Row(visible=len(names) > 1), gr.skip())

    def _session(self, request: gr.Request) -> Session:
        return self.sessions[str(request.session_hash)]
