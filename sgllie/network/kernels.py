"""Fused CPU kernels: the curve in one pass over the pixels, and the bilinear samples that the network looks at.

The plain torch path reads and writes the whole image eight times in float; here each row is upsampled, curved and
rounded while it lies in the first-level cache. All kernels release the GIL, so that threads run them side by side.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgllie.kernel import kernel, kernel_part
from sgllie.network.architecture import ITERATIONS

Image = NDArray[Any]
"""H x W x C, C-contiguous, uint8 or uint16."""


@kernel
def downscale(image: Image, scale: int, peak: float, small: NDArray[np.float32]) -> None:
    """Take bilinear samples with `align_corners=False` of an image padded by its edge to multiples of `scale`.

    Args:
        image: H x W x C.
        scale: the factor; the samples are `scale` pixels apart.
        peak: the value that stands for 1.0 (255 or 65535).
        small: the result, 3 x ceil(H / scale) x ceil(W / scale); the one channel of a grey image is repeated.
    """
    height, width, channels = image.shape
    _, rows, columns = small.shape
    offset = (scale - 1) // 2
    # An even factor samples half-way between two pixels, an odd one hits a pixel.
    step = 1 - scale % 2
    share = np.float32(0.25 / peak)
    for i in range(rows):
        top = min(i * scale + offset, height - 1)
        bottom = min(i * scale + offset + step, height - 1)
        for j in range(columns):
            left = min(j * scale + offset, width - 1)
            right = min(j * scale + offset + step, width - 1)
            for k in range(3):
                c = min(k, channels - 1)
                total = (
                    np.float32(image[top, left, c])
                    + np.float32(image[top, right, c])
                    + np.float32(image[bottom, left, c])
                    + np.float32(image[bottom, right, c])
                )
                small[k, i, j] = total * share


@kernel_part
def columns_between(columns: int, scale: int, width: int) -> tuple[Any, Any]:
    """Find where in a row of pixels each column of the factor map begins, and how far each pixel is from its own."""
    starts = np.full(columns + 1, width, np.int32)
    weight = np.empty(width, np.float32)
    ratio = (columns - 1) / max(columns * scale - 1, 1)
    for x in range(width - 1, -1, -1):
        position = x * ratio
        starts[int(position)] = x
        weight[x] = position - int(position)
    return starts, weight


@kernel_part
def stretch_row(row: Any, starts: Any, weight: Any, channels: Any, wide: Any) -> None:
    """Stretch one row of the factor map, w * C, to the full width of the image, W * C.

    Column by column: to look up the two neighbours of each sample takes gathers, which some processors do slowly.
    """
    last = len(starts) - 2
    for column in range(last + 1):
        left, right = column * channels, min(column + 1, last) * channels
        for x in range(starts[column], starts[column + 1]):
            for channel in range(channels):
                value = row[left + channel]
                wide[x * channels + channel] = value + weight[x] * (row[right + channel] - value)


@kernel_part
def curve_row(
    pixels: Any, above: Any, below: Any, down: Any, peak: Any, strength: Any, levels: Any, result: Any
) -> None:
    """Apply the curve to one row of W * C samples, with a factor `down` of the way from `above` to `below`.

    `above` and `below` are maps x (W * C), `levels` has room for W * C. All arguments are float32, since one float64
    would halve the speed. Three loops, since the one in the middle is bound by arithmetic and needs all registers:
    integers are turned into floats before it; rounding, and the blend that few ask for, come after it.
    """
    unit, half = np.float32(1.0) / peak, np.float32(0.5)
    black, white = np.int32(0), np.int32(np.iinfo(result.dtype).max)
    for i in range(len(pixels)):
        levels[i] = np.float32(pixels[i]) * unit
    if above.shape[0] == 1:
        for i in range(len(pixels)):
            a = above[0, i] + down * (below[0, i] - above[0, i])
            x = levels[i]
            for _ in range(ITERATIONS):
                x = x + a * (x * x - x)
            levels[i] = x
    else:
        for i in range(len(pixels)):
            x = levels[i]
            for step in range(ITERATIONS):
                a = above[step, i] + down * (below[step, i] - above[step, i])
                x = x + a * (x * x - x)
            levels[i] = x
    if strength == 1:
        for i in range(len(pixels)):
            # The limits are never met, but let the compiler pack 16 integers with one saturating instruction.
            result[i] = min(max(np.int32(levels[i] * peak + half), black), white)
    else:
        for i in range(len(pixels)):
            original = np.float32(pixels[i])
            result[i] = np.int32(original + strength * (levels[i] * peak - original) + half)


@kernel
def apply_curve(
    image: Image, factor: NDArray[np.float32], scale: int, peak: float, strength: float, enhanced: Image
) -> None:
    """Upsample the factor map, run the eight steps of the curve, blend with the input, round: one pass.

    The map is stretched to the width of the image once for each of its rows (bilinear, `align_corners=True`), and
    blended between two rows for each pixel, so that the inner loop reads only contiguous memory and is vectorised.

    Args:
        image: H x W x C.
        factor: maps x h x (w * C), h = ceil(H / scale); one map serves all steps, eight serve one each.
        scale: the factor between map and image.
        peak: the value that stands for 1.0 (255 or 65535).
        strength: 0 gives the input back, 1 the curve.
        enhanced: the result, of the shape and type of `image`.
    """
    height, width, channels = image.shape
    maps, rows, map_samples = factor.shape
    pixels = image.reshape(height, width * channels)
    result = enhanced.reshape(height, width * channels)
    starts, sideways = columns_between(map_samples // channels, scale, width)
    stretched = np.empty((2, maps, width * channels), np.float32)
    levels = np.empty(width * channels, np.float32)
    # Turned once: within the loop the conversion alone was measured to cost a twentieth.
    peak_level, share = np.float32(peak), np.float32(strength)
    newest = -1
    ratio = (rows - 1) / max(rows * scale - 1, 1)
    for y in range(height):
        row = int(y * ratio)
        next_row = min(row + 1, rows - 1)
        while newest < next_row:
            newest += 1
            for m in range(maps):
                if channels == 3:  # a constant, by which the compiler unrolls the loop over the channels
                    stretch_row(factor[m, newest], starts, sideways, 3, stretched[newest % 2, m])
                else:
                    stretch_row(factor[m, newest], starts, sideways, 1, stretched[newest % 2, m])
        down = np.float32(y * ratio - row)
        above, below = stretched[row % 2], stretched[next_row % 2]
        curve_row(pixels[y], above, below, down, peak_level, share, levels, result[y])


@kernel
def mean_and_range(values: NDArray[np.float32]) -> tuple[float, float, float]:
    """Return mean, lowest and highest of a row of values."""
    total, lowest, highest = 0.0, values[0], values[0]
    for value in values:
        total += value
        lowest, highest = min(lowest, value), max(highest, value)
    return total / len(values), lowest, highest
