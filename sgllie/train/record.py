"""What an epoch looks like to people: curves, pictures, TensorBoard events; each as the bytes of a file."""

import io
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from sgllie.runs.schemas import Row
from sgllie.train.photographs import Photograph

THUMBNAIL = 256
TRAINING, VALIDATION = "training_", "validation_"
"""How the columns of a history begin, before the name of what was measured."""


def curves(history: Sequence[Row]) -> bytes:
    """Draw everything that was measured over epochs, as a PNG: a panel for each, training and validation in one."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    sides = (TRAINING, VALIDATION)
    measured = [name for name, value in history[0].items() if name.startswith(sides) and isinstance(value, float)]
    panels = list(dict.fromkeys(name.removeprefix(TRAINING).removeprefix(VALIDATION) for name in measured))
    columns = 3
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4 * columns, 2.6 * rows))
    figure.subplots_adjust(0.06, 0.05, 0.98, 0.95, wspace=0.25, hspace=0.4)
    epochs = [row["epoch"] for row in history]
    for axes, panel in zip(figure.subplots(rows, columns, squeeze=False).flat, panels, strict=False):
        for side in sides:
            if side + panel in measured:
                axes.plot(epochs, [row[side + panel] for row in history], marker=".", label=side.rstrip("_"))
        axes.set_title(panel.replace("_", " "))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(fontsize="small")
    for axes in figure.axes[len(panels) :]:
        axes.remove()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=80)
    return buffer.getvalue()


def pictures(columns: Sequence[Sequence[Photograph]]) -> bytes:
    """Draw a PNG with one row for each image and one column for each state of it (before, after).

    Args:
        columns: for each state the same number of H x W x 3 images, RGB, uint8.
    """
    size = (THUMBNAIL, THUMBNAIL)
    small = [[cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images] for images in columns]
    sheet = np.hstack([np.vstack(images) for images in small])
    return cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))[1].tobytes()


def events(scalars: Sequence[tuple[int, Row]]) -> bytes:
    """Write a TensorBoard event file of some steps and what was measured at each."""
    from tensorboardX import SummaryWriter

    with TemporaryDirectory(prefix="sgllie-") as scratch:
        with SummaryWriter(scratch) as writer:
            for step, row in scalars:
                for name, value in row.items():
                    writer.add_scalar(name.replace("_", "/", 1), value, step)
        return next(Path(scratch).iterdir()).read_bytes()


def events_name(epoch: int) -> str:
    """Return the name of an epoch's event file: TensorBoard joins the files of a folder in the order of their names."""
    return f"events.out.tfevents.{epoch:010d}.sgllie"
