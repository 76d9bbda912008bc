"""Which photographs are taken for exposures of one scene."""

import cv2
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sgllie.train.scenes import layout, scenes


def photograph(seed: int) -> np.ndarray:
    """A smooth random picture of middle brightness, 64 x 64 x 3."""
    coarse = np.random.default_rng(seed).uniform(60, 190, (5, 5, 3)).astype(np.float32)
    return cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def exposed(picture: np.ndarray, stops: float) -> np.ndarray:
    """The same picture, brighter or darker."""
    return np.rint((picture.astype(np.float64) * 2.0**stops).clip(0, 255)).astype(np.uint8)


def test_a_layout_is_ranks_of_brightness():
    rising = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8), 4, axis=0).repeat(4, axis=1)[..., None].repeat(3, 2)
    assert layout(rising) == bytes(range(64))
    assert layout(255 - rising) == bytes(reversed(range(64)))
    assert sorted(layout(np.zeros((32, 32, 3), np.uint8))) == list(range(64))


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 2**20), st.randoms(use_true_random=False))
def test_exposures_of_one_scene_belong_together(counts, seed, shuffler):
    named = [
        (f"{scene}_{n}.jpg", layout(exposed(photograph(seed + scene), -n / 2)))
        for scene, count in enumerate(counts)
        for n in range(count)
    ]
    shuffler.shuffle(named)
    numbers = scenes([name for name, _ in named], [ranks for _, ranks in named])
    assert [int(name.split("_")[0]) for name, _ in named] == numbers.tolist()


def test_names_are_read_with_their_numbers():
    one, other = (layout(photograph(seed)) for seed in (1, 2))
    assert scenes(["b/10.jpg", "b/9.jpg", "a/7.jpg"], [one, one, other]).tolist() == [1, 1, 0]
