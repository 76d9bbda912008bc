"""The server of the page, from its start to Ctrl-C."""

import logging
import os
import signal
import socket
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sgllie.demo.settings import DemoSettings
from sgllie.errors import UsageError
from sgllie.runs.words import say


def serve(settings: DemoSettings, host: str | None = None) -> int:
    """Show the page until Ctrl-C or SIGTERM; then nothing is left of it.

    Args:
        settings: of the page.
        host: address to listen on, in place of that of the settings; for a place with a front door of its own, such as
            a Hugging Face Space, where no password is asked for.

    Raises:
        UsageError: Gradio is not installed, the port is taken, or the password file is wrong.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # files are removed then too
    warming = threading.Thread(target=warm_up, args=(settings,))
    with TemporaryDirectory(prefix="sgllie-demo-") as folder, suppress(KeyboardInterrupt):
        page = launch(settings, host or settings.host, Path(folder))
        try:
            say(f"The page is at {page.local_url} (Ctrl-C ends it).")
            warming.start()
            threading.Event().wait()
        finally:
            page.close(verbose=False)
            if warming.ident:
                warming.join()  # Python must not end around compiled code that runs still: it would abort
    return 0


def launch(settings: DemoSettings, host: str, folder: Path) -> Any:
    """Start the server, with all its files in a folder; return Gradio's page."""
    passwords = settings.passwords()
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder / "uploads")
    try:
        import gradio as gr
    except ModuleNotFoundError as error:
        raise UsageError(f"the page needs Gradio: pip install 'sgllie[demo]' ({error})") from error
    from sgllie.demo.actions import Actions
    from sgllie.demo.page import SAMPLES_FOLDER, STYLE, THEME, Page
    from sgllie.demo.session import Sessions

    sessions = Sessions(folder / "sessions", settings)
    # Gradio would copy them into the folder of uploads, under the name that the upload of the same file would have.
    gr.set_static_paths([str(sessions.folder), str(SAMPLES_FOLDER)])
    page = Page(settings, Actions(sessions)).blocks
    try:
        page.launch(
            server_name=host,
            server_port=settings.port or free_port(),
            auth=passwords or None,
            max_file_size=settings.max_megabytes * 10**6,
            theme=THEME,
            css_paths=STYLE,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise UsageError(f"--port {settings.port}: {error}") from error
    # A tab that is closed in the middle of an answer is no fault, and nothing about a visit is to be logged.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return page


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def warm_up(settings: DemoSettings) -> None:
    """Load the libraries that the first photograph would wait for, by enhancing a sample."""
    from sgllie.demo.choice import Choice
    from sgllie.demo.item import Item
    from sgllie.demo.page import SAMPLES, SAMPLES_FOLDER
    from sgllie.demo.preview import full_method, make_preview

    name = next(iter(SAMPLES))
    make_preview(Item(name, SAMPLES_FOLDER / name).still(settings), full_method(Choice()))
