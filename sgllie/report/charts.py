"""Charts as inline SVG. They hold numbers only, and take their colours from the classes of `page.css`."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from sgllie.report.timeline import Bars

WIDTH, HEIGHT = 640, 220
LEFT, RIGHT, TOP, BOTTOM = 8, 8, 22, 28


def histogram(before: Sequence[int], after: Sequence[int], highest: float, label: str) -> Markup:
    """Draw two outlines over one axis from 0 to `highest`: how many images lie in each bin before, and after."""
    top = max(*before, *after, 1)
    ticks = [(k / 5, f"{highest * k / 5:.2g}") for k in range(6)]
    shapes = [
        Markup('<path class="{}" d="{}"/>').format(side, outline(np.array(counts) / top))
        for side, counts in (("before", before), ("after", after))
    ]
    return svg(label, *shapes, height(f"{top:,} images"), axis(ticks))


def outline(heights: np.ndarray) -> str:
    """Draw a closed path of steps; heights and widths as shares of the plot."""
    edges = np.linspace(LEFT, WIDTH - RIGHT, len(heights) + 1)
    base, levels = HEIGHT - BOTTOM, TOP + (1 - heights) * (HEIGHT - TOP - BOTTOM)
    steps = (f"V{level:.1f}H{right:.1f}" for level, right in zip(levels, edges[1:], strict=True))
    return f"M{edges[0]:.1f} {base}{''.join(steps)}V{base}Z"


def throughput(bars: Bars, label: str) -> Markup:
    """Draw images per second over the time of work, with a dashed line where the run was paused."""
    rates = np.array(bars.images) / bars.seconds
    top = max(float(rates.max(initial=0)), 1e-9)
    total = bars.seconds * len(rates)
    # The last tick may stand a little before the end: round numbers are easier to read than the exact end.
    step = nice_step(total)
    ticks = [(k * step / total, clock(k * step)) for k in range(int(total / step) + 1)]
    x = [LEFT + at / len(rates) * (WIDTH - LEFT - RIGHT) for at in bars.pauses]
    pauses = [
        Markup('<line class="pause" x1="{0:.1f}" x2="{0:.1f}" y1="{1}" y2="{2}"/>').format(at, TOP, HEIGHT - BOTTOM)
        for at in x
    ]
    path = Markup('<path class="after" d="{}"/>').format(outline(rates / top))
    return svg(label, path, *pauses, height(f"{top:,.3g} images/s"), axis(ticks))


def response(grid: np.ndarray, label: str) -> Markup:
    """Draw what brightness (across) became what (up).

    A square stands for each cell, the stronger the more images; on the diagonal nothing changes.
    """
    size, margin = 320, 28
    cell = (size - margin) / len(grid)
    top = max(grid.max(), 1)
    squares = [
        Markup('<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill-opacity="{:.2f}"/>').format(
            margin + i * cell, (size - margin) - (j + 1) * cell, cell, cell, 0.15 + 0.85 * (grid[i, j] / top) ** 0.5
        )
        for i, j in np.argwhere(grid)
    ]
    inner = size - margin
    frame = Markup('<path class="axis" d="M{0} 0V{1}H{2}"/><path class="diagonal" d="M{0} {1}L{2} 0"/>').format(
        margin, inner, size
    )
    ticks = [
        Markup('<text class="tick" x="{}" y="{}" text-anchor="{}">{}</text>').format(x, y, anchor, text)
        for x, y, anchor, text in (
            (margin, size - 10, "start", "0"),
            ((margin + size) / 2, size - 10, "middle", "before"),
            (size, size - 10, "end", "1"),
            (margin - 6, inner, "end", "0"),
            (margin - 6, 10, "end", "1"),
        )
    ]
    after = Markup('<text class="tick" transform="translate({} {}) rotate(-90)" text-anchor="middle">after</text>')
    group = Markup('<g class="cells">{}</g>').format(Markup().join(squares))
    return svg(label, group, frame, *ticks, after.format(margin - 10, inner / 2), size=(size, size))


def bar(share: float) -> Markup:
    """Draw a bar in a table cell; its number stands beside it."""
    return Markup(
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rest" width="100" height="8"/><rect class="part" width="{:.1f}" height="8"/></svg>'
    ).format(100 * share)


def height(text: str) -> Markup:
    """Draw a line at the top that says what the highest bar stands for."""
    line = Markup('<path class="grid" d="M{} {}H{}"/>').format(LEFT, TOP, WIDTH - RIGHT)
    return line + Markup('<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>').format(
        WIDTH - RIGHT, TOP - 5, text
    )


def axis(ticks: Sequence[tuple[float, str]]) -> Markup:
    """Draw a line at the bottom with labels at these shares of its length."""
    base = HEIGHT - BOTTOM
    line = Markup('<path class="axis" d="M{} {}H{}"/>').format(LEFT, base, WIDTH - RIGHT)
    labels = [
        Markup('<text class="tick" x="{:.1f}" y="{}" text-anchor="{}">{}</text>').format(
            LEFT + share * (WIDTH - LEFT - RIGHT), HEIGHT - 8, anchor(share), text
        )
        for share, text in ticks
    ]
    return line + Markup().join(labels)


def anchor(share: float) -> str:
    """Return where a label is held, so that those at the ends stay inside the picture."""
    return "start" if share < 0.03 else "end" if share > 0.97 else "middle"


def svg(label: str, *content: Markup, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Markup:
    """Return a picture with a sentence for those who do not see it."""
    return Markup('<svg role="img" viewBox="0 0 {} {}" aria-label="{}">{}</svg>').format(
        *size, label, Markup().join(content)
    )


def nice_step(seconds: float) -> float:
    """Return the smallest usual length of time of which at most six go into `seconds`."""
    minute, hour, day = 60, 3600, 86400
    usual = [0.5, 1, 2, 5, 10, 20, 30, minute, 2 * minute, 5 * minute, 10 * minute, 20 * minute, 30 * minute]
    usual += [hour, 2 * hour, 6 * hour, 12 * hour, *(day * 2**k for k in range(12))]
    return next((step for step in usual if seconds / step <= 6), seconds)


def clock(seconds: float) -> str:
    """Write a time in its largest unit: `90` -> `1.5 min`."""
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit:
            return f"{seconds / unit:g} {name}"
    return f"{seconds:g} s"
