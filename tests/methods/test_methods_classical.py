"""What each method without weights computes, against its definition written out."""

import cv2
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from clips import photograph
from networks import dark_image
from sgllie.methods import msrcr, pie
from sgllie.methods.clahe import Clahe
from sgllie.methods.gamma import Gamma
from sgllie.methods.lime import Lime
from sgllie.methods.msrcr import Msrcr
from sgllie.methods.pie import Pie


@pytest.mark.parametrize("level", [1, 20, 128, 200])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_even_images(level, dtype):
    unit = np.iinfo(dtype).max / 255
    image = np.full((33, 46, 3), round(level * unit), dtype)
    expected = {Gamma: 0.5, Msrcr: 0.5, Lime: (level / 255) ** 0.2, Pie: (level / 255) ** (1 / 2.2)}
    for kind, value in expected.items():
        assert np.abs(kind()(image) - 255 * unit * value).max() <= 1 + unit / 1000, kind


def test_black_stays_black():
    for kind in (Gamma, Lime, Pie):
        assert not kind()(np.zeros((20, 30, 3), np.uint8)).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("scale", [0.3, 1.0, 3.5])
def test_gamma_reaches_middle_grey(dtype, scale):
    image = np.clip(dark_image(80, 90, np.uint16) * [scale, scale / 2, scale / 4], 0, 65535)
    image = np.maximum(image * (np.iinfo(dtype).max / 65535), 1).astype(dtype)
    enhanced = Gamma()(image) / np.iinfo(dtype).max
    assert abs((enhanced @ [0.299, 0.587, 0.114]).mean() - 0.5) < 0.003
    exponent = Gamma().factor_map(image).item()
    assert np.abs(enhanced - (image / np.iinfo(dtype).max) ** exponent).max() < 0.51 / np.iinfo(dtype).max + 1e-6


def test_gamma_has_limits():
    dot = np.zeros((50, 50), np.uint8)
    dot[3, 4] = 9
    assert Gamma().factor_map(dot).item() == pytest.approx(0.1)
    assert Gamma().factor_map(255 - dot).item() == pytest.approx(10)


def window_means(plane, radius):
    """The mean of each window, from the windows themselves."""
    windows = sliding_window_view(np.pad(plane, radius, mode="symmetric"), (2 * radius + 1, 2 * radius + 1))
    return windows.mean(axis=(2, 3))


def stretched(plane, scale):
    """Bilinear between the centres of samples, first along columns, then along rows."""
    for axis in (0, 1):
        side = plane.shape[axis]
        places = (np.arange(side * scale) + 0.5) / scale - 0.5
        lines = np.moveaxis(plane, axis, -1)
        plane = np.moveaxis(np.array([np.interp(places, np.arange(side), line) for line in lines]), -1, axis)
    return plane


def test_lime_is_what_it_says():
    image = np.round(photograph("coffee.jpg", (96, 160)) * 0.4).astype(np.uint8)
    guide = image.max(axis=2) / 255
    small = guide.reshape(24, 4, 40, 4).mean(axis=(1, 3))
    mean = window_means(small, 8)
    variance = window_means(small * small, 8) - mean * mean
    slope = variance / (variance + 1e-3)
    offset = mean - slope * mean
    light = stretched(window_means(slope, 8), 4) * guide + stretched(window_means(offset, 8), 4)
    expected = np.clip(image / np.clip(light, 1 / 255, 1)[..., None] ** 0.8, 0, 255)
    assert np.abs(Lime()(image) - expected).max() <= 1
    np.testing.assert_allclose(Lime().factor_map(image)[..., 0], small, atol=1e-6)


def test_msrcr_is_what_it_says():
    """Against the blurs at full size, and percentiles of all pixels."""
    image = np.round(photograph("coffee.jpg", (320, 480)) * 0.3).astype(np.uint8)
    x = image + np.float32(1)
    logs = [np.log(cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)) for sigma in (15.0, 80.0, 250.0)]
    surround = np.mean(logs, axis=0)
    found = msrcr.resized(msrcr.log_surround(x), 320, 480)
    assert np.abs(found - surround).mean() < 0.0015
    assert np.abs(found - surround).max() < 0.015
    values = np.log(125 * x / x.sum(axis=2, keepdims=True)) * (np.log(x) - surround)
    black, white = np.percentile(values, [1, 99])
    expected = np.clip((values - black) / (white - black), 0, 1) * 255
    difference = np.abs(Msrcr()(image) - expected)
    assert difference.max() < 6
    assert difference.mean() < 1
    assert Msrcr().factor_map(image).ravel() == pytest.approx([black, white], abs=0.05)


def test_clahe_is_what_it_says():
    image = np.round(photograph("coffee.jpg", (240, 320)) * 0.3).astype(np.uint8)
    planes = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    planes[..., 0] = cv2.createCLAHE(2.0, (8, 8)).apply(planes[..., 0])
    expected = cv2.cvtColor(planes, cv2.COLOR_YCrCb2RGB).astype(int)
    assert np.abs(Clahe()(image) - expected).max() <= 2
    grey = np.ascontiguousarray(image[..., 1])
    assert np.array_equal(Clahe()(grey), cv2.createCLAHE(2.0, (8, 8)).apply(grey))
    assert np.array_equal(Clahe()(grey.astype(np.uint16) * 257), Clahe()(grey).astype(np.uint16) * 257)


def path_laplacian(side):
    """The matrix whose quadratic form is the sum of squared differences of neighbours on a line."""
    steps = np.diff(np.eye(side), axis=0)
    return steps.T @ steps


def test_pie_solves_its_equations():
    """The cosine transform against a dense solution, and the rounds against the same ones written out."""
    height, width = 6, 8
    s = np.random.default_rng(1).uniform(0.05, 1, (height, width)).astype(np.float32)
    laplacian = np.kron(path_laplacian(height), np.eye(width)) + np.kron(np.eye(height), path_laplacian(width))

    def solution(right, constant, smooth):
        return np.linalg.solve(constant * np.eye(s.size) + smooth * laplacian, right.ravel()).reshape(s.shape)

    prior = cv2.GaussianBlur(s, (0, 0), 8, borderType=cv2.BORDER_REFLECT).astype(np.float64)
    light = prior
    split = np.zeros((2, height, width))
    residue = np.zeros((2, height, width))
    for _ in range(pie.ROUNDS):
        field = split - residue
        pulled = np.zeros(s.shape)
        pulled[:-1] -= field[0, :-1]
        pulled[1:] += field[0, :-1]
        pulled[:, :-1] -= field[1, :, :-1]
        pulled[:, 1:] += field[1, :, :-1]
        reflectance = np.clip(solution(s / light + 0.1 * pulled, 1, 0.1), 1 / 255, 1)
        slope = np.zeros_like(field)
        slope[0, :-1] = reflectance[1:] - reflectance[:-1]
        slope[1, :, :-1] = reflectance[:, 1:] - reflectance[:, :-1]
        total = slope + residue
        split = np.where(np.abs(total) > 0.05, total - 0.05 * np.sign(total), 0)
        residue = total - split
        light = np.maximum(solution(s / reflectance + 0.1 * prior, 1.1, 1000 / 16), s)
    np.testing.assert_allclose(pie.illumination(s), light, atol=1e-4)


def test_pie_never_clips():
    image = photograph("coffee.jpg", (96, 160)).astype(np.uint8)
    illumination = Pie().factor_map(image)
    assert illumination.min() > 0
    levels = Pie().levels(image, illumination)
    assert levels.max() <= 255.01
    assert (levels >= image - 0.01).all()
