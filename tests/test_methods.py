"""The methods of enhancement: what all promise, what each computes, and how a job and a video take them."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import cv2
import numpy as np
import onnx
import pyarrow.dataset as ds
import pytest
from clips import pan, photograph, write_clip
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.lib.stride_tricks import sliding_window_view
from onnx import TensorProto, helper, numpy_helper

from jobs import assert_complete, make_corpus, rows_of
from sgllie import weights
from sgllie.architecture import parameter_shapes
from sgllie.images import ImageError
from sgllie.methods import METHODS, MethodName, describe_weights, make_method, msrcr, pie
from sgllie.methods.clahe import Clahe
from sgllie.methods.gamma import Gamma
from sgllie.methods.lime import Lime
from sgllie.methods.msrcr import Msrcr
from sgllie.methods.onnx_file import OnnxFile, open_network
from sgllie.methods.pie import Pie
from sgllie.run import prepare
from sgllie.settings import EnhanceSettings, MethodSettings
from sgllie.storage import UsageError
from sgllie.video.pipeline import VideoPipeline, guarded
from sgllie.video.reader import VideoReader
from sgllie.video.run import finish
from sgllie.video.run import prepare as prepare_video
from sgllie.video.settings import VideoSettings
from sgllie.video.smoothing import Smoother

CLASSICAL = {"lime": Lime, "pie": Pie, "msrcr": Msrcr, "clahe": Clahe, "gamma": Gamma}


def dark_image(height, width, dtype=np.uint8, seed=0, channels=3):
    """Dark noise over a gradient; grey for one channel."""
    generator = np.random.default_rng(seed)
    shape = (height, width, 3) if channels == 3 else (height, width)
    values = generator.beta(0.8, 4, shape).T * np.linspace(0.2, 1, height)
    return np.round(values.T * np.iinfo(dtype).max).astype(dtype)


def onnx_model(*nodes, shape=(1, 3, "h", "w"), constants=None, inputs=1, dtype=TensorProto.FLOAT):
    """The bytes of a graph from `x` (and `x1`, ...) to `y`."""
    names = ["x", *(f"x{number}" for number in range(1, inputs))]
    graph = helper.make_graph(
        list(nodes),
        "test",
        [helper.make_tensor_value_info(name, dtype, list(shape)) for name in names],
        [helper.make_tensor_value_info("y", dtype, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()


IDENTITY = onnx_model(helper.make_node("Identity", ["x"], ["y"]))
HALVES = [helper.make_node("MaxPool", ["x"], ["small"], kernel_shape=[4, 4], strides=[4, 4])]
FOURS = onnx_model(
    *HALVES,
    helper.make_node("Resize", ["small", "", "scales"], ["y"], mode="nearest"),
    constants={"scales": np.array([1, 1, 4, 4], np.float32)},
)


def onnx_method(data, **options):
    return OnnxFile(open_network(data, "test.onnx"), **options)


@pytest.fixture(scope="session")
def options(tmp_path_factory):
    """What each method of the registry needs to be made."""
    folder = tmp_path_factory.mktemp("weights")
    generator = np.random.default_rng(3)
    shapes = parameter_shapes("zero-dce", "tc")
    tensors = {name: generator.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}
    weights.save(weights.Weights("zero-dce", "tc", tensors), str(folder / "zero-dce.safetensors"))
    (folder / "fours.onnx").write_bytes(FOURS)
    needed = {"zero-dce": "zero-dce.safetensors", "onnx": "fours.onnx"}
    return {
        name: {"method": name, "device": "cpu", "weights": str(folder / needed[name]) if name in needed else None}
        for name in METHODS
    }


@pytest.fixture(scope="session")
def methods(options):
    """Every method of the registry."""
    return {name: make_method(MethodSettings(**chosen)) for name, chosen in options.items()}


# What all of them promise.


def test_the_command_line_knows_the_registry():
    assert get_args(MethodName) == tuple(METHODS)


@pytest.mark.parametrize("name", METHODS)
@settings(max_examples=25)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    channels=st.sampled_from([1, 3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_image_keeps_its_shape_and_type(methods, name, height, width, dtype, channels, seed):
    image = dark_image(height, width, dtype, seed, channels)
    method = methods[name]
    untouched = image.copy()
    factor = method.factor_map(image)
    enhanced = method.apply(image, factor)
    assert (enhanced.shape, enhanced.dtype) == (image.shape, image.dtype)
    assert np.array_equal(image, untouched)
    assert np.array_equal(enhanced, method(image))
    assert factor.dtype == np.float32
    assert np.isfinite(factor).all()
    assert [one.shape for one in method.factor_maps([image, image])] == [factor.shape] * 2


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_strength_blends_with_the_input(options, name, dtype):
    image = dark_image(21, 34, dtype)
    none, half, full = (make_method(MethodSettings(**options[name], strength=s))(image) for s in (0, 0.5, 1))
    assert np.array_equal(none, image)
    assert not np.array_equal(full, image)
    assert np.abs(half - (image.astype(float) + full) / 2).max() <= 1


@pytest.mark.parametrize("name", [*CLASSICAL, "onnx"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_stays_grey(methods, name, dtype):
    """An image of three equal channels stays neutral, and gets what the grey one gets."""
    grey = dark_image(50, 70, dtype, channels=1)
    colour = methods[name](np.dstack([grey] * 3))
    assert np.ptp(colour.astype(int), axis=2).max() <= 1
    if name != "msrcr":  # whose restoration depends on how many channels there are, by a constant
        assert np.abs(colour[..., 0].astype(float) - methods[name](grey)).max() <= np.iinfo(dtype).max / 255


@pytest.mark.parametrize("name", ["lime", "pie", "msrcr", "gamma"])
def test_depths_agree(methods, name):
    image = dark_image(60, 80)
    deep = methods[name](image.astype(np.uint16) * 257)
    assert np.abs(deep / 257 - methods[name](image)).max() <= 1


@pytest.mark.parametrize("name", METHODS)
def test_threads_may_share_a_method(methods, name):
    images = [dark_image(64, 48 + seed, seed=seed) for seed in range(12)]
    alone = [methods[name](image) for image in images]
    with ThreadPoolExecutor(6) as pool:
        for expected, found in zip(alone, pool.map(methods[name], images), strict=True):
            assert np.array_equal(expected, found)


@pytest.mark.parametrize("name", METHODS)
def test_other_arrays_are_refused(methods, name):
    with pytest.raises(ValueError, match="of type float32; uint8 or uint16"):
        methods[name](np.zeros((4, 4, 3), np.float32))
    with pytest.raises(ValueError, match=r"has shape \(4, 4, 4\)"):
        methods[name](np.zeros((4, 4, 4), np.uint8))


def test_strength_is_checked():
    with pytest.raises(UsageError, match="the strength is 2; it must lie between 0 and 1"):
        Lime(2)


# What each one computes.


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
    x = image + 1.0
    logs = [np.log(cv2.GaussianBlur(x, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)) for sigma in (15.0, 80.0, 250.0)]
    surround = np.mean(logs, axis=0)
    found = msrcr.resized(msrcr.log_surround(x.astype(np.float32)), 320, 480)
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


def test_published_zero_dce(shared):
    published = str(shared / "reference/zero_dce_Epoch99.pth")
    method = make_method(MethodSettings(method="zero-dce", weights=published, scale_factor=1, device="cpu"))
    image = np.load(shared / "reference/golden_model.npz")["input_u8"]
    expected = np.load(shared / "reference/golden_zero_dce.npz")["enhanced"] * 255
    assert np.abs(method(image) - expected).max() <= 1


# Networks in ONNX files.


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_onnx_identity(dtype, channels):
    image = dark_image(37, 53, dtype, channels=channels)
    assert np.array_equal(onnx_method(IDENTITY)(image), image)


@pytest.mark.parametrize("shape", [(1, 3, "h", "w"), ("n", "h", "w", 3), (1, 3, 70, 90), (1, 70, "w", 3)])
def test_onnx_layouts(shape):
    doubled = onnx_model(helper.make_node("Add", ["x", "x"], ["y"]), shape=shape)
    image = dark_image(69, 71)
    assert np.array_equal(onnx_method(doubled)(image), np.minimum(image.astype(int) * 2, 255))


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (64, 68), (66, 101)])
def test_onnx_multiples(size):
    """The largest of each 4 x 4 pixels, at sizes that are no multiples of four."""
    network = open_network(FOURS, "test.onnx")
    assert network.multiple == 4
    image = dark_image(*size)
    wide = np.pad(image, ((0, -size[0] % 4), (0, -size[1] % 4), (0, 0)), mode="reflect")
    if min(size) > 4:
        blocks = wide.reshape(wide.shape[0] // 4, 4, wide.shape[1] // 4, 4, 3).max(axis=(1, 3))
        expected = blocks.repeat(4, axis=0).repeat(4, axis=1)[: size[0], : size[1]]
        assert np.array_equal(OnnxFile(network)(image), expected)
    assert OnnxFile(network)(image).shape == image.shape


def test_onnx_takes_the_first_output_that_fits():
    small = helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
    twice = helper.make_node("Add", ["x", "x"], ["z"])
    model = onnx.load_from_string(onnx_model(small, twice))
    model.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    network = open_network(model.SerializeToString(), "test.onnx")
    assert network.output == "z"


def test_onnx_half_precision():
    half = onnx_model(helper.make_node("Identity", ["x"], ["y"]), dtype=TensorProto.FLOAT16)
    image = dark_image(30, 40)
    assert np.abs(onnx_method(half)(image).astype(int) - image).max() <= 1


def test_onnx_refuses_images():
    fixed = onnx_method(onnx_model(helper.make_node("Identity", ["x"], ["y"]), shape=(1, 3, 64, 96)))
    assert np.array_equal(fixed(dark_image(64, 96)), dark_image(64, 96))
    with pytest.raises(ImageError, match="takes sides of 64 pixels at most, and one has 65") as found:
        fixed(dark_image(65, 96))
    assert found.value.error_type == "too_large"
    assert guarded(lambda: fixed(dark_image(65, 96)))["error_type"] == "too_large"
    infinite = onnx_model(helper.make_node("Div", ["x", "zero"], ["y"]), constants={"zero": np.float32(0)})
    with pytest.raises(ImageError, match="not finite"):
        onnx_method(infinite)(dark_image(8, 8))
    exact = onnx_model(helper.make_node("Add", ["x", "one"], ["y"]), constants={"one": np.zeros((65, 67), np.float32)})
    with pytest.raises(ImageError, match="the network cannot take it"):
        onnx_method(exact)(dark_image(99, 99))


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"no network", "test.onnx is no ONNX file that onnxruntime can open"),
        (onnx_model(helper.make_node("Identity", ["small"], ["y"]), *HALVES), "none of its outputs has the shape"),
        (onnx_model(helper.make_node("Identity", ["x"], ["y"]), shape=(1, 1, "h", "w")), "it has x: tensor"),
        (onnx_model(helper.make_node("Identity", ["x"], ["y"]), shape=(2, 3, "h", "w")), "must have one input"),
        (onnx_model(helper.make_node("Add", ["x", "x1"], ["y"]), inputs=2), "must have one input"),
        (onnx_model(helper.make_node("Identity", ["x"], ["y"]), dtype=TensorProto.INT32), "tensor.int32"),
    ],
)
def test_onnx_files_that_do_not_fit(data, sentence):
    with pytest.raises(UsageError, match=sentence) as found:
        open_network(data, "test.onnx")
    assert "\n" not in str(found.value)


# Weights, settings and jobs.


def test_weights_of_methods(options, tmp_path):
    assert describe_weights(MethodSettings())["name"] == weights.DEFAULT
    assert describe_weights(MethodSettings(**options["zero-dce"]))["architecture"] == "zero-dce"
    assert len(describe_weights(MethodSettings(**options["onnx"]))["fingerprint"]) == 64
    assert describe_weights(MethodSettings(method="lime")) is None
    assert MethodSettings(method="lime").device == "cpu"
    assert MethodSettings(method="zero-dce").device == "auto"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--method", "clahe", "--weights", "sgllie"), "it must be left out, since --method clahe has no weights"),
        (("--method", "zero-dce"), "--weights must name a Zero-DCE checkpoint"),
        (("--method", "zero-dce", "--weights", "sgllie"), "cannot take; choose --method sgz"),
        (("--weights", "ZERO"), "of the architecture zero-dce, which --method sgz cannot take"),
        (("--method", "onnx"), "--weights must name the .onnx file"),
        (("--method", "onnx", "--weights", "absent.onnx"), "weights absent.onnx cannot be read"),
        (("--method", "lime", "--device", "cuda"), "must be cpu with --method lime"),
        (("--scale-factor", 0), "--scale-factor is 0; it must be 1 or more"),
    ],
)
@pytest.mark.parametrize("command", ["enhance", "video"])
def test_mistakes_are_one_sentence_each(here, options, tmp_path, command, arguments, sentence):
    make_corpus(tmp_path / "in", 1)
    chosen = [options["zero-dce"]["weights"] if one == "ZERO" else one for one in arguments]
    result = here(command, tmp_path / "in", tmp_path / "out", *chosen)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_job_with_another_method(here, tmp_path):
    source, output = make_corpus(tmp_path / "in", 3), tmp_path / "out"
    arguments = ("enhance", source, output, "--format", "png", "--method")
    assert here(*arguments, "lime").returncode == 0
    for row in assert_complete(source, output):
        image = cv2.imread(str(source / row["path"]))[..., ::-1]
        assert np.array_equal(cv2.imread(str(output / row["output"]))[..., ::-1], Lime()(image))
        assert row["factor_mean"] == pytest.approx(Lime().factor_map(image).mean())
    run = json.loads((output / "run.json").read_text())
    assert (run["weights"], run["outcome"]["method"]) == (None, "lime")
    assert "All of it was there already" in here(*arguments, "lime").stdout
    other = here(*arguments, "sgz")
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    assert "other settings: --method (lime then, sgz now)." in other.stderr
    assert here(*arguments, "clahe", "--overwrite").returncode == 0
    assert {row["factor_mean"] for row in rows_of(output)} == {None}


def test_a_run_goes_on_only_with_the_same_network(tmp_path):
    source, network = make_corpus(tmp_path / "in", 1), tmp_path / "a.onnx"
    network.write_bytes(FOURS)
    chosen = EnhanceSettings(str(source), str(tmp_path / "out"), method="onnx", weights=str(network))
    assert not prepare(chosen).resumed
    assert prepare(chosen).resumed
    network.write_bytes(IDENTITY)
    with pytest.raises(UsageError, match=r"other settings: the weights \("):
        prepare(chosen)


@pytest.mark.parametrize("name", ["gamma", "lime", "clahe"])
def test_a_smoothed_video(tmp_path, name):
    """The pixels are those of each frame with the mean of the factor maps up to it."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_clip(source / "ride.mp4", pan(6), sound=False)
    chosen = VideoSettings(str(source), str(output), method=name, temporal_smoothing=0.5, codec="ffv1", threads=1)
    run = prepare_video(chosen)
    VideoPipeline(chosen, run.root, run.output.uri, run.target, lambda segment, done: None).run(0)
    assert finish(run)["ok"] == 1
    described = json.loads((output / "run.json").read_text())
    assert (described["weights"], described["outcome"]["method"]) == (None, name)
    frames = ds.dataset(output / "frames").to_table().to_pylist()
    method, smoother = CLASSICAL[name](), Smoother(0.5)
    with VideoReader(str(source / "ride.mp4")) as before, VideoReader(str(output / "videos/ride.mp4")) as after:
        for dark, bright, frame in zip(before.pictures(), after.pictures(), frames, strict=True):
            factor, _ = smoother(dark.pixels, method.factor_map(dark.pixels))
            assert np.array_equal(bright.pixels, method.apply(dark.pixels, factor))
            assert frame["factor_mean"] == (pytest.approx(factor.mean()) if factor.size else None)


def test_nothing_heavy_is_imported_early():
    """Settings need no library of images, the driver no network, and no method torch."""
    code = (
        "import sys\n"
        "import sgllie.settings, sgllie.video.settings, sgllie.methods\n"
        "assert not {'cv2', 'numba', 'onnxruntime', 'scipy', 'torch'} & set(sys.modules)\n"
        "from sgllie.settings import MethodSettings\n"
        "import sgllie.run\n"
        "sgllie.run.describe_weights(MethodSettings())\n"
        "assert not {'numba', 'onnxruntime', 'scipy', 'torch'} & set(sys.modules)\n"
        "import numpy\n"
        "for name in ('sgz', 'lime', 'pie', 'msrcr', 'clahe', 'gamma'):\n"
        "    sgllie.methods.make_method(MethodSettings(method=name, device='cpu'))(numpy.ones((9, 9, 3), 'uint8'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
