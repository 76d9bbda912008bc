"""LOE: how often an enhanced image reverses which of two points is the lighter."""

import numpy as np
from numpy.typing import NDArray

from sgllie.metrics.colour import largest_channel, to_255
from sgllie.metrics.fidelity import check_pair

SHORT_SIDE = 50
LEVELS = 256


def lightness(image: NDArray) -> NDArray[np.intp]:
    """Return the largest channel, in 256 levels, of the pixels that are sampled: H x W (x 3) -> h x w."""
    step = max(1, min(image.shape[:2]) // SHORT_SIDE)
    sampled = largest_channel(image[step // 2 :: step, step // 2 :: step])
    return np.rint(to_255(sampled)).astype(np.intp)


def loe(image: NDArray, reference: NDArray) -> float:
    """Return the lightness order error against the image before; lower is better, 0 where no order is changed.

    For each sampled pixel, the number of sampled pixels to which its order (lighter or equal, against darker) is not
    the same in the two images; the mean of that. Lightness is max(R, G, B), in 256 levels. Sampled is every k-th pixel
    of every k-th row, k = floor(short side / 50), without averaging: so a strictly rising curve gives exactly 0, and
    two levels that become one count as an error. The value grows with the number of samples (50 x 67 for 4:3), as in
    the published definition. Source: Wang, Zheng, Hu and Li, "Naturalness preserved enhancement algorithm for
    non-uniform illumination images", IEEE TIP 2013.

    Args:
        image: the enhanced image, H x W x 3 RGB or H x W, uint8 or uint16.
        reference: the image before enhancement, of the same shape and depth.
    """
    check_pair(image, reference, "LOE")
    pairs = lightness(reference) * LEVELS + lightness(image)
    counts = np.bincount(pairs.ravel(), minlength=LEVELS * LEVELS).reshape(LEVELS, LEVELS)
    # below[i, j]: samples at most i light before and at most j after. Those at most as light as a sample before, but
    # lighter than it after (and the reverse), are what changed order.
    below = counts.cumsum(axis=0).cumsum(axis=1)
    changed = (below[:, -1:] - below) + (below[-1:, :] - below)
    return float((counts * changed).sum() / pairs.size)
