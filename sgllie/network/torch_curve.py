"""The curve on some rows of images, in plain torch: a pass over the rows for each of its operations.

`triton_curve` does the same in one pass. Both are given tiles, so that what lies between the passes is small.
"""

import torch
from torch import Tensor

from sgllie.network.model import curve


def curve_rows(pixels: Tensor, factor: Tensor, first_row: int, scale: int, strength: float) -> Tensor:
    """Stretch the factor map, run the eight steps of the curve, blend with the input, round.

    Args:
        pixels: N x R x W x C, uint8 or uint16: R rows of N images.
        factor: N x h x w x (maps * C), float32, of the whole images.
        first_row: of the images, where the rows begin.
        scale: the factor between map and image.
        strength: 0 gives the input back, 1 the curve.

    Returns:
        The enhanced rows, of the shape and type of `pixels`.
    """
    _, rows, width, _ = pixels.shape
    peak = torch.iinfo(pixels.dtype).max
    levels = pixels.permute(0, 3, 1, 2).float()
    lines = stretch(factor.permute(0, 3, 1, 2), 2, first_row, rows, scale)  # first, since it needs few of them
    stretched = stretch(lines, 3, 0, width, scale)
    enhanced = curve(levels / peak, stretched) * peak
    if strength != 1:
        enhanced = torch.lerp(levels, enhanced, strength)
    return (enhanced + 0.5).clamp(0, peak).to(pixels.dtype).permute(0, 2, 3, 1).contiguous()


def stretch(factor: Tensor, axis: int, first: int, count: int, scale: int) -> Tensor:
    """Stretch an axis bilinearly, `align_corners=True`, to `scale` times its length.

    Returns:
        `count` values along that axis, from `first`.
    """
    samples = factor.shape[axis]
    position = torch.arange(first, first + count, dtype=torch.float64) * ((samples - 1) / max(samples * scale - 1, 1))
    lower = position.long()
    upper = (lower + 1).clamp(max=samples - 1)
    shape = [1] * factor.dim()
    shape[axis] = count
    weight = (position - lower).float().reshape(shape).to(factor.device)
    low, high = (factor.index_select(axis, index.to(factor.device)) for index in (lower, upper))
    return torch.lerp(low, high, weight)
