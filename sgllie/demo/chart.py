"""The pictures beside the two pictures: histograms of luma, and the factor map."""

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.demo.preview import Side
from sgllie.enhancer import Factor

WIDTH, HEIGHT = 640, 150
"""Of a chart, in units of its view box."""
MAP_SIDE = 480
"""Pixels of the longer side of the picture of a factor map."""


def histograms(before: Side, after: Side) -> str:
    """Draw the luma of both pictures over each other, as SVG; the axis leads from black to white.

    The root of a share is drawn, so that what is rare is seen beside the one level on which most of a night lies.
    """
    highest = max(side.counts.max() for side in (before, after))
    sides = {"before": before, "after": after}
    paths = "".join(f'<path class="{name}" d="{outline(side.counts, highest)}"/>' for name, side in sides.items())
    said = f"Histograms of luma: the mean is {before.brightness:.2f} before and {after.brightness:.2f} after."
    box = f'viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none"'
    key = '<span class="before">before</span><span class="after">after</span>'
    ends = '<p class="ends"><span>black</span><span>luma</span><span>white</span></p>'
    return f'<p class="key">{key}</p><svg role="img" aria-label="{said}" {box}>{paths}</svg>{ends}'


def outline(counts: NDArray[np.int64], highest: int) -> str:
    """Return the SVG path of one histogram: counts of levels, darkest first; `highest` fills the chart."""
    tops = HEIGHT * (1 - np.sqrt(counts / highest))
    edges = np.linspace(0, WIDTH, len(counts) + 1)
    steps = " ".join(f"V{top:.1f} H{edge:.1f}" for top, edge in zip(tops, edges[1:], strict=True))
    return f"M0 {HEIGHT} {steps} V{HEIGHT} Z"


def map_picture(factor: Factor) -> bytes:
    """Return a factor map, h x w, as a JPEG in colours from its lowest value (dark blue) to its highest (yellow)."""
    low, high = float(factor.min()), float(factor.max())
    levels = np.rint((factor - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)
    height, width = levels.shape
    share = MAP_SIDE / max(height, width)
    size = max(round(width * share), 1), max(round(height * share), 1)
    kind = cv2.INTER_AREA if share < 1 else cv2.INTER_LINEAR
    coloured = cv2.applyColorMap(cv2.resize(levels, size, interpolation=kind), cv2.COLORMAP_VIRIDIS)
    return cv2.imencode(".jpg", coloured)[1].tobytes()
