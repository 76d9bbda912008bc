"""Which photographs are trained on, in which order, and the images made of them."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sgllie.errors import UsageError
from sgllie.network.model import downscale
from sgllie.train.augmentation import darken, random_parts, sampled, to_linear, to_srgb
from sgllie.train.photographs import PhotoInfo, digest_of
from sgllie.train.sampling import order, sample, stack, steps_per_epoch, training_example, validation_example
from sgllie.train.settings import DarkeningSettings, ImageSettings, TrainSettings, ValidationSettings


def settings(**changes) -> TrainSettings:
    small = {"batch_size": 4, "validation": ValidationSettings(images=3)} | changes
    return TrainSettings("photographs", "run", **small)


def rows(count: int, **columns) -> list[PhotoInfo]:
    """Photographs from black to white, each of a scene of its own."""
    layouts = np.random.default_rng(0).permuted(np.tile(np.arange(64, dtype=np.uint8), (count, 1)), axis=1)
    same = [PhotoInfo(f"{n}.jpg", f"{n:x}", n / count, layout=layouts[n].tobytes()) for n in range(count)]
    return [row._replace(**columns) for row in same]


PHOTOGRAPH = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


@given(st.integers(5, 60), st.integers(1, 9), st.integers(0, 5), st.integers(1, 3), st.integers(0, 100))
def test_an_epoch_uses_each_photograph_and_fills_its_last_batch(count, batch_size, epoch, repeats, seed):
    options = settings(batch_size=batch_size, images=ImageSettings(repeats=repeats), seed=seed)
    chosen = sample(rows(count), options)
    numbers, targets, dark = order(chosen, options, epoch)
    assert numbers.tolist() == targets.tolist()
    assert len(numbers) % batch_size == 0
    assert len(numbers) - len(chosen.main) * repeats < batch_size
    assert sorted(numbers[: len(chosen.main) * repeats]) == sorted(list(chosen.main) * repeats)
    assert not dark.any()
    assert len(numbers) == steps_per_epoch(chosen, options) * batch_size
    assert numbers.tolist() == order(chosen, options, epoch).sources.tolist()


def test_orders_differ_between_epochs_and_seeds():
    chosen = sample(rows(40), settings())
    orders = {tuple(order(chosen, settings(seed=seed), epoch).sources) for seed in (0, 1) for epoch in (0, 1)}
    assert len(orders) == 4


@given(st.integers(5, 100), st.integers(0, 100))
def test_held_back_photographs_are_not_trained_on(count, seed):
    chosen = sample(rows(count), settings(seed=seed))
    assert not set(chosen.main) & set(chosen.held_back)
    assert sorted([*chosen.main, *chosen.held_back]) == list(range(count))
    assert 1 <= len(chosen.held_back) <= min(3, count // 5)


def test_photographs_that_are_named_are_held_back_whatever_the_seed():
    seen = [row._replace(path=f"{'ab'[n % 4 == 0]}/{row.path}") for n, row in enumerate(rows(100))]
    for seed in (0, 1):
        options = settings(
            seed=seed,
            validation=ValidationSettings(held_back="b/*"),
            darkening=DarkeningSettings(stops=5, darkest=0.35, brightest=0.6, bracket_share=0.2),
        )
        chosen = sample(seen, options)
        assert chosen.held_back.tolist() == [36, 40, 44, 48, 52, 56]
        for trained in (chosen.main, chosen.bright, chosen.pairs):
            assert not (trained % 4 == 0).any()
        assert len(chosen.main) == 24 - 6


def test_names_of_none_or_all_photographs_are_refused():
    for pattern, reason in (("x*", "names no photograph that can be used"), ("*", "names all photographs that could")):
        with pytest.raises(UsageError, match=reason):
            sample(rows(10), settings(validation=ValidationSettings(held_back=pattern)))


def test_photographs_with_an_error_are_not_used():
    seen = rows(10)
    seen[4] = seen[4]._replace(error="cut off")
    chosen = sample(seen, settings())
    assert sorted([*chosen.main, *chosen.held_back]) == [0, 1, 2, 3, 5, 6, 7, 8, 9]
    seen[7] = seen[7]._replace(digest="other")
    assert digest_of(rows(10)) != digest_of(seen)


def test_darkening_takes_well_exposed_photographs_and_some_brighter_ones():
    options = settings(darkening=DarkeningSettings(stops=5, darkest=0.35, brightest=0.6, bright_share=0.25))
    chosen = sample(rows(100), options)
    assert sorted([*chosen.main, *chosen.held_back]) == list(range(36, 60))
    assert chosen.bright.tolist() == list(range(60, 90))
    numbers, _, dark = order(chosen, options, 0)
    assert dark.sum() == 21
    assert not np.isin(numbers[dark], chosen.bright).any()
    assert np.isin(numbers[~dark], chosen.bright).all()
    assert (~dark).sum() / len(dark) == pytest.approx(0.25)


def test_too_few_photographs_are_refused_with_a_reason():
    with pytest.raises(UsageError, match="holds 4 photographs that can be used; 5 is the least"):
        sample(rows(4), settings())
    with pytest.raises(UsageError, match=r"holds 0 well exposed photographs among 20 .* --preset published"):
        sample(rows(20, clipped=0.5), settings(darkening=DarkeningSettings(stops=5)))


def bracket(scene: int, exposures: list[float]) -> list[PhotoInfo]:
    """Photographs of one scene at several exposures."""
    ranks = np.random.default_rng(scene).permutation(64).astype(np.uint8).tobytes()
    return [PhotoInfo(f"{scene}_{n}.jpg", "", exposure, layout=ranks) for n, exposure in enumerate(exposures)]


def test_pairs_are_dark_photographs_and_the_best_of_their_scene():
    seen = [row for scene in range(20) for row in bracket(scene, [0.1, 0.33, 0.36, 0.45, 0.7])]
    options = settings(darkening=DarkeningSettings(stops=5, bright_share=0.1, bracket_share=0.25))
    chosen = sample(seen, options)
    held_back = {number // 5 for number in chosen.held_back.tolist()}
    middle = np.median([seen[number].brightness for number in chosen.main])
    best = min((2, 3), key=lambda n: abs(seen[n].brightness - middle))
    expected = [(5 * s + n, 5 * s + best) for s in range(20) if s not in held_back for n in (0, 1)]
    assert sorted(map(tuple, chosen.pairs.tolist())) == sorted(expected)
    sources, targets, dark = order(chosen, options, 0)
    paired = sources != targets
    assert paired.mean() == pytest.approx(0.25, abs=0.05)
    assert not (paired & dark).any()
    assert {(a, b) for a, b in zip(sources[paired], targets[paired], strict=True)} <= set(expected)


def test_a_pair_is_one_part_of_both():
    options = settings(images=ImageSettings(size=48, crop=32, flip=True), darkening=DarkeningSettings(stops=3))
    example = training_example(PHOTOGRAPH // 2, PHOTOGRAPH, False, options, 1, 3)
    assert np.abs(example.image - example.target / 2.0).max() <= 1


@given(st.integers(0, 2**32), st.floats(0.1, 1))
def test_a_random_part_has_the_size_that_was_asked_for(seed, smallest):
    random = np.random.default_rng(seed)
    options = ImageSettings(size=48, crop=32, smallest_crop=smallest, flip=True)
    part, same = random_parts([PHOTOGRAPH, PHOTOGRAPH], options, 1, random)
    np.testing.assert_array_equal(part, same)
    assert (part.shape, part.dtype) == ((32, 32, 3), np.uint8)


def test_without_crop_and_flip_a_part_is_the_photograph():
    (part,) = random_parts([PHOTOGRAPH], ImageSettings(size=48), 1, np.random.default_rng(0))
    np.testing.assert_array_equal(part, PHOTOGRAPH)


def test_an_example_follows_from_seed_epoch_and_place():
    options = settings(
        images=ImageSettings(size=48, crop=32, flip=True), darkening=DarkeningSettings(stops=3, identity_share=0)
    )
    first, again, other = (training_example(PHOTOGRAPH, PHOTOGRAPH, True, options, 2, place) for place in (5, 5, 6))
    np.testing.assert_array_equal(first.image, again.image)
    assert not np.array_equal(first.target, other.target)
    batch = stack([first, other])
    assert batch["images"].shape == batch["targets"].shape == (2, 32, 32, 3)


@given(st.sampled_from([(1, 3), (1, 4), (2, 6), (2, 12), (4, 12)]), st.integers(8, 20))
def test_samples_are_what_the_network_sees_at_full_size(scales, blocks):
    scale_factor, inference_scale = scales
    full = np.random.default_rng(blocks).integers(
        0, 256, (blocks * inference_scale, blocks * inference_scale, 3), dtype=np.uint8
    )
    part = sampled(full, blocks * scale_factor, scale_factor, inference_scale)
    seen, expected = (
        downscale(torch.from_numpy(image).permute(2, 0, 1)[None].float(), factor)
        for image, factor in ((part, scale_factor), (full, inference_scale))
    )
    assert (seen - expected).abs().max() <= 1


def test_what_is_not_to_be_darkened_is_its_own_target():
    options = settings(darkening=DarkeningSettings(stops=3, identity_share=0))
    example = training_example(PHOTOGRAPH, PHOTOGRAPH, False, options, 0, 0)
    np.testing.assert_array_equal(example.image, example.target)
    untouched = settings(darkening=DarkeningSettings(stops=3, identity_share=1))
    example = training_example(PHOTOGRAPH, PHOTOGRAPH, True, untouched, 0, 0)
    np.testing.assert_array_equal(example.image, example.target)


def test_without_darkening_there_are_no_targets():
    example = validation_example(PHOTOGRAPH, settings(), 3)
    assert example.target is None
    assert set(stack([example])) == {"images"}


PLAIN = {
    "unevenness": 0,
    "contrast": 0,
    "shoulder": 0,
    "least_gamma": 1,
    "greatest_gamma": 1,
    "shot_noise": 0,
    "read_noise": 0,
}


def test_darkening_by_stops_scales_linear_light():
    class Fixed(np.random.Generator):
        def uniform(self, low=0.0, high=1.0, size=None):
            return high if low == 0 else super().uniform(low, high, size)

    random = Fixed(np.random.PCG64(0))
    dark = darken(PHOTOGRAPH, DarkeningSettings(stops=2, **PLAIN), random)
    expected = to_srgb(to_linear(PHOTOGRAPH / 255) / 4) * 255
    assert np.abs(dark - expected).max() <= 0.5 + 1e-6


@given(st.integers(0, 2**32))
def test_darkening_never_brightens_much_and_keeps_the_shape(seed):
    photograph = np.full((24, 40, 3), 120, np.uint8)
    options = DarkeningSettings(stops=7, least_gamma=1, shot_noise=0, read_noise=0)
    dark = darken(photograph, options, np.random.default_rng(seed))
    assert (dark.shape, dark.dtype) == (photograph.shape, np.uint8)
    assert dark.max() <= 120


def test_srgb_there_and_back():
    values = np.linspace(0, 1, 1001)
    np.testing.assert_allclose(to_srgb(to_linear(values)), values, atol=1e-6)
    assert to_linear(np.array(0.5)) == pytest.approx(0.21404, abs=1e-5)
