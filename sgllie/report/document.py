"""HTML pages that are one file each: they need no network, and may not ask for any."""

import base64
import hashlib
from collections.abc import Callable
from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup

HERE = resources.files(__package__)


def render(
    template: str, style: str, script: str = "", filters: dict[str, Callable[..., str]] | None = None, **values: Any
) -> str:
    """A whole page as HTML, with the browser told to refuse any request, and any style or script but its own.

    Args:
        template: what extends `document.html`, as text.
        style: CSS, in front of it that of all pages.
        script: JavaScript.
        filters: further filters of the template.
        values: what the template speaks of.
    """
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(lambda name: HERE.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    style = HERE.joinpath("document.css").read_text("utf-8") + style
    policy = f"default-src 'none'; img-src data:; style-src {source_hash(style)}"
    if script:
        policy += f"; script-src {source_hash(script)}"
    page = environment.from_string(template)
    return page.render(style=Markup(style), script=Markup(script), policy=policy, **values)


def source_hash(content: str) -> str:
    """A Content Security Policy source that allows exactly this inline element."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
