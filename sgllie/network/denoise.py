"""Images without the noise that brightening would amplify: CPU kernels, in strips of rows.

The noise n of a pixel is what a local Wiener filter takes away (Lee, "Digital Image Enhancement and Noise Filtering by
Use of Local Statistics", IEEE PAMI 1980): with mean m and variance v of 3 x 3 pixels and the variance s of the noise at
this brightness,

    n = (x - m) min(k s / v, 1)

so edges, whose v is large, are kept. What is left of coarser noise is taken away in the same manner from the picture at
half its size. Luma, B - Y and R - Y are filtered apart. Noise is put back as it was, not as it would be amplified: with
the enhancement C, the result is C(x - n) and as much of C(x) - C(x - n) as n is large. Where C amplifies nothing, that
is C(x).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sgllie.kernel import kernel, kernel_part
from sgllie.network.kernels import Image
from sgllie.network.noise import Noise

STRIP = 128
"""Rows that are filtered together."""
HALO = 6
"""Rows above and below, by which the noise of a row depends on others; even, as a strip is, for the halved picture."""
FINE, COARSE = 1.5, 0.3
"""k at full size, and at half of it, where some of the noise is gone: the best of those that were tried."""
CHROMA = 1.5
"""Chroma is filtered so much more: eyes see noise of colour sooner than its details."""


@kernel_part
def split_row(samples: Any, unit: Any, luma: Any, blue: Any, red: Any) -> None:
    """Fill luma, B - Y and R - Y of one row of W * C samples; of a grey one luma alone. All are in levels of 255.

    With rows of W x C the compiler would not know how far apart the samples are, and would vectorise nothing.
    """
    if len(samples) == len(luma):
        for x in range(len(luma)):
            luma[x] = unit * np.float32(samples[x])
    else:
        for x in range(len(luma)):
            r, g = unit * np.float32(samples[3 * x]), unit * np.float32(samples[3 * x + 1])
            b = unit * np.float32(samples[3 * x + 2])
            level = np.float32(0.299) * r + np.float32(0.587) * g + np.float32(0.114) * b
            luma[x] = level
            blue[x] = b - level
            red[x] = r - level


@kernel_part
def limits_of(luma: Any, variances: Any, small: Any, limits: Any) -> None:
    """Look the variance of the noise up by the mean luma of 2 x 2 pixels: h x w, rounded up, and H x W."""
    height, width = luma.shape
    rows, columns = small.shape
    quarter, zero = np.float32(0.25), np.float32(0)
    for y in range(rows):
        above, below = luma[2 * y], luma[min(2 * y + 1, height - 1)]
        row = small[y]
        for x in range(columns):
            right = min(2 * x + 1, width - 1)
            mean = (above[2 * x] + above[right] + below[2 * x] + below[right]) * quarter
            row[x] = variances[min(np.int32(max(mean, zero)), 255)]
        for x in range(width // 2):
            limits[2 * y, 2 * x] = row[x]
            limits[2 * y, 2 * x + 1] = row[x]
        if width % 2:
            limits[2 * y, width - 1] = row[columns - 1]
        if 2 * y + 1 < height:
            limits[2 * y + 1] = limits[2 * y]


@kernel_part
def filter_plane(plane: Any, limits: Any, share: Any, noise: Any) -> None:
    """Fill the noise of a plane, H x W; `limits` times `share` are the variances that count as noise."""
    height, width = plane.shape
    sums, squares = np.empty(width + 2, np.float32), np.empty(width + 2, np.float32)
    ninth, zero, least, one = np.float32(1 / 9), np.float32(0), np.float32(1e-6), np.float32(1)
    for y in range(height):
        above, here, below = plane[max(y - 1, 0)], plane[y], plane[min(y + 1, height - 1)]
        for x in range(width):
            sums[x + 1] = above[x] + here[x] + below[x]
            squares[x + 1] = above[x] * above[x] + here[x] * here[x] + below[x] * below[x]
        sums[0], squares[0] = sums[1], squares[1]
        sums[width + 1], squares[width + 1] = sums[width], squares[width]
        limit, result = limits[y], noise[y]
        for x in range(width):
            mean = (sums[x] + sums[x + 1] + sums[x + 2]) * ninth
            variance = max((squares[x] + squares[x + 1] + squares[x + 2]) * ninth - mean * mean, zero)
            result[x] = (here[x] - mean) * min(share * limit[x] / max(variance, least), one)


@kernel_part
def halve(plane: Any, noise: Any, added: Any, small: Any) -> None:
    """Fill the means of 2 x 2 pixels of a plane less its noise: H x W -> h x w, rounded up, the edge repeated.

    `added` has room for 2 * w values.
    """
    height, width = plane.shape
    rows, columns = small.shape
    quarter = np.float32(0.25)
    for y in range(rows):
        top, bottom = 2 * y, min(2 * y + 1, height - 1)
        for x in range(width):
            added[x] = plane[top, x] - noise[top, x] + plane[bottom, x] - noise[bottom, x]
        added[2 * columns - 1] = added[width - 1]
        for x in range(columns):
            small[y, x] = (added[2 * x] + added[2 * x + 1]) * quarter


@kernel_part
def add_doubled(small: Any, mixed: Any, noise: Any) -> None:
    """Add a picture of half the size, bilinear, to H x W; `mixed` has room for one of its rows and two more."""
    height, width = noise.shape
    rows, columns = small.shape
    near, far = np.float32(0.75), np.float32(0.25)
    for y in range(height):
        one, other = small[y // 2], small[min(max(y // 2 - 1 + 2 * (y % 2), 0), rows - 1)]
        for x in range(columns):
            mixed[x + 1] = near * one[x] + far * other[x]
        mixed[0], mixed[columns + 1] = mixed[1], mixed[columns]
        row = noise[y]
        for x in range(width // 2):
            row[2 * x] += near * mixed[x + 1] + far * mixed[x]
            row[2 * x + 1] += near * mixed[x + 1] + far * mixed[x + 2]
        if width % 2:
            row[width - 1] += near * mixed[columns] + far * mixed[columns - 1]


@kernel_part
def strip_noise(image: Image, unit: Any, variances: Any, chroma: Any, full: Any, small: Any, noise: Any) -> None:
    """Fill the noise of some rows of an image, in levels of 255.

    Args:
        image: those rows, R x W x C; the first is an even one.
        unit: what an integer of it is in levels of 255.
        variances: as in `noise.Noise`.
        chroma: the same.
        full: room, 4 x R' x W for R' >= R.
        small: the same for pictures of half the size, 3 x r' x w.
        noise: the result: C x R' x W, of luma, B - Y and R - Y.
    """
    height, width, channels = image.shape
    rows = (height + 1) // 2
    # A plane first, then some of its rows: arrays that are known to be contiguous, else nothing is vectorised.
    limits = full[3][:height]
    means, small_limits, small_noise = small[0][:rows], small[1][:rows], small[2][:rows]
    line = np.empty(2 * means.shape[1] + 2, np.float32)
    pixels = image.reshape(height, width * channels)
    for y in range(height):
        split_row(pixels[y], unit, full[0, y], full[1, y], full[2, y])
    limits_of(full[0][:height], variances, small_limits, limits)
    for plane in range(channels):
        share = np.float32(1) if plane == 0 else np.float32(CHROMA) * chroma[plane - 1]
        levels, found = full[plane][:height], noise[plane][:height]
        if share == 0:
            found[:] = share
            continue
        filter_plane(levels, limits, share * np.float32(FINE), found)
        halve(levels, found, line, means)
        filter_plane(means, small_limits, share * np.float32(COARSE), small_noise)
        add_doubled(small_noise, line, found)


@kernel_part
def join_row(luma: Any, blue: Any, red: Any, samples: Any) -> None:
    """Fill one row of W * C samples from luma, B - Y and R - Y; of a grey one from luma alone."""
    width = len(luma)
    if len(samples) == width:
        samples[:] = luma
    else:
        to_green_blue, to_green_red = np.float32(0.114 / 0.587), np.float32(0.299 / 0.587)
        for x in range(width):
            samples[3 * x] = luma[x] + red[x]
            samples[3 * x + 1] = luma[x] - to_green_red * red[x] - to_green_blue * blue[x]
            samples[3 * x + 2] = luma[x] + blue[x]


@kernel_part
def quiet_row(pixels: Any, noise: Any, unit: Any, quiet: Any) -> None:
    """Fill one row of samples of 65535, without their noise in levels of 255; `unit` as in `strip_noise`."""
    deep, zero, half, peak = np.float32(257), np.float32(0), np.float32(0.5), np.float32(65535)
    for i in range(len(pixels)):
        level = (np.float32(pixels[i]) * unit - noise[i]) * deep
        quiet[i] = np.int32(min(max(level, zero), peak) + half)


@kernel
def take_noise(image: Image, variances: Any, chroma: Any, strip: int, quiet: Any) -> None:
    """Fill an image of 16 bits with another one, H x W x C, less its noise (see `noise.Noise`)."""
    height, width, channels = image.shape
    unit = np.float32(255 / np.iinfo(image.dtype).max)
    tall = min(strip + 2 * HALO, height)
    full = np.empty((4, tall, width), np.float32)
    small = np.empty((3, (tall + 1) // 2, (width + 1) // 2), np.float32)
    noise = np.empty((channels, tall, width), np.float32)
    samples = np.empty(width * channels, np.float32)
    pixels = image.reshape(height, width * channels)
    result = quiet.reshape(height, width * channels)
    for top in range(0, height, strip):
        bottom = min(top + strip, height)
        first, last = max(top - HALO, 0), min(bottom + HALO, height)
        strip_noise(image[first:last], unit, variances, chroma, full, small, noise)
        for y in range(top, bottom):
            row = y - first
            # Of a grey image there is one plane, and the others are not looked at.
            join_row(noise[0, row], noise[channels // 3, row], noise[channels - 1, row], samples)
            quiet_row(pixels[y], samples, unit, result[y])


@kernel
def limit_samples(pixels: Any, quiet: Any, bright: Any, quiet_bright: Any) -> None:
    """Let the noise in `bright` be no larger than in `pixels`: all are rows of samples, the `quiet` ones of 16 bits."""
    # Floats hold these integers exactly, and are not divided one by one.
    deep, half = np.float32(65535 // np.iinfo(pixels.dtype).max), np.float32(0.5)
    shallow = np.float32(1) / deep
    for i in range(len(pixels)):
        noise = abs(np.float32(pixels[i]) * deep - np.float32(quiet[i]))
        base = np.float32(quiet_bright[i])
        more = min(max(np.float32(bright[i]) * deep - base, -noise), noise)
        bright[i] = np.int32((base + more) * shallow + half)


def quieted(image: Image, noise: Noise, strip: int = STRIP) -> NDArray[np.uint16]:
    """Return an image, H x W x C, without its noise, in 16 bits; `strip` rows are filtered together, an even number."""
    quiet = np.empty(image.shape, np.uint16)
    take_noise(image, noise.variances, noise.chroma, strip, quiet)
    return quiet


def limit_noise(image: Image, quiet: Image, bright: Image, quiet_bright: Image) -> None:
    """Change `bright`, in place, so that no noise is amplified.

    Args:
        image: H x W x C.
        quiet: what `quieted` made of it.
        bright: the image enhanced.
        quiet_bright: `quiet` enhanced.
    """
    limit_samples(image.reshape(-1), quiet.reshape(-1), bright.reshape(-1), quiet_bright.reshape(-1))
