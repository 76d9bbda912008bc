"""Between video frames and RGB pictures, against the formulas of ITU-T H.273 and against FFmpeg."""

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from hypothesis import given
from hypothesis import strategies as st

from sgllie.video import yuv

TAGS = [(matrix, colour_range) for matrix in (1, 2, 5, 9) for colour_range in (1, 2)]
EXACT = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)


def flat(colour, dtype=np.uint8, size=(4, 6)):
    return np.broadcast_to(np.array(colour, dtype), (*size, 3)).copy()


@pytest.mark.parametrize(("matrix", "colour_range"), TAGS)
def test_one_colour_is_the_formula(matrix, colour_range):
    red, green, blue = 200, 90, 30
    kr, kb = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}.get(matrix, (0.299, 0.114))
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    chroma = (blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)
    expected = [luma, *(value + 128 for value in chroma)]
    if colour_range == 1:
        expected = [16 + luma * 219 / 255, *(value * 224 / 255 + 128 for value in chroma)]
    frame = yuv.to_frame(flat((red, green, blue)), "yuv420p", matrix, colour_range)
    for plane, value in zip(yuv.planes(frame), expected, strict=True):
        assert np.abs(plane - value).max() <= 0.51
    assert np.abs(yuv.to_rgb(frame).astype(int) - (red, green, blue)).max() <= 2


@pytest.mark.parametrize("level", [0, 1, 2, 17, 128, 254, 255])
@pytest.mark.parametrize(("pixel_format", "dtype", "unit"), [("yuv420p", np.uint8, 1), ("yuv420p10le", np.uint16, 257)])
def test_grey_comes_back(level, pixel_format, dtype, unit):
    grey = flat([level * unit] * 3, dtype)
    back = yuv.to_rgb(yuv.to_frame(grey, pixel_format, 1, 2)).astype(int)
    assert np.abs(back - grey).max() <= unit // 2


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000), st.sampled_from(TAGS))
def test_smooth_pictures_come_back(half_height, half_width, seed, tags):
    """And colours do not drift sideways: chroma is read where it was written."""
    height, width = 2 * half_height, 2 * half_width
    corner, along, down = np.random.default_rng(seed).uniform(-1, 1, (3, 3))
    slope = along * np.arange(width)[:, None] + down * np.arange(height)[:, None, None]
    picture = np.clip(128 + 60 * corner + slope, 0, 255).astype(np.uint8)
    back = yuv.to_rgb(yuv.to_frame(picture, "yuv420p", *tags))
    assert np.abs(back.astype(int) - picture).max() <= 4
    assert abs(float(back.mean()) - float(picture.mean())) < 1.5


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 1000))
def test_any_size_and_any_noise_is_what_ffmpeg_makes_of_it(height, width, seed):
    """FFmpeg interpolates chroma a little differently, so colour is constant here and luma is noise.

    It also lets far colours that no camera makes run over to black, hence the bounds.
    """
    frame = av.VideoFrame(width, height, "yuv420p")
    frame.colorspace, frame.color_range = 1, 1
    luma, blue, red = yuv.planes(frame)
    generator = np.random.default_rng(seed)
    luma[:] = generator.integers(60, 200, luma.shape)
    blue[:], red[:] = generator.integers(96, 160, 2)
    found = VideoReformatter().reformat(frame, format="rgb24", dst_color_range=ColorRange.JPEG, interpolation=EXACT)
    assert np.abs(yuv.to_rgb(frame).astype(int) - found.to_ndarray()).max() <= 2
