"""Between 4:2:0 video frames and RGB pictures, exactly and several times as fast as swscale's exact ways.

Chroma samples lie left of the middle of their 2 x 2 block, as in H.264 and H.265 where nothing else is said (ITU-T
H.264, figure E-1, type 0). Going to RGB they are interpolated linearly; coming back they are the mean of two rows and
of the weights 1, 2, 1 along the row. Values are those of ITU-T H.273, 8.3: Y' = kr R' + (1 - kr - kb) G' + kb B'.
"""

from typing import Any, NamedTuple

import av
import numpy as np
from numpy.typing import NDArray

from sgllie.enhancer import Pixels
from sgllie.kernel import kernel, kernel_part

FORMATS = {"yuv420p": 8, "yuvj420p": 8, "yuv420p10le": 10}
"""The pixel formats that are converted here, and their bits."""

LUMA_WEIGHTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 7: (0.212, 0.087), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
"""kr and kb by matrix coefficients (ITU-T H.273, table 4)."""
BT601 = (0.299, 0.114)
"""What a video without the tag is taken for, as FFmpeg does."""

FULL = 2
"""The colour range in which 0 is black and the highest value white."""


class Levels(NamedTuple):
    """What the numbers of a frame mean: black, white less black and chroma's range in levels, and both weights."""

    black: float
    luma_range: float
    chroma_range: float
    zero: float
    kr: float
    kb: float


def levels(bits: int, matrix: int, colour_range: int) -> Levels:
    """Return the meaning of the numbers, by depth and the tags of ITU-T H.273."""
    unit = 2.0 ** (bits - 8)
    kr, kb = LUMA_WEIGHTS.get(matrix, BT601)
    if colour_range == FULL:
        peak = 2.0**bits - 1
        return Levels(0.0, peak, peak, 128 * unit, kr, kb)
    return Levels(16 * unit, 219 * unit, 224 * unit, 128 * unit, kr, kb)


def to_rgb(frame: av.VideoFrame) -> Pixels:
    """Return a frame of one of FORMATS as H x W x 3 pixels, full range: uint8, or uint16 for more than 8 bits."""
    bits = FORMATS[frame.format.name]
    colour_range = FULL if frame.format.name == "yuvj420p" else int(frame.color_range)
    dtype = np.uint8 if bits == 8 else np.uint16
    pixels = np.empty((frame.height, frame.width, 3), dtype)
    meaning = np.array(levels(bits, int(frame.colorspace), colour_range), np.float32)
    luma, blue, red = planes(frame)
    lines = pixels.reshape(frame.height, -1)
    for rows in fields(frame.height, frame.interlaced_frame):
        decode_planes(luma[rows], blue[rows], red[rows], meaning, np.float32(np.iinfo(dtype).max), lines[rows])
    return pixels


def to_frame(
    pixels: Pixels, pixel_format: str, matrix: int, colour_range: int, *, interlaced: bool = False
) -> av.VideoFrame:
    """Return H x W x 3 pixels of even height and width as a frame of one of FORMATS, with these tags."""
    height, width = pixels.shape[:2]
    frame = av.VideoFrame(width, height, pixel_format)
    frame.colorspace, frame.color_range = matrix, colour_range
    meaning = np.array(levels(FORMATS[pixel_format], matrix, colour_range), np.float32)
    luma, blue, red = planes(frame)
    peak = np.float32(np.iinfo(pixels.dtype).max)
    lines = np.ascontiguousarray(pixels).reshape(height, -1)
    for rows in fields(height, interlaced):
        encode_planes(lines[rows], meaning, peak, luma[rows], blue[rows], red[rows])
    return frame


def fields(height: int, interlaced: bool) -> tuple[slice, ...]:
    """Return the rows that were taken at one moment, whose chroma must not mix with that of the others."""
    return (slice(0, None, 2), slice(1, None, 2)) if interlaced and height % 4 == 0 else (slice(None),)


def planes(frame: av.VideoFrame) -> list[NDArray[Any]]:
    """Return the three planes of a frame, as arrays of its own memory."""
    dtype = np.dtype(np.uint8 if FORMATS[frame.format.name] == 8 else np.uint16)
    found = []
    for plane in frame.planes:
        lines = np.frombuffer(plane, dtype)  # type: ignore[call-overload]
        found.append(lines.reshape(-1, plane.line_size // dtype.itemsize)[: plane.height, : plane.width])
    return found


@kernel_part
def upsample_chroma(near: Any, far: Any, scale: Any, zero: Any, mixed: Any, wide: Any) -> None:
    """Fill one row of chroma at full width: three parts of the nearer row and one of the other, linear along the row.

    `mixed` has room for one value more than `near`. Written in one loop this is not vectorised, and takes seven times
    as long.
    """
    count = len(near)
    for i in range(count):
        value = np.float32(0.75) * np.float32(near[i]) + np.float32(0.25) * np.float32(far[i])
        mixed[i] = (value - zero) * scale
    mixed[count] = mixed[count - 1]
    for i in range(count):
        wide[2 * i] = mixed[i]
        wide[2 * i + 1] = np.float32(0.5) * (mixed[i] + mixed[i + 1])


@kernel_part
def rgb_row(luma: Any, blue: Any, red: Any, black: Any, scale: Any, kr: Any, kb: Any, peak: Any, row: Any) -> None:
    """Fill one row of pixels; chroma is given as B' - Y' and R' - Y' at the scale of the result."""
    half, nothing = np.float32(0.5), np.float32(0)
    kg = np.float32(1) - kr - kb
    for x in range(len(luma)):
        y = (np.float32(luma[x]) - black) * scale
        r = y + red[x]
        b = y + blue[x]
        g = y - (kr * red[x] + kb * blue[x]) / kg
        row[3 * x] = np.int32(min(max(r, nothing), peak) + half)
        row[3 * x + 1] = np.int32(min(max(g, nothing), peak) + half)
        row[3 * x + 2] = np.int32(min(max(b, nothing), peak) + half)


@kernel
def decode_planes(luma: Any, blue: Any, red: Any, meaning: Any, peak: Any, lines: Any) -> None:
    """Fill H x 3W samples of RGB from three planes; `meaning` is a `Levels` as float32, `peak` the samples' white."""
    height = len(luma)
    rows, columns = blue.shape
    black, luma_range, chroma_range, zero, kr, kb = meaning
    mixed = np.empty(columns + 1, np.float32)
    wide = np.empty((2, 2 * columns), np.float32)
    to_blue = peak / chroma_range * np.float32(2) * (np.float32(1) - kb)
    to_red = peak / chroma_range * np.float32(2) * (np.float32(1) - kr)
    for y in range(height):
        near = y // 2
        far = min(max(near - 1 + 2 * (y % 2), 0), rows - 1)
        upsample_chroma(blue[near], blue[far], to_blue, zero, mixed, wide[0])
        upsample_chroma(red[near], red[far], to_red, zero, mixed, wide[1])
        rgb_row(luma[y], wide[0], wide[1], black, peak / luma_range, kr, kb, peak, lines[y])


@kernel_part
def luma_row(row: Any, unit: Any, kr: Any, kb: Any, luma: Any, blue: Any, red: Any) -> None:
    """Fill Y' of one row of pixels, 0 to 1; B' - Y' and R' - Y' are added to what is there."""
    kg = np.float32(1) - kr - kb
    for x in range(len(luma)):
        r, g, b = np.float32(row[3 * x]), np.float32(row[3 * x + 1]), np.float32(row[3 * x + 2])
        y = (kr * r + kg * g + kb * b) * unit
        luma[x] = y
        blue[x] += b * unit - y
        red[x] += r * unit - y


@kernel_part
def downsample_chroma(wide: Any, scale: Any, zero: Any, chroma: Any) -> None:
    """Fill one row of chroma samples from the sum of two rows at full width."""
    half = np.float32(0.5)
    highest = np.float32(2) * zero - np.float32(1)
    for i in range(len(chroma)):
        left = wide[2 * i - 1] if i else wide[0]
        mean = (left + np.float32(2) * wide[2 * i] + wide[2 * i + 1]) * np.float32(0.125)
        chroma[i] = np.int32(min(max(mean * scale + zero + half, np.float32(0)), highest))


@kernel
def encode_planes(lines: Any, meaning: Any, peak: Any, luma: Any, blue: Any, red: Any) -> None:
    """Fill three planes from H x 3W samples of RGB, H and W even; arguments as of `decode_planes`."""
    height, width = luma.shape
    black, luma_range, chroma_range, zero, kr, kb = meaning
    half = np.float32(0.5)
    row = np.empty(width, np.float32)
    wide = np.empty((2, width), np.float32)
    to_blue = chroma_range / (np.float32(2) * (np.float32(1) - kb))
    to_red = chroma_range / (np.float32(2) * (np.float32(1) - kr))
    for block in range(height // 2):
        wide[:] = 0
        for y in range(2 * block, 2 * block + 2):
            luma_row(lines[y], np.float32(1) / peak, kr, kb, row, wide[0], wide[1])
            for x in range(width):
                luma[y, x] = np.int32(row[x] * luma_range + black + half)
        downsample_chroma(wide[0], to_blue, zero, blue[block])
        downsample_chroma(wide[1], to_red, zero, red[block])
