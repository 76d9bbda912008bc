"""What the page says, as HTML: names of files are shown as they are, whatever they hold."""

from collections.abc import Sequence
from html import escape

from sgllie.demo.preview import Preview, Side
from sgllie.enhancer import Factor

WELCOME = "Drop photographs or a short clip above, or take a sample. They stay on the machine that shows this page."
NOTHING = "There is no photograph yet: drop one above, or take a sample."
GONE = "What was dropped here is gone, since the page was closed or asleep: drop it again."
UNKNOWN = "…"


def sentences(lines: Sequence[str]) -> str:
    """Return a paragraph for each sentence."""
    return "".join(f"<p>{escape(line)}</p>" for line in lines)


def facts(before: Side, after: Side, naturalness: tuple[float | None, float | None] | None) -> str:
    """Return the table of what was measured on both pictures; NIQE is None as a whole while it is being measured."""
    niqe = [UNKNOWN if naturalness is None else number(value, "{:.2f}") for value in naturalness or (None, None)]
    rows = [
        ("Brightness (mean luma, 0 to 1)", f"{before.brightness:.3f}", f"{after.brightness:.3f}"),
        ("Clipped (wholly black or white)", f"{before.clipped:.2%}", f"{after.clipped:.2%}"),
        ("NIQE (lower is more natural)", *niqe),
    ]
    body = "".join(f"<tr><th scope=row>{name}</th><td>{left}</td><td>{right}</td></tr>" for name, left, right in rows)
    head = "<tr><th></th><th scope=col>Before</th><th scope=col>After</th></tr>"
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def number(value: float | None, form: str) -> str:
    """Return a number, or a dash for one that is not defined."""
    return "–" if value is None else form.format(value)


def outcome(name: str, preview: Preview, kept_above: float | None) -> str:
    """Return the sentence about one photograph.

    Args:
        name: of the file.
        preview: of it.
        kept_above: the mean luma from which on photographs are copied, where this one is; else None.
    """
    width, height = preview.size
    if kept_above is not None:
        luma = f"mean luma is {preview.brightness:.2f}, which is not below {kept_above:.2f}"
        return f"{name}: its {luma}, so the job copies it byte for byte."
    return f"{name}: {width} x {height} pixels, enhanced in {preview.milliseconds:,.0f} ms."


def map_caption(factor: Factor) -> str:
    """Return what is said below the picture of a factor map."""
    if not factor.size:
        return "<p>This method derives no map from a photograph.</p>"
    low, high = float(factor.min()), float(factor.max())
    if factor.size == 1:
        return f"<p>This method derives one number from the whole photograph: {low:.3f}.</p>"
    return f"<p>Dark blue is {low:.2f}, yellow {high:.2f}. For sgz and zero-dce lower is brighter.</p>"
