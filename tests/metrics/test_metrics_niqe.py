"""NIQE against the values of the authors' program, and where it is and is not defined."""

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

import golden
from sgllie.metrics.niqe import niqe
from sgllie.metrics.nss import SHAPES, fit_asymmetric_gaussian, halve, mscn

NAMES = ("I03.bmp", "I04.bmp", "I06.bmp", "I08.bmp", "I19.bmp")


def read(path: Path) -> np.ndarray:
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def textured(height: int, width: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(128, 60, (height, width, 3))
    return np.clip(cv2.GaussianBlur(noise, None, 1.5) * 1.5 - 64, 0, 255).astype(np.uint8)


def test_has_its_golden_value():
    """Of an image that is drawn; written when the measure agreed with the authors' program."""
    expected = json.loads((golden.FOLDER / "metrics.json").read_text())["niqe"]
    assert niqe(golden.texture()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_the_official_values(shared, name):
    with (shared / "reference/metrics/official_values.csv").open() as file:
        official = {row["Method"]: row for row in csv.DictReader(file)}["niqe"]
    assert niqe(read(shared / "reference/metrics/dist_dir" / name)) == pytest.approx(float(official[name]), rel=0.006)


@pytest.mark.parametrize(("folder", "published"), [("lowCUT", 6.76), ("LIME", 4.56), ("MEF", 4.40)])
def test_studio_range_agrees_with_basicsr_on_the_usual_sets(shared, folder, published):
    values = [niqe(read(path), studio_range=True) for path in (shared / "data/eval" / folder).iterdir()]
    assert np.mean(values) == pytest.approx(published, abs=0.006)


def test_sixteen_bit_and_grey_give_the_same_value():
    image = textured(200, 300)
    assert niqe(image.astype(np.uint16) * 257) == niqe(image)
    grey = image[..., 0]
    assert niqe(grey) == pytest.approx(niqe(np.stack([grey] * 3, axis=2)), rel=1e-9)


def test_only_whole_blocks_count():
    image = textured(250, 310)
    assert niqe(image) == niqe(image[:192, :288])


def test_noise_and_blur_make_it_worse(shared):
    image = read(shared / "reference/metrics/ref_dir/I06.bmp")
    noisy = np.clip(image + np.random.default_rng(0).normal(0, 25, image.shape), 0, 255).astype(np.uint8)
    assert niqe(noisy) > niqe(image)
    assert niqe(cv2.GaussianBlur(image, None, 4)) > niqe(image)


@pytest.mark.parametrize("level", [0, 1, 77, 255])
def test_a_flat_image_is_refused(level):
    with pytest.raises(ValueError, match="texture"):
        niqe(np.full((192, 288, 3), level, np.uint8))


def test_flat_blocks_do_not_spoil_the_value():
    image = textured(192, 384)
    image[:96, :96] = 0
    assert np.isfinite(niqe(image))


@pytest.mark.parametrize("shape", [(1, 1, 3), (95, 500, 3), (191, 191, 3)])
def test_a_tiny_image_is_refused(shape):
    with pytest.raises(ValueError, match="two blocks of 96x96"):
        niqe(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("image", [np.zeros((200, 200, 4), np.uint8), np.zeros((200, 200, 3), np.float32)])
def test_other_arrays_are_refused(image):
    with pytest.raises(ValueError, match="NIQE needs"):
        niqe(image)


def test_mscn_of_flat_areas_is_exactly_zero():
    assert not mscn(np.full((50, 60), 254.0)).any()


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
def test_the_fit_recovers_a_known_law(shape):
    rng = np.random.default_rng(1)
    magnitude = rng.gamma(1 / shape, size=(1, 400_000)) ** (1 / shape)
    samples = np.where(rng.random(magnitude.shape) < 0.5, -1.0, 1.0) * magnitude
    law = fit_asymmetric_gaussian(samples)
    assert law.shape[0] == pytest.approx(shape, rel=0.03)
    assert law.left_deviation[0] == pytest.approx(law.right_deviation[0], rel=0.02)


def test_the_fit_of_one_sided_samples_is_not_a_number():
    assert np.isnan(fit_asymmetric_gaussian(np.ones((1, 9))).shape[0])
    assert SHAPES[0] == 0.2
    assert SHAPES[-1] == 10


def test_halving_keeps_a_level_and_a_ramp():
    assert halve(np.full((8, 6), 7.0)) == pytest.approx(np.full((4, 3), 7.0))
    ramp = np.tile(np.arange(64.0), (8, 1))
    assert halve(ramp)[:, 4:-4] == pytest.approx(np.tile(np.arange(32) * 2 + 0.5, (4, 1))[:, 4:-4])
