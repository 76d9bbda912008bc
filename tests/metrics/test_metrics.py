"""Measures of one image: exact small cases, laws, and values of independent programs."""

import csv
import json
import math
import subprocess
import sys

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import golden
from sgllie.metrics import METRICS
from sgllie.metrics.brightness import black_share, brightness, clipped_share, colourfulness, contrast, entropy
from sgllie.metrics.brisque import brisque
from sgllie.metrics.colour import luma
from sgllie.metrics.fidelity import psnr, ssim
from sgllie.metrics.loe import loe

NAMES = ("I03.bmp", "I04.bmp", "I06.bmp", "I08.bmp", "I19.bmp")
IMAGES = arrays(np.uint8, (12, 13, 3))
BUNDLED = [metric for metric in METRICS.values() if metric.load is None]


@pytest.fixture(scope="session")
def official(shared):
    """Values of the official programs: metric -> image name -> value."""
    with (shared / "reference/metrics/official_values.csv").open() as file:
        return {row.pop("Method"): {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)}


@pytest.fixture(scope="session")
def pair(shared):
    def read(name):
        folders = (shared / "reference/metrics" / folder for folder in ("dist_dir", "ref_dir"))
        return tuple(cv2.cvtColor(cv2.imread(str(folder / name)), cv2.COLOR_BGR2RGB) for folder in folders)

    return read


def textured(height=64, width=80, seed=0):
    noise = np.random.default_rng(seed).normal(128, 60, (height, width, 3))
    return np.clip(cv2.GaussianBlur(noise, None, 1.5) * 1.5 - 64, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", NAMES)
def test_psnr_and_ssim_agree_with_the_official_values(official, pair, name):
    assert psnr(*pair(name)) == pytest.approx(official["psnr"][name], abs=0.006)
    assert ssim(*pair(name)) == pytest.approx(official["ssim"][name], abs=0.0001)


def test_measures_have_their_golden_values():
    """Of images that are drawn; written when the measures agreed with the official programs."""
    expected = json.loads((golden.FOLDER / "metrics.json").read_text())
    image = golden.texture()
    noisy = golden.noisy(image)
    assert psnr(noisy, image) == pytest.approx(expected["psnr"], rel=1e-9)
    assert ssim(noisy, image) == pytest.approx(expected["ssim"], rel=1e-6)
    assert brisque(image) == pytest.approx(expected["brisque"], rel=1e-3)
    assert brisque(noisy) == pytest.approx(expected["brisque_noisy"], rel=1e-3)


def test_psnr_and_ssim_agree_with_scikit_image():
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity  # takes a second

    first, second = textured(seed=1), textured(seed=2)
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    assert psnr(first, second) == pytest.approx(peak_signal_noise_ratio(second, first), rel=1e-12)
    expected = structural_similarity(first[..., 0], second[..., 0], **options)
    assert ssim(first[..., 0], second[..., 0]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_brisque_agrees_with_the_official_values(official, pair, name):
    flat_areas = name in ("I08.bmp", "I19.bmp")
    assert brisque(pair(name)[0]) == pytest.approx(official["brisque"][name], rel=0.015 if flat_areas else 0.0002)


def test_psnr_of_a_known_difference():
    black = np.zeros((4, 4, 3), np.uint8)
    assert psnr(black + np.uint8(255), black) == 0
    assert psnr(black + np.uint8(1), black) == pytest.approx(20 * math.log10(255))
    assert psnr(black, black) == math.inf
    assert psnr(black.astype(np.uint16) + np.uint16(257), black.astype(np.uint16)) == pytest.approx(
        20 * math.log10(255)
    )


@given(IMAGES, IMAGES)
def test_psnr_and_ssim_are_symmetric_and_bounded(first, second):
    assert psnr(first, second) == psnr(second, first)
    assert ssim(first, second) == pytest.approx(ssim(second, first), abs=1e-12)
    assert -1 <= ssim(first, second) <= 1 + 1e-12
    assert ssim(first, first) == pytest.approx(1)


def test_ssim_of_two_levels():
    first, second = np.full((20, 20), 100, np.uint8), np.full((20, 20), 150, np.uint8)
    constant = (0.01 * 255) ** 2
    assert ssim(first, second) == pytest.approx((2 * 100 * 150 + constant) / (100**2 + 150**2 + constant))


def order_changes(first, second):
    """LOE by its definition, every pair one by one."""
    first, second = first.ravel().astype(int), second.ravel().astype(int)
    before = first[:, None] >= first[None]
    after = second[:, None] >= second[None]
    return (before != after).sum() / first.size


@given(arrays(np.uint8, (7, 9)), arrays(np.uint8, (7, 9)))
def test_loe_is_the_count_over_all_pairs(image, reference):
    assert loe(image, reference) == pytest.approx(order_changes(reference, image))


@given(
    arrays(np.uint8, (6, 7, 3), elements=st.integers(0, 15)),
    st.lists(st.integers(0, 255), min_size=16, max_size=16, unique=True),
)
def test_loe_is_zero_under_a_strictly_rising_curve(reference, levels):
    assert loe(np.sort(np.array(levels, np.uint8))[reference], reference) == 0


def test_loe_of_a_negative_is_large_and_samples_keep_the_short_side_near_fifty():
    ramp = np.tile(np.arange(200, dtype=np.uint8), (150, 1))
    assert loe(ramp, ramp) == 0
    assert loe(255 - ramp, ramp) > 3000
    assert loe(np.full_like(ramp, 9), ramp) < loe(255 - ramp, ramp)


def test_brightness_contrast_and_entropy_of_half_black_half_white():
    image = np.zeros((10, 10, 3), np.uint8)
    image[:5] = 255
    assert brightness(image) == pytest.approx(0.5, abs=1e-4)
    assert contrast(image) == pytest.approx(0.5, abs=1e-4)
    assert entropy(image) == pytest.approx(1)
    assert clipped_share(image) == 0.5
    assert black_share(image) == 0.5
    assert colourfulness(image) == 0


def test_entropy_of_all_levels_is_eight_bits():
    assert entropy(np.arange(256, dtype=np.uint8).reshape(16, 16)) == pytest.approx(8)
    assert entropy(np.full((3, 3), 7, np.uint8)) == 0


def test_colourfulness_of_one_colour_is_its_distance_from_grey():
    image = np.tile(np.array([200, 100, 50], np.uint8), (4, 4, 1))
    assert colourfulness(image) == pytest.approx(0.3 * math.hypot(100, 100))
    half = image.copy()
    half[:2] = 80
    assert colourfulness(half) == pytest.approx(math.hypot(50, 50) + 0.3 * math.hypot(50, 50))


def test_brightness_weighs_green_most():
    red, green, blue = (np.eye(3, dtype=np.uint8)[channel] * np.uint8(255) for channel in range(3))
    values = [brightness(np.tile(colour, (2, 2, 1))) for colour in (red, green, blue)]
    assert values == pytest.approx([0.299, 0.587, 0.114], abs=1e-4)


def test_luma_of_white_and_black_in_both_ranges():
    ends = np.array([[[0, 0, 0], [255, 255, 255]]], np.uint8)
    for image in (ends, ends[..., 0], ends.astype(np.uint16) * 257):
        assert luma(image) == pytest.approx(np.array([[0, 255]]))
        assert luma(image, studio_range=True) == pytest.approx(np.array([[16, 235]]))


def test_one_clipped_channel_is_enough_and_black_needs_all():
    image = np.zeros((1, 4, 3), np.uint16)
    image[0, 0, 1] = 65535
    image[0, 1, 1] = 65534
    assert clipped_share(image) == 0.25
    assert black_share(image) == 0.5


@pytest.mark.parametrize("metric", BUNDLED, ids=lambda metric: metric.name)
def test_depth_does_not_matter_and_grey_works(metric):
    image, reference = textured(200, 300, seed=1), textured(200, 300, seed=2)
    both = (image, reference) if metric.needs_reference else (image,)
    value = metric.function(*both)
    assert isinstance(value, float)
    assert metric.function(*(array.astype(np.uint16) * 257 for array in both)) == pytest.approx(value, rel=1e-9)
    assert math.isfinite(metric.function(*(array[..., 0] for array in both)))
    assert all(
        (array == again).all()
        for array, again in zip(both, (textured(200, 300, 1), textured(200, 300, 2)), strict=False)
    )


@pytest.mark.parametrize("metric", BUNDLED, ids=lambda metric: metric.name)
@pytest.mark.parametrize("image", [np.zeros((9, 9, 4), np.uint8), np.zeros((9, 9)), np.zeros((0, 9, 3), np.uint8)])
def test_what_is_not_an_image_is_refused_by_name(metric, image):
    with pytest.raises(ValueError, match=r"needs (uint8|an H x W)"):
        metric.function(*([image, image] if metric.needs_reference else [image]))


@pytest.mark.parametrize("metric", [metric for metric in BUNDLED if metric.needs_reference], ids=lambda m: m.name)
def test_pairs_that_differ_in_shape_or_depth_are_refused(metric):
    image = np.zeros((20, 20, 3), np.uint8)
    for other in (image[:19], image[..., 0], image.astype(np.uint16)):
        with pytest.raises(ValueError, match="same shape and depth"):
            metric.function(image, other)


@pytest.mark.parametrize("metric", [brisque, lambda image: ssim(image, image)])
def test_tiny_images_are_refused_where_a_window_does_not_fit(metric):
    with pytest.raises(ValueError, match="needs at least"):
        metric(np.zeros((10, 40, 3), np.uint8))


@pytest.mark.parametrize("level", [0, 77, 255])
def test_brisque_of_a_flat_image_is_refused(level):
    with pytest.raises(ValueError, match="flat"):
        brisque(np.full((40, 40, 3), level, np.uint8))


def test_brisque_rises_with_noise(pair):
    image = pair("I06.bmp")[1]
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 25, image.shape), 0, 255).astype(np.uint8)
    assert brisque(noisy) > brisque(image) + 10


@pytest.mark.jobs
def test_no_torch_and_no_ray_are_imported():
    code = "import json, sys, sgllie.metrics; print(json.dumps(sorted(sys.modules)))"
    modules = json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)
    assert not {"torch", "ray"} & set(modules)
