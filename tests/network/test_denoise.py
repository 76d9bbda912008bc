"""Noise that is not amplified: what is found, what is taken away, and what is left alone."""

import pickle

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_enhancer import constant_factor, random_image, random_weights

from sgllie import Enhancer, MethodSettings, make_method
from sgllie.enhance.memory import MARGIN, bytes_needed
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.images import open_image
from sgllie.metrics import METRICS
from sgllie.network import denoise
from sgllie.network.noise import ROUNDING, Noise, noise_of
from sgllie.network.torch_engine import TorchEngine

BRIGHTENS, DOES_NOTHING = constant_factor(-0.3), constant_factor(0.0)


def noisy(levels, deviation, seed=0, dtype=np.uint8):
    """A picture of these levels of 255, H x W x 3, with noise of this deviation in each channel."""
    found = levels + np.random.default_rng(seed).normal(0, deviation, levels.shape)
    return np.clip(np.rint(found * (np.iinfo(dtype).max / 255)), 0, np.iinfo(dtype).max).astype(dtype)


def flat(level, shape=(160, 200, 3)):
    return np.full(shape, level, np.float64)


def textured(shape=(256, 256, 3), seed=1):
    """A scene with edges, gradients and texture whose spectrum falls as that of photographs, and no noise."""
    generator = np.random.default_rng(seed)
    scene = np.zeros(shape, np.float32)
    for size in (2, 4, 8, 16, 32, 64, 128):
        coarse = generator.normal(0, 12 * (2 / size) ** 0.8, (size, size, 1)).astype(np.float32)
        scene += cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC)[..., None]
    scene[60:140, 80:200] += 40
    scene[160:] = np.linspace(0, 30, shape[1])[:, None]
    return np.clip(40 + scene, 2, 250)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("deviation", [1.5, 4.0])
def test_noise_is_measured(dtype, deviation):
    ramp = np.linspace(15, 60, 400)[None, :, None] * np.ones((300, 1, 3))
    noise = noise_of(noisy(ramp, deviation, dtype=dtype))
    expected = deviation * np.sqrt(0.299**2 + 0.587**2 + 0.114**2)
    assert np.sqrt(noise.variances[20:60] + ROUNDING) == pytest.approx(expected, rel=0.15)
    assert np.sqrt(noise.chroma) == pytest.approx([np.sqrt(0.299**2 + 0.587**2 + 0.886**2) / 0.6686, 1.4], rel=0.2)


def test_noise_of_grey_images_has_no_chroma():
    noise = noise_of(noisy(flat(30, (200, 200, 1)), 3.0))
    assert noise.chroma.size == 0
    assert np.sqrt(noise.variances[30] + ROUNDING) == pytest.approx(3, rel=0.15)


def test_what_jpeg_has_taken_of_the_chroma_is_no_noise():
    # Chroma at half the size and quantised: what is left is less than rounding makes.
    image = noisy(flat(25), 2.0)
    stored = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1], cv2.IMREAD_COLOR)
    noise = noise_of(stored)
    assert noise.variances[25] > 0
    assert np.array_equal(noise.chroma, [0, 0])
    assert denoise.quieted(stored, noise).std() < 0.8 * 257 * stored.std()


@pytest.mark.parametrize("image", [np.full((200, 200, 3), 9, np.uint8), np.zeros((16, 16, 3), np.uint8)])
def test_where_there_is_no_noise_nothing_is_found(image):
    assert noise_of(image) is None


def test_gradients_and_the_seams_of_blocks_are_no_noise():
    steps = np.kron(np.random.default_rng(2).integers(20, 30, (40, 40)), np.ones((8, 8)))
    ramp = steps + np.linspace(0, 60, 320)
    assert noise_of(noisy(np.repeat(ramp[..., None], 3, axis=2), 0.0)) is None


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [3, 1])
def test_noise_falls_on_flat_patches(dtype, channels):
    image = noisy(flat(20, (160, 200, channels)), 3.0, dtype=dtype)
    image = image if channels == 3 else image[..., 0]
    plain, quiet = Enhancer(BRIGHTENS)(image), Enhancer(BRIGHTENS, denoise=True)(image)
    assert quiet.dtype == dtype
    assert quiet.shape == image.shape
    assert quiet.std() < 0.5 * plain.std()
    assert quiet.mean() == pytest.approx(plain.mean(), rel=0.05)


def test_edges_are_kept():
    levels = flat(15)
    levels[:, 100:] = 60
    image = noisy(levels, 2.0)
    plain, quiet = (Enhancer(BRIGHTENS, denoise=on)(image).astype(float) for on in (False, True))
    steps = [picture[:, 100].mean() - picture[:, 99].mean() for picture in (plain, quiet)]
    assert steps[1] == pytest.approx(steps[0], rel=0.05)


@pytest.mark.parametrize("options", [{}, {"strength": 0.0}])
def test_what_is_not_amplified_is_untouched(options):
    image = noisy(textured(), 4.0)
    enhancer = Enhancer(BRIGHTENS if options else DOES_NOTHING, denoise=True, **options)
    assert np.array_equal(enhancer(image), image)


def test_darkening_leaves_noise_alone():
    image = noisy(flat(60), 3.0)
    darkens = constant_factor(0.2)
    assert np.array_equal(Enhancer(darkens, denoise=True)(image), Enhancer(darkens)(image))


def test_a_clean_image_keeps_its_details():
    image = noisy(textured(), 0.0)
    plain, quiet = Enhancer(BRIGHTENS)(image), Enhancer(BRIGHTENS, denoise=True)(image)
    assert METRICS["ssim"].function(quiet, plain) > 0.998


def test_a_noisy_image_comes_nearer_to_the_clean_one():
    scene = textured()
    expected = Enhancer(BRIGHTENS)(noisy(scene, 0.0))
    plain, quiet = (Enhancer(BRIGHTENS, denoise=on)(noisy(scene, 3.0)) for on in (False, True))
    for name in ("ssim", "psnr"):
        measure = METRICS[name].function
        assert measure(quiet, expected) > measure(plain, expected)


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 90),
    width=st.integers(1, 40),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 1000),
)
def test_strips_equal_the_whole(height, width, dtype, channels, seed):
    image = np.ascontiguousarray(random_image(height, width, dtype, seed)[..., :channels])
    noise = Noise(np.full(256, 4, np.float32), np.full(channels - 1, 1.5, np.float32))
    pieces, whole = denoise.quieted(image, noise, strip=16), denoise.quieted(image, noise, strip=1024)
    assert np.array_equal(pieces, whole)


def test_batches_and_threads_give_what_single_images_give():
    images = [noisy(flat(20), 3.0), noisy(flat(25), 0.0), noisy(flat(30), 5.0)]
    enhancer = Enhancer(random_weights(spread=0.1), denoise=True)
    together = enhancer(np.stack(images))
    for image, result in zip(images, together, strict=True):
        assert np.array_equal(result, enhancer(image))
        assert np.array_equal(result, enhancer.apply(image, enhancer.factor_map(image)))


def test_the_torch_engine_does_the_same():
    image = noisy(flat(20), 3.0)
    enhancer, on_cpu = Enhancer(BRIGHTENS, denoise=True), Enhancer(BRIGHTENS, denoise=True)(image)
    enhancer.engine = TorchEngine(BRIGHTENS, "cpu")
    assert np.abs(enhancer(image).astype(int) - on_cpu).max() <= 1


def test_the_memory_that_it_needs_is_known():
    image = open_image(cv2.imencode(".png", np.zeros((10, 10, 3), np.uint8))[1].tobytes())
    without, needed = (bytes_needed(image, EnhanceSettings("in", "out", denoise=on)) for on in (False, True))
    assert needed - without == pytest.approx(MARGIN * 100 * 3 * 4, abs=1)


def test_settings_make_it():
    assert make_method(MethodSettings(denoise=True)).denoise
    with pytest.raises(UsageError, match="--denoise is on; it must be left out with --method lime; sgz and zero-dce"):
        MethodSettings(method="lime", denoise=True)


def test_it_is_pickled_with_the_enhancer():
    assert pickle.loads(pickle.dumps(Enhancer(BRIGHTENS, denoise=True))).denoise
