"""Statistics of luma, against plain computations."""

import cv2
import numpy as np
import pytest

from sgllie.images import luma


@pytest.mark.parametrize("shape", [(1, 1), (64, 64), (256, 256), (257, 256), (300, 331)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_pixel_is_counted_once_in_images_of_any_size(shape: tuple[int, int], dtype: type) -> None:
    levels = np.iinfo(dtype).max + 1
    pixels = np.random.default_rng(0).integers(0, levels, shape).astype(dtype)
    pixels[: shape[0] // 2] = levels - 1  # equal neighbours share their places in the tables
    assert luma.histogram(pixels).tolist() == np.bincount(pixels.ravel(), minlength=levels).tolist()


def test_statistics_are_those_of_the_pixels() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (300, 331, 3)).astype(np.uint8)
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY) / 255
    measured = luma.measure(pixels)
    assert measured.mean == pytest.approx(grey.mean())
    assert measured.contrast == pytest.approx(grey.std())
    assert [measured.p5, measured.p50, measured.p95] == pytest.approx(
        np.percentile(grey, [5, 50, 95], method="inverted_cdf")
    )
