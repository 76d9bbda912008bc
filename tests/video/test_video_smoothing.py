"""Brightness that does not flicker: what is smoothed, how much it helps, and where it begins anew."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clips import decoded, pan, pictures, static, write_clip
from sgllie.errors import UsageError
from sgllie.metrics.flicker import measure_flicker
from sgllie.video.clip import Encoding, enhance_video
from sgllie.video.smoothing import Smoother

LOSSLESS = Encoding("ffv1")


def smoothed(enhancer, frames, smoothing):
    """The frames enhanced one after another, without a file."""
    smoother = Smoother(smoothing)
    return [enhancer.apply(frame, smoother(frame, enhancer.factor_map(frame))[0]) for frame in frames]


@pytest.mark.parametrize("clip", [static, pan])
@pytest.mark.parametrize("name", ["coffee.jpg", "chelsea.webp"])
def test_smoothing_takes_two_thirds_of_the_flicker(enhancer, clip, name):
    frames = clip(50, name=name)
    alone = measure_flicker(smoothed(enhancer, frames, 0), frames)
    together = measure_flicker(smoothed(enhancer, frames, 0.9), frames)
    assert together.change <= alone.change / 3
    assert together.warping_error <= alone.warping_error
    if clip is static:
        assert together.variance <= alone.variance / 3


@pytest.mark.parametrize("names", [("coffee.jpg", "rocket.jpg"), ("chelsea.webp", "coffee.jpg")])
def test_a_new_scene_has_its_full_brightness_at_once(tmp_path, enhancer, names):
    frames = static(20, name=names[0]) + static(20, name=names[1], seed=5)
    source = write_clip(tmp_path / "in.mp4", frames)
    rows = enhance_video(str(source), tmp_path / "out.mkv", enhancer, encoding=LOSSLESS)
    assert [number for number, row in enumerate(rows) if row.cut] == [20]
    alone = [enhancer(frame) for frame in decoded(source)]
    assert np.array_equal(pictures(tmp_path / "out.mkv")[20], alone[20])


def test_a_pan_is_no_cut(enhancer):
    frames = pan(40, name="coffee.jpg")
    smoother = Smoother(0.9)
    assert not any(smoother(frame, enhancer.factor_map(frame))[1] for frame in frames[::4])


def test_without_smoothing_each_frame_is_enhanced_by_itself(tmp_path, enhancer):
    source = write_clip(tmp_path / "in.mp4", pan(12))
    enhance_video(str(source), tmp_path / "out.mkv", enhancer, temporal_smoothing=0, encoding=LOSSLESS)
    for found, frame in zip(pictures(tmp_path / "out.mkv"), decoded(source), strict=True):
        assert np.array_equal(found, enhancer(frame))


def test_the_map_is_smoothed_and_not_the_frame(tmp_path, enhancer):
    """A bright square jumps over a dark scene: where it has been nothing is left of it but its own map's glow."""
    frames = []
    for number in range(10):
        frame = np.full((96, 160, 3), 20, np.uint8)
        frame[40:56, 8 + 14 * number : 24 + 14 * number] = 220
        frames.append(frame)
    source = write_clip(tmp_path / "in.mkv", frames, codec="ffv1", pixels="bgr0", options={"level": "3"}, sound=False)
    enhance_video(str(source), tmp_path / "out.mkv", enhancer, encoding=LOSSLESS)
    out, smoother = pictures(tmp_path / "out.mkv"), Smoother(0.9)
    for frame, found in zip(frames, out, strict=True):
        factor, _ = smoother(frame, enhancer.factor_map(frame))
        assert np.array_equal(found, enhancer.apply(frame, factor))
    edges = np.abs(np.diff(out[-1].astype(int), axis=1)).max(axis=2)[48]
    assert {int(column) for column in np.flatnonzero(edges > 40)} == {8 + 14 * 9 - 1, 24 + 14 * 9 - 1}


def test_smoothing_zero_is_the_map_itself():
    factors = np.random.default_rng(0).uniform(-1, 1, (5, 4, 6, 3)).astype(np.float32)
    smoother = Smoother(0)
    assert smoother.lead == 0
    for factor in factors:
        assert np.array_equal(smoother(np.zeros((48, 72, 3), np.uint8), factor)[0], factor)


@given(st.floats(0.05, 0.95), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_smoothing_is_an_exponential_mean(smoothing, count, seed):
    factors = np.random.default_rng(seed).uniform(-1, 1, (count, 2, 3, 3)).astype(np.float32)
    image = np.zeros((24, 36, 3), np.uint8)
    smoother = Smoother(smoothing)
    last = [smoother(image, factor)[0] for factor in factors][-1]
    remembered = factors[::-1][: smoother.lead + 1]
    weights = smoothing ** np.arange(len(remembered))
    assert np.allclose(last, np.average(remembered, axis=0, weights=weights), atol=1e-5)
    assert smoothing ** (smoother.lead + 1) <= 0.0101


@given(st.floats(0, 0.9, allow_subnormal=False), st.integers(0, 40), st.lists(st.booleans(), min_size=60, max_size=60))
def test_smoothing_needs_no_more_than_its_lead(smoothing, skipped, scenes):
    """Begun anywhere, it gives the same maps to the last bit once it has seen `lead` frames, cuts or no cuts."""
    generator = np.random.default_rng(1)
    factors = generator.uniform(-1, 1, (60, 2, 2, 3)).astype(np.float32)
    images = [np.full((24, 24), 10 if scene else 200, np.uint8) for scene in scenes]
    whole, part = Smoother(smoothing), Smoother(smoothing)
    everything = [whole(image, factor)[0] for image, factor in zip(images, factors, strict=True)]
    late = [part(image, factor)[0] for image, factor in zip(images[skipped:], factors[skipped:], strict=True)]
    for one, other in zip(everything[skipped + part.lead :], late[part.lead :], strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(UsageError, match="temporal smoothing"):
        Smoother(smoothing)
