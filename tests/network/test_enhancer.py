"""The fast engines against the plain torch path."""

import pickle
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from golden import NETWORKS, dark_image, golden_weights, load
from sgllie import Enhancer
from sgllie.errors import UsageError
from sgllie.network import model, weights
from sgllie.network.architecture import parameter_shapes
from sgllie.network.onnx_graph import factor_session

TOLERANCE = {np.uint8: 1, np.uint16: 16}


def random_weights(architecture="sgz", conv_type="dsc", spread=0.4):
    """Weights large enough that factor maps reach far to both sides."""
    generator = np.random.default_rng(3)
    shapes = parameter_shapes(architecture, conv_type)
    tensors = {name: generator.normal(0, spread, shape).astype(np.float32) for name, shape in shapes.items()}
    return weights.Weights(architecture, conv_type, tensors)


def random_image(height, width, dtype=np.uint8, seed=0):
    """Dark noise over a gradient."""
    generator = np.random.default_rng(seed)
    peak = np.iinfo(dtype).max
    image = generator.beta(0.7, 3, (height, width, 3)) * np.linspace(0.2, 1, width)[:, None]
    return np.round(image * peak).astype(dtype)


def torch_path(found, image, scale_factor, strength=1.0):
    """The definition, in float, rounded."""
    peak = np.iinfo(image.dtype).max
    whole = model.EnhancementModel(model.network_from(found), scale_factor)
    x = torch.from_numpy(image.astype(np.float32) / peak).permute(2, 0, 1)[None]
    with torch.inference_mode():
        enhanced = torch.lerp(x, whole(x)[0], strength)
    return np.round(enhanced[0].permute(1, 2, 0).numpy().astype(np.float64) * peak).astype(image.dtype)


def difference(a, b):
    return int(np.abs(a.astype(np.int64) - b.astype(np.int64)).max())


SGZ = random_weights()
ENHANCERS = {scale: Enhancer(SGZ, scale_factor=scale) for scale in (1, 4, 12)}


@pytest.mark.jobs
@settings(deadline=None, max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    scale_factor=st.sampled_from([1, 4, 12]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_size_equals_the_torch_path(height, width, scale_factor, dtype, seed):
    image = random_image(height, width, dtype, seed)
    enhanced = ENHANCERS[scale_factor](image)
    assert enhanced.shape == image.shape
    assert enhanced.dtype == dtype
    assert difference(enhanced, torch_path(SGZ, image, scale_factor)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("scale_factor", [1, 3, 12])
@pytest.mark.parametrize(
    ("architecture", "conv_type"),
    [("sgz", "tc"), ("sgz", "dc"), ("zero-dce", "tc"), ("zero-dce", "dsc"), ("sgz-global", "dsc"), ("sgz-slim", "dsc")],
)
def test_every_network_equals_the_torch_path(architecture, conv_type, scale_factor):
    found = random_weights(architecture, conv_type, 0.1)
    image = random_image(97, 120)
    enhanced = Enhancer(found, scale_factor=scale_factor)(image)
    assert difference(enhanced, torch_path(found, image, scale_factor)) <= 1


@pytest.mark.parametrize("strength", [0.0, 0.3, 1.0])
def test_strength_blends(strength):
    image = random_image(40, 60)
    enhanced = Enhancer(SGZ, strength=strength)(image)
    assert difference(enhanced, torch_path(SGZ, image, 12, strength)) <= 1
    assert (strength == 0) == np.array_equal(enhanced, image)


def constant_factor(value):
    """Weights whose factor map is `value` everywhere."""
    tensors = {name: np.zeros(shape, np.float32) for name, shape in parameter_shapes("sgz", "dsc").items()}
    tensors["e_conv7.point_conv.bias"][:] = np.arctanh(value)
    return weights.Weights("sgz", "dsc", tensors)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_factor_zero_is_the_identity(dtype):
    image = random_image(50, 31, dtype)
    assert np.array_equal(Enhancer(constant_factor(0.0))(image), image)


@pytest.mark.parametrize(
    ("value", "expected"), [(-0.999999, lambda x: 1 - (1 - x) ** 256), (0.999999, lambda x: x**256)]
)
def test_extreme_factors_have_closed_forms(value, expected):
    image = np.arange(256, dtype=np.uint8).reshape(16, 16)
    enhanced = Enhancer(constant_factor(value))(image)
    assert difference(enhanced, np.round(expected(image / 255) * 255)) <= 1


def test_grey_takes_the_mean_factor_of_the_channels():
    grey = random_image(40, 30)[..., 0]
    enhancer = Enhancer(SGZ)
    enhanced = enhancer(grey)
    assert enhanced.shape == grey.shape
    factor = enhancer.factor_map(np.repeat(grey[..., None], 3, axis=2)).mean(axis=2, keepdims=True)
    expected = enhancer.apply(np.repeat(grey[..., None], 3, axis=2), np.repeat(factor, 3, axis=2))
    assert difference(enhanced, expected[..., 0]) <= 1


def test_lists_and_batches_equal_single_images():
    enhancer = Enhancer(SGZ)
    images = [random_image(25, 33, seed=seed) for seed in range(3)]
    single = [enhancer(image) for image in images]
    batch = enhancer(np.stack(images))
    assert batch.shape == (3, 25, 33, 3)
    for expected, from_batch, from_list in zip(single, batch, enhancer(images), strict=True):
        assert np.array_equal(expected, from_batch)
        assert np.array_equal(expected, from_list)


def test_non_contiguous_images():
    image = random_image(60, 80)[::2, ::-1]
    assert np.array_equal(Enhancer(SGZ)(image), Enhancer(SGZ)(image.copy()))


def test_factor_maps_are_those_of_torch():
    found = random_weights(spread=0.2)
    small = np.random.default_rng(0).random((2, 3, 17, 9), dtype=np.float32)
    with torch.inference_mode():
        expected = model.network_from(found)(torch.from_numpy(small)).permute(0, 2, 3, 1).numpy()
    found_map = factor_session(found).run(None, {"small": small})[0]
    np.testing.assert_allclose(found_map, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("image", "sentence"),
    [
        (np.zeros((4, 4, 3), np.float32), "of type float32; uint8 or uint16"),
        (np.zeros((4, 4, 4), np.uint8), r"has shape \(4, 4, 4\)"),
        (np.zeros((0, 4, 3), np.uint8), r"has shape \(0, 4, 3\)"),
        (np.zeros(4, np.uint8), r"has shape \(4,\)"),
    ],
)
def test_other_arrays_are_refused(image, sentence):
    with pytest.raises(ValueError, match=sentence):
        Enhancer(SGZ)(image)


@pytest.mark.parametrize("image", ["a.jpg", ["a.jpg"], 1, [[1]]])
def test_what_is_no_array_is_refused(image):
    with pytest.raises(TypeError, match="must be a numpy array"):
        Enhancer(SGZ)(image)


def test_an_enhancer_can_be_sent_to_another_process():
    image = random_image(30, 40)
    enhancer = Enhancer(SGZ, scale_factor=3, strength=0.5)
    assert np.array_equal(pickle.loads(pickle.dumps(enhancer))(image), enhancer(image))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"device": "tpu"}, "device is tpu"),
        ({"scale_factor": 0}, "scale factor is 0"),
        ({"strength": 2}, "the strength is 2; it must lie between 0 and 1"),
        ({"strength": -0.1}, "the strength is -0.1; it must lie between 0 and 1"),
        ({"strength": float("nan")}, "the strength is nan; it must lie between 0 and 1"),
        ({"half": True}, "half precision is on; it needs the device cuda"),
    ],
)
def test_wrong_options_are_refused(options, sentence):
    with pytest.raises(UsageError, match=sentence):
        Enhancer(SGZ, **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(UsageError, match="no CUDA device"):
        Enhancer(SGZ, device="cuda")


@pytest.mark.parametrize(("architecture", "conv_type", "scale_factor"), NETWORKS)
def test_the_fast_path_gives_the_golden_values(architecture, conv_type, scale_factor):
    expected = load("network")[f"{architecture}_{conv_type}_{scale_factor}_enhanced"]
    image = dark_image(*expected.shape[:2])
    enhanced = Enhancer(golden_weights(architecture, conv_type), scale_factor=scale_factor)(image)
    assert difference(enhanced, np.round(expected * np.float64(255))) <= 1


def test_published_weights_give_the_published_images(shared):
    enhancer = Enhancer.load(str(shared / "reference/sgz_Epoch99.pth"), device="cpu")
    for path in sorted((shared / "data/eval/lowCUT").glob("*.png")):
        expected = cv2.imread(str(shared / "reference/expected_lowCUT" / path.name))[..., ::-1]
        assert difference(enhancer(cv2.imread(str(path))[..., ::-1]), expected) <= 1


@pytest.mark.jobs
def test_the_cpu_path_never_imports_torch():
    code = (
        "import sys, numpy; from sgllie import Enhancer; "
        "Enhancer.load(device='cpu')(numpy.zeros((9, 9, 3), 'uint8')); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_denormal_numbers_of_the_caller_stay():
    """Some runtimes flush them for the whole thread, which breaks other people's arithmetic."""
    Enhancer.load()(random_image(8, 8))
    assert np.finfo(np.float64).tiny / 4 > 0
