"""The curve as one fused GPU kernel: each level is read once, and written once.

`TRITON_INTERPRET=1` runs it on a CPU, which is how it is tested where there is no GPU.
"""

# mypy: allow-untyped-defs
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from sgllie.network.architecture import ITERATIONS

BLOCK = 1024
"""Levels for each program."""


@triton.jit
def factor_at(corner, low, high, left, right, down, sideways, mask):
    """Return the factor between four samples of a map; `corner` points to its first one."""
    above = tl.load(corner + low + left, mask, other=0.0)
    above += sideways * (tl.load(corner + low + right, mask, other=0.0) - above)
    below = tl.load(corner + high + left, mask, other=0.0)
    below += sideways * (tl.load(corner + high + right, mask, other=0.0) - below)
    return above + down * (below - above)


@triton.jit(do_not_specialize=["first_row"])
def curve_kernel(
    pixels,
    factor,
    enhanced,
    levels,
    first_row,
    rows,
    width,
    map_rows,
    map_columns,
    row_ratio,
    column_ratio,
    peak,
    strength,
    channels: tl.constexpr,
    maps: tl.constexpr,
    steps: tl.constexpr,
    block: tl.constexpr,
):
    """Enhance `block` of the levels of N x rows x width x channels."""
    level = tl.program_id(0) * block + tl.arange(0, block)
    mask = level < levels
    column = level // channels % width
    row = level // (channels * width) % rows + first_row
    image = (level // (channels * width * rows)).to(tl.int64)
    across = column.to(tl.float32) * column_ratio
    along = row.to(tl.float32) * row_ratio
    left = across.to(tl.int32)
    top = along.to(tl.int32)
    samples: tl.constexpr = channels * maps
    corner = factor + level % channels
    low = (image * map_rows + top) * map_columns * samples
    high = (image * map_rows + tl.minimum(top + 1, map_rows - 1)) * map_columns * samples
    right = tl.minimum(left + 1, map_columns - 1) * samples
    down, sideways = along - top, across - left
    left *= samples
    original = tl.load(pixels + level, mask, other=0).to(tl.float32)
    x = original / peak
    a = factor_at(corner, low, high, left, right, down, sideways, mask)
    for step in tl.static_range(steps):
        if maps > 1 and step > 0:
            a = factor_at(corner + step % maps * channels, low, high, left, right, down, sideways, mask)
        x += a * (x * x - x)
    blended = original + strength * (x * peak - original)
    rounded = tl.minimum(tl.maximum(blended + 0.5, 0.0), peak)
    tl.store(enhanced + level, rounded.to(tl.int32).to(enhanced.dtype.element_ty), mask)


def curve_rows(pixels: Tensor, factor: Tensor, first_row: int, scale: int, strength: float) -> Tensor:
    """Do what `torch_curve.curve_rows` does."""
    _, rows, width, channels = pixels.shape
    _, map_rows, map_columns, samples = factor.shape
    ratios = [(count - 1) / max(count * scale - 1, 1) for count in (map_rows, map_columns)]
    sizes: tuple[Any, ...] = (pixels.numel(), first_row, rows, width, map_rows, map_columns)
    enhanced = torch.empty_like(pixels)
    curve_kernel[(triton.cdiv(pixels.numel(), BLOCK),)](
        pixels,
        factor,
        enhanced,
        *sizes,
        *ratios,
        float(torch.iinfo(pixels.dtype).max),
        float(strength),
        channels=channels,
        maps=samples // channels,
        steps=ITERATIONS,
        block=BLOCK,
    )
    return enhanced
