"""The methods of enhancement: what all promise, and how a job and a video take them."""

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import cv2
import numpy as np
import pyarrow.dataset as ds
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clips import pan, write_clip
from commands import assert_complete, make_corpus, rows_of
from networks import FOURS, dark_image
from sgllie.errors import UsageError
from sgllie.methods import METHODS, MethodName, MethodSettings, describe_weights, make_method
from sgllie.methods.clahe import Clahe
from sgllie.methods.gamma import Gamma
from sgllie.methods.lime import Lime
from sgllie.methods.msrcr import Msrcr
from sgllie.methods.pie import Pie
from sgllie.network import weights
from sgllie.network.architecture import parameter_shapes
from sgllie.runs.job import InProcess, finish
from sgllie.video.reader import VideoReader
from sgllie.video.run import prepare as prepare_video
from sgllie.video.settings import VideoSettings
from sgllie.video.smoothing import Smoother

CLASSICAL = {"lime": Lime, "pie": Pie, "msrcr": Msrcr, "clahe": Clahe, "gamma": Gamma}


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


# Weights, settings and jobs.


def test_weights_of_methods(options, tmp_path):
    assert describe_weights(MethodSettings())["name"] == weights.DEFAULT
    assert describe_weights(MethodSettings(**options["zero-dce"]))["architecture"] == "zero-dce"
    assert len(describe_weights(MethodSettings(**options["onnx"]))["fingerprint"]) == 64
    assert describe_weights(MethodSettings(method="lime")) is None
    assert MethodSettings(method="lime").device == "cpu"
    assert MethodSettings(method="zero-dce", scale_factor=1).device == "auto"


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
        (("--method", "onnx", "--half"), "--half is on; it must be left out with --method onnx"),
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
    assert (run["weights"], run["output_settings"]["method"]) == (None, "lime")
    assert "All of it was there already" in here(*arguments, "lime").stdout
    other = here(*arguments, "sgz")
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)
    assert "other settings: --method (lime then, sgz now)." in other.stderr
    assert here(*arguments, "clahe", "--overwrite").returncode == 0
    assert {row["factor_mean"] for row in rows_of(output)} == {None}


@pytest.mark.parametrize("name", ["gamma", "lime", "clahe"])
def test_a_smoothed_video(tmp_path, name):
    """The pixels are those of each frame with the mean of the factor maps up to it."""
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write_clip(source / "ride.mp4", pan(6), sound=False)
    chosen = VideoSettings(str(source), str(output), method=name, temporal_smoothing=0.5, codec="ffv1", threads=1)
    run = prepare_video(chosen)
    run.make_pipeline(lambda shard, done, failed, group="": None).run(0)
    assert finish(run, {}, InProcess())["ok"] == 1
    described = json.loads((output / "run.json").read_text())
    assert (described["weights"], described["output_settings"]["method"]) == (None, name)
    frames = ds.dataset(output / "frames").to_table().to_pylist()
    method, smoother = CLASSICAL[name](), Smoother(0.5)
    with VideoReader(str(source / "ride.mp4")) as before, VideoReader(str(output / "videos/ride.mp4")) as after:
        for dark, bright, frame in zip(before.pictures(), after.pictures(), frames, strict=True):
            factor, _ = smoother(dark.pixels, method.factor_map(dark.pixels))
            assert np.array_equal(bright.pixels, method.apply(dark.pixels, factor))
            assert frame["factor_mean"] == (pytest.approx(factor.mean()) if factor.size else None)


@pytest.mark.jobs
def test_nothing_heavy_is_imported_early():
    """Settings need no library of images, the driver no network, and no method torch."""
    code = (
        "import sys\n"
        "import sgllie.enhance.settings, sgllie.video.settings, sgllie.methods\n"
        "assert not {'cv2', 'numba', 'onnxruntime', 'scipy', 'torch'} & set(sys.modules)\n"
        "from sgllie.methods import MethodSettings\n"
        "import sgllie.enhance.run\n"
        "sgllie.methods.describe_weights(MethodSettings())\n"
        "assert not {'numba', 'onnxruntime', 'scipy', 'torch'} & set(sys.modules)\n"
        "import numpy\n"
        "for name in ('sgz', 'lime', 'pie', 'msrcr', 'clahe', 'gamma'):\n"
        "    sgllie.methods.make_method(MethodSettings(method=name, device='cpu'))(numpy.ones((9, 9, 3), 'uint8'))\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
