"""Noise that is not amplified: what is found, what is taken away, and what is left alone."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_enhancer import constant_factor, random_image, random_weights

from devices import on_each_device
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
    rounding = ROUNDING if dtype == np.uint8 else 0
    assert np.sqrt(noise.variances[20:60] + rounding) == pytest.approx(expected, rel=0.15)
    assert np.sqrt(noise.chroma) == pytest.approx([np.sqrt(0.299**2 + 0.587**2 + 0.886**2) / 0.6686, 1.4], rel=0.2)


def test_noise_below_the_steps_of_8_bits_is_measured_in_16():
    image = noisy(flat(20), 0.4, dtype=np.uint16)
    assert np.sqrt(noise_of(image).variances[20]) == pytest.approx(0.4 * 0.6686, rel=0.15)
    assert noise_of(noisy(flat(20), 0.4)) is None


@pytest.mark.parametrize("deviation", [0, 0.3, 3])
@pytest.mark.parametrize("factor", [256, 257])
def test_8_bits_in_16_give_what_8_bits_give(deviation, factor):
    image = noisy(textured(), deviation)
    expected, found = noise_of(image), noise_of(image.astype(np.uint16) * factor)
    assert (found is None) == (expected is None) == (deviation < 1)
    if expected:
        assert found.variances == pytest.approx(expected.variances, rel=0.1)
        assert found.chroma == pytest.approx(expected.chroma, rel=0.1)


def as_jpeg(image, quality=95):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def as_stored_video(image):
    """Black that is not all 0 any more, and white that is not all 255."""
    return np.clip(image.astype(int) + np.random.default_rng(3).integers(-1, 2, image.shape), 0, 255).astype(np.uint8)


def in_bars(top, left, bottom, right):
    return lambda image: np.pad(image, ((top, bottom), (left, right), (0, 0)))


def as_fisheye(image):
    rows, columns = (np.linspace(-1, 1, side) for side in image.shape[:2])
    return image * (np.hypot(rows[:, None, None], columns[:, None]) < 0.9).astype(np.uint8)


def with_lamps(image):
    image = image.copy()
    image[20:100, 30:110] = image[150:171, 200:333] = 255
    return image


CLIPPED = {
    "two bars": in_bars(61, 0, 61, 0),
    "bars at the sides": in_bars(0, 160, 0, 160),
    "four bars": in_bars(40, 77, 43, 80),
    "fisheye": as_fisheye,
    "lamps": with_lamps,
    "lamps in bars": lambda image: in_bars(61, 0, 61, 0)(with_lamps(image)),
}


@pytest.mark.parametrize("store", [lambda image: image, as_jpeg, as_stored_video], ids=["png", "jpeg", "video"])
@pytest.mark.parametrize("clip", CLIPPED.values(), ids=CLIPPED)
def test_what_is_clipped_does_not_change_the_noise(clip, store):
    image = noisy(np.linspace(19, 35, 400)[None, :, None] * np.ones((240, 1, 3)), 3)
    expected, found = noise_of(store(image)), noise_of(store(clip(image)))
    assert np.sqrt(found.variances[22:35]) == pytest.approx(np.sqrt(expected.variances[22:35]), rel=0.15)


@settings(deadline=None, max_examples=25)
@given(bars=st.tuples(*[st.integers(0, 200)] * 4), lamp=st.integers(0, 120))
def test_bars_and_lamps_of_any_size_do_not_change_the_noise(bars, lamp):
    image = noisy(np.linspace(19, 35, 400)[None, :, None] * np.ones((240, 1, 3)), 3)
    expected = noise_of(image)
    image[:lamp, :lamp] = 255
    found = noise_of(in_bars(*bars)(image))
    assert np.sqrt(found.variances[22:35]) == pytest.approx(np.sqrt(expected.variances[22:35]), rel=0.15)


def test_noise_that_reaches_black_is_measured():
    assert noise_of(noisy(flat(3), 2)).variances[3] > 0.5


@pytest.mark.parametrize("quality", [75, 90, 95])
@pytest.mark.parametrize("clip", [lambda image: image, *CLIPPED.values()], ids=["whole", *CLIPPED])
def test_clean_jpegs_keep_their_details(clip, quality):
    stored = as_jpeg(clip(noisy(textured((240, 400, 3)), 0)), quality)
    plain, quiet = Enhancer(BRIGHTENS)(stored), Enhancer(BRIGHTENS, denoise=True)(stored)
    assert METRICS["ssim"].function(quiet, plain) > 0.998


def test_noise_of_the_sensor_grows_towards_black():
    levels = np.linspace(12, 90, 400)[None, :, None] * np.ones((300, 1, 3))
    slopes = 1.055 / 2.4 * ((levels + 14) / 269) ** -1.4
    deviation = 0.0016 * slopes * 255
    noise = noise_of(noisy(levels, deviation))
    assert np.sqrt(noise.variances[15]) > 0.6 * 0.6686 * deviation[0, levels[0, :, 0] > 15].max()


def test_noise_of_grey_images_has_no_chroma():
    noise = noise_of(noisy(flat(30, (200, 200, 1)), 3.0))
    assert noise.chroma.size == 0
    assert np.sqrt(noise.variances[30] + ROUNDING) == pytest.approx(3, rel=0.15)


def test_what_jpeg_has_taken_of_the_chroma_is_no_noise():
    # Chroma at half the size and quantised: what is left is less than rounding makes.
    stored = as_jpeg(noisy(flat(25), 2.0), 90)
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


IMAGES = {
    "width": st.integers(1, 40),
    "dtype": st.sampled_from([np.uint8, np.uint16]),
    "channels": st.sampled_from([1, 3]),
    "seed": st.integers(0, 1000),
}
"""What small images are drawn from, beside their height."""


@settings(deadline=None, max_examples=25)
@given(
    height=st.integers(1, 90),
    **IMAGES,
)
def test_strips_equal_the_whole(height, width, dtype, channels, seed):
    image = np.ascontiguousarray(random_image(height, width, dtype, seed)[..., :channels])
    noise = Noise(np.full(256, 4, np.float32), np.full(channels - 1, 1.5, np.float32))
    pieces, whole = denoise.quieted(image, noise, strip=16), denoise.quieted(image, noise, strip=1024)
    assert np.array_equal(pieces, whole)


def halved(plane):
    even = np.pad(plane, [(0, side % 2) for side in plane.shape], mode="edge")
    return (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4


def wiener(plane, limits):
    """The formula at the top of `denoise`, as it stands there: x - m times min(k s / v, 1), with k s as `limits`."""
    mean, squares = (cv2.blur(levels, (3, 3), borderType=cv2.BORDER_REPLICATE) for levels in (plane, plane**2))
    return (plane - mean) * np.minimum(limits / np.maximum(squares - mean**2, 1e-6), 1)


def plainly_quieted(image, noise):
    """What `quieted` makes, of whole planes of doubles."""
    levels = image / (np.iinfo(image.dtype).max / 255)
    (height, width), grey = image.shape[:2], image.shape[2] == 1
    luma = levels[..., 0] if grey else levels @ [0.299, 0.587, 0.114]
    planes = [luma] if grey else [luma, levels[..., 2] - luma, levels[..., 0] - luma]
    coarse_limits = noise.variances.astype(float)[halved(luma).astype(int)]
    limits = coarse_limits.repeat(2, 0).repeat(2, 1)[:height, :width]
    found = []
    for plane, share in zip(planes, [1, *denoise.CHROMA * noise.chroma], strict=True):
        fine = wiener(plane, share * denoise.FINE * limits)
        coarse = wiener(halved(plane - fine), share * denoise.COARSE * coarse_limits)
        found.append(fine + cv2.resize(coarse, None, fx=2, fy=2)[:height, :width])
    if not grey:
        y, blue, red = found
        found = [y + red, y - (0.299 * red + 0.114 * blue) / 0.587, y + blue]
    return np.clip(levels - np.dstack(found), 0, 255) * 257


@settings(deadline=None, max_examples=40)
@given(
    height=st.integers(1, 150),
    strip=st.sampled_from([16, 128]),
    **IMAGES,
)
def test_the_filter_does_what_its_formula_says(height, width, dtype, channels, strip, seed):
    levels = flat(60, (height, width, channels))
    levels[:, width // 2 :] = 120
    image = noisy(levels, 4, seed, dtype)
    noise = Noise(np.linspace(0.5, 8, 256, dtype=np.float32), np.array([1.5, 0.0], np.float32)[: channels - 1])
    found = denoise.quieted(image, noise, strip)
    assert np.abs(found - plainly_quieted(image, noise)).max() < 0.1 * 257


def test_batches_and_threads_give_what_single_images_give():
    images = [noisy(flat(20), 3.0), noisy(flat(25), 0.0), noisy(flat(30), 5.0)]
    enhancer = Enhancer(random_weights(spread=0.1), denoise=True)
    expected = [enhancer(image) for image in images]
    assert np.array_equal(enhancer(np.stack(images)), expected)
    for image, result in zip(images, expected, strict=True):
        assert np.array_equal(result, enhancer.apply(image, enhancer.factor_map(image)))
    with ThreadPoolExecutor(4) as pool:
        assert np.array_equal(list(pool.map(enhancer, images * 8)), expected * 8)


@on_each_device
def test_the_torch_engine_does_the_same(device):
    image = noisy(flat(20), 3.0)
    enhancer, on_cpu = Enhancer(BRIGHTENS, denoise=True), Enhancer(BRIGHTENS, denoise=True)(image)
    enhancer.engine = TorchEngine(BRIGHTENS, device)
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
