"""HTML pages that are one file each: they need no network, and may not ask for any."""

import base64
import hashlib
from collections.abc import Callable
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup


def render(package: str, name: str, filters: dict[str, Callable[..., str]], **values: Any) -> str:
    """Return a whole page as HTML, which tells the browser to refuse any request, and any style or script but its own.

    Args:
        package: where the page lies.
        name: of its template, NAME.html, which extends `document.html`; of NAME.css, and of NAME.js if there is one.
        filters: further filters of the template.
        values: what the template speaks of.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda base: text(__package__, base)),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters
    style = text(__package__, "document.css") + text(package, f"{name}.css")
    script = text(package, f"{name}.js")
    policy = f"default-src 'none'; img-src data:; style-src {source_hash(style)}; script-src {source_hash(script)}"
    page = environment.from_string(text(package, f"{name}.html"))
    return page.render(style=Markup(style), script=Markup(script), policy=policy, **values)


def text(package: str, name: str) -> str:
    """Return the text of a file of a package; empty where there is none."""
    file = resources.files(package).joinpath(name)
    return file.read_text("utf-8") if file.is_file() else ""


def source_hash(content: str) -> str:
    """Return a Content Security Policy source that allows exactly this inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
