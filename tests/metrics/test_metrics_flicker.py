"""Flicker on videos whose changes are known."""

from itertools import pairwise

import cv2
import numpy as np
import pytest

from sgllie.metrics.flicker import FlickerMeter, measure_flicker, visible_pixels


def scene(height=180, width=260, seed=0):
    noise = np.random.default_rng(seed).normal(128, 60, (height, width, 3))
    return np.clip(cv2.GaussianBlur(noise, None, 2) * 3 - 256, 20, 200).astype(np.uint8)


def pan(frames=5, step=3):
    wide = scene()
    return [wide[:160, step * index : step * index + 200] for index in range(frames)]


def brighter(frames, gains):
    return [np.clip(frame * gain, 0, 255).astype(np.uint8) for frame, gain in zip(frames, gains, strict=True)]


def test_brightness_of_known_levels():
    originals = [np.full((32, 48, 3), level, np.uint8) for level in (50, 60, 50, 60)]
    frames = [np.full((32, 48, 3), level, np.uint8) for level in (100, 130, 100, 130)]
    flicker = measure_flicker(frames, originals, flow=False)
    assert flicker.frames == 4
    assert flicker.variance == pytest.approx((15 / 255) ** 2, rel=1e-6)
    assert flicker.change == pytest.approx(30 / 255, rel=1e-6)
    assert flicker.variance == pytest.approx(9 * flicker.original_variance)
    assert flicker.change == pytest.approx(3 * flicker.original_change)
    assert np.isnan(flicker.warping_error)


def test_a_video_against_itself_changes_as_much():
    flicker = measure_flicker(pan(), pan())
    assert flicker.variance == flicker.original_variance > 0
    assert flicker.change == flicker.original_change > 0
    assert flicker.warping_error == flicker.original_warping_error
    assert flicker.warping_error > 0


def test_motion_alone_is_no_warping_error_and_flicker_is():
    originals = pan()
    steady = measure_flicker(brighter(originals, [1.2] * 5), originals)
    flickering = measure_flicker(brighter(originals, [1.2, 1.0, 1.2, 1.0, 1.2]), originals)
    plain = np.mean([np.abs(a.astype(float) - b).mean() for a, b in pairwise(originals)]) / 255
    assert steady.original_warping_error < plain / 10
    assert steady.warping_error == pytest.approx(1.2 * steady.original_warping_error, rel=0.15)
    assert flickering.warping_error > 5 * steady.warping_error
    assert flickering.original_change == steady.original_change
    assert flickering.change > 5 * steady.change


def test_frames_are_read_one_pair_at_a_time():
    alive = []

    def frames(number):
        for index in range(number):
            alive.append(index)
            yield np.full((32, 32, 3), 40 + index, np.uint8)

    meter = FlickerMeter(flow=False)
    for count, frame in enumerate(frames(6), start=1):
        meter.add(frame, frame)
        assert len(alive) == count
    assert meter.result().frames == 6


def test_sixteen_bits_give_the_same():
    eight = measure_flicker(brighter(pan(3), [1.2, 1.0, 1.2]), pan(3))
    wide = [
        [frame.astype(np.uint16) * 257 for frame in frames] for frames in (brighter(pan(3), [1.2, 1.0, 1.2]), pan(3))
    ]
    sixteen = measure_flicker(*wide)
    assert sixteen.warping_error == pytest.approx(eight.warping_error)
    assert sixteen.change == pytest.approx(eight.change)


def test_a_pixel_that_leaves_or_is_covered_does_not_count():
    forward = np.zeros((4, 6, 2), np.float32)
    forward[..., 0] = 2
    visible, target = visible_pixels(forward, -forward)
    assert visible[:, :4].all()
    assert not visible[:, 4:].any()
    assert target[1, 1].tolist() == [3, 1]
    assert not visible_pixels(forward, forward)[0].any()
    slow = np.where(forward > 0, np.float32(0.5), forward)
    assert visible_pixels(slow, -slow)[0].all(axis=0).tolist() == [True] * 5 + [False]


def test_bad_videos_are_refused():
    frame = np.zeros((32, 32, 3), np.uint8)
    with pytest.raises(ValueError, match="at least two frames"):
        measure_flicker([frame], [frame])
    with pytest.raises(ValueError, match="same number of frames: one ends after 1"):
        measure_flicker([frame, frame], [frame])
    with pytest.raises(ValueError, match="same shape and depth"):
        measure_flicker([frame, frame[:16]], [frame, frame[:16]])
    with pytest.raises(ValueError, match="at least 12 pixels, got 8x9"):
        measure_flicker([frame[:9, :8]] * 2, [frame[:9, :8]] * 2)
