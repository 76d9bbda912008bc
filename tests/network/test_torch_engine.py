"""The engine in torch against that of the CPU: it runs on the CPU here, and on the GPU where there is one."""

import gc
import importlib
import os
import subprocess
import sys
import threading
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_enhancer import SGZ, TOLERANCE, difference, random_image, random_weights

from commands import make_corpus
from devices import CUDA, on_each_device
from sgllie import Enhancer, network
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhancer import Enhanced
from sgllie.errors import DeviceError, DeviceMemoryError, SlowCurveWarning
from sgllie.methods import MethodSettings
from sgllie.network import torch_curve, torch_engine
from sgllie.network.architecture import ARCHITECTURES
from sgllie.network.torch_engine import TorchEngine


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Several in one small operation wait for each other longer than they work, on a machine that is busy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def enhancer_on(device, found=SGZ, *, half=False, **options):
    """An enhancer that computes in torch, on the CPU too."""
    enhancer = Enhancer(found, **options)
    enhancer.engine = TorchEngine(found, device, half=half)
    enhancer.device = "cuda"
    return enhancer


@on_each_device
@settings(max_examples=50)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    scale_factor=st.sampled_from([1, 4, 12]),
    dtype=st.sampled_from([np.uint8, np.uint16]),
    is_grey=st.booleans(),
    strength=st.sampled_from([1.0, 0.3]),
    tile=st.sampled_from([700, 1 << 20]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_image_in_any_tiles(device, height, width, scale_factor, dtype, is_grey, strength, tile, seed):
    image = random_image(height, width, dtype, seed)
    image = image[..., 0] if is_grey else image
    expected = Enhancer(SGZ, scale_factor=scale_factor, strength=strength)(image)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch_engine, "TILE_SAMPLES", tile)
        patch.setattr(torch_engine, "TILE_PIXELS", tile)
        enhanced = enhancer_on(device, scale_factor=scale_factor, strength=strength)(image)
    assert (enhanced.shape, enhanced.dtype) == (image.shape, dtype)
    assert difference(enhanced, expected) <= TOLERANCE[dtype]


@on_each_device
@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("conv_type", ["dsc", "dc"])
@pytest.mark.parametrize("tile", [1500, 1 << 20])
def test_every_network(device, architecture, conv_type, tile, monkeypatch):
    """A tile sees its neighbours as far as the network does, and the mean of the whole image."""
    monkeypatch.setattr(torch_engine, "TILE_SAMPLES", tile)
    found, image = random_weights(architecture, conv_type, 0.1), random_image(67, 50)
    plain, enhancer = Enhancer(found, scale_factor=1), enhancer_on(device, found, scale_factor=1)
    assert np.abs(enhancer.factor_map(image) - plain.factor_map(image)).max() < 1e-4
    assert difference(enhancer(image), plain(image)) <= 1


@on_each_device
def test_batches(device):
    images = np.stack([random_image(25, 33, seed=seed) for seed in range(3)])
    enhancer = enhancer_on(device)
    enhanced = enhancer(images)
    assert enhanced.shape == images.shape
    assert difference(enhanced, np.stack([Enhancer(SGZ)(image) for image in images])) <= 1
    assert enhancer.factor_maps(list(images)).shape == (3, 3, 3, 3)


@on_each_device
def test_both_steps_give_what_one_call_gives(device):
    image = random_image(40, 51)
    enhancer = enhancer_on(device)
    factor = enhancer.factor_map(image)
    pixels, statistics, _ = enhancer.enhance(image)
    assert difference(enhancer.apply(image, factor), pixels) <= 1
    assert statistics == pytest.approx((factor.mean(), factor.min(), factor.max()), abs=1e-5)


@on_each_device
def test_threads_share_an_engine(device):
    enhancer = enhancer_on(device)
    images = [random_image(30 + seed % 5, 200, seed=seed) for seed in range(40)]
    expected = [Enhancer(SGZ)(image) for image in images]
    with ThreadPoolExecutor(8) as pool:
        for enhanced, right in zip(pool.map(enhancer, images), expected, strict=True):
            assert difference(enhanced, right) <= 1


@on_each_device
def test_there_are_as_many_lanes_as_calls_at_once(device):
    """A job has two dozen threads more than compute; a lane for each would keep memory for each."""
    enhancer, images = enhancer_on(device), [random_image(30, 40, seed=seed) for seed in range(24)]
    at_once, all_there = threading.Semaphore(2), threading.Barrier(12)

    def enhance(image):
        all_there.wait()
        with at_once:
            enhancer(image)

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(enhance, images))
    assert 1 <= len(enhancer.engine._free_lanes) <= 2


def test_convolutions_are_in_full_single_precision(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    enhancer_on("cpu")
    assert not torch.backends.cudnn.allow_tf32


@on_each_device
def test_half_precision_is_near(device):
    found, image = random_weights("sgz-slim", spread=0.1), random_image(60, 80)
    half = enhancer_on(device, found, scale_factor=2, half=True)
    assert difference(half(image), Enhancer(found, scale_factor=2)(image)) <= 3


@pytest.fixture(scope="module", params=["interpreted", CUDA])
def fused(request):
    """The kernel of Triton, and where it runs; without a GPU Triton runs it in Python."""
    pytest.importorskip("triton")
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "interpreted":
            patch.setenv("TRITON_INTERPRET", "1")
        sys.modules.pop("sgllie.network.triton_curve", None)
        yield (
            importlib.import_module("sgllie.network.triton_curve"),
            "cpu" if request.param == "interpreted" else "cuda",
        )
    sys.modules.pop("sgllie.network.triton_curve")


@pytest.mark.parametrize("maps", [1, 8])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("dtype", "scale", "strength", "first"),
    [(torch.uint8, 12, 1.0, 0), (torch.uint8, 1, 0.3, 2), (torch.uint16, 4, 1.0, 17), (torch.uint16, 12, 0.3, 5)],
)
def test_the_fused_curve(fused, maps, channels, dtype, scale, strength, first):
    triton_curve, device = fused
    generator = torch.Generator().manual_seed(1)
    height, width, rows = 41, 37, 20
    pixels = torch.randint(0, torch.iinfo(dtype).max + 1, (2, rows, width, channels), generator=generator).to(dtype)
    small = (-(-side // scale) for side in (height, width))
    factor = torch.rand((2, *small, maps * channels), generator=generator) * 2 - 1
    expected = torch_curve.curve_rows(pixels, factor, first, scale, strength)
    found = triton_curve.curve_rows(pixels.to(device), factor.to(device), first, scale, strength).cpu()
    limit = 1 if dtype == torch.uint8 else 16
    assert difference(found.numpy(), expected.numpy()) <= limit


@pytest.fixture
def failing_curve(monkeypatch):
    """Have the fused curve fail on what is taken for a GPU, and then what waits for that, if it does."""
    zeros = torch.zeros
    monkeypatch.setattr(torch, "zeros", lambda *size, device, **options: zeros(*size, **options))

    def make(error, broken=None):
        def fail(error):
            if error:
                raise error

        triton_curve = SimpleNamespace(curve_rows=lambda *_: fail(error))
        monkeypatch.setattr(network, "triton_curve", triton_curve, raising=False)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: fail(broken))
        with torch_engine.device_faults():
            return torch_engine.curve_for(torch.device("cuda"))

    return make


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Failed to find C compiler. Please specify via CC environment variable"),
        RuntimeError("Triton Error [CUDA]: device kernel image is invalid"),
    ],
    ids=str,
)
def test_without_triton_the_curve_is_plain_and_says_so(failing_curve, error):
    said = r"^the curve runs in plain torch, for Triton, which needs .+ headers, does not work \(RuntimeError: .+\)$"
    with pytest.warns(SlowCurveWarning, match=said):
        assert failing_curve(error) is torch_curve.curve_rows


def test_triton_is_not_blamed_for_a_gpu_that_is_full_or_broken(failing_curve):
    for error in (RuntimeError("Triton Error [CUDA]: out of memory"), FULL[0]):
        with pytest.raises(DeviceMemoryError):
            failing_curve(error)
    said = "CUDA error: an illegal memory access was encountered"
    with pytest.raises(DeviceError, match=said):
        failing_curve(RuntimeError("Triton Error [CUDA]: an illegal memory access was encountered"), ACCELERATOR(said))


COMPILE = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from sgllie.network.triton_curve import BLOCK, curve_kernel

for levels, maps, capability in (("*u8", 1, 90), ("*u16", 8, 75)):
    constants = {"channels": 3, "maps": maps, "steps": 8, "block": BLOCK}
    types = {"pixels": levels, "factor": "*fp32", "enhanced": levels} | dict.fromkeys(constants, "constexpr")
    types |= dict.fromkeys(("row_ratio", "column_ratio", "peak", "strength"), "fp32")
    signature = {name: types.get(name, "i32") for name in curve_kernel.arg_names}
    compiled = triton.compile(ASTSource(curve_kernel, signature, constants), GPUTarget("cuda", capability, 32))
    assert compiled.asm["cubin"]
"""


@pytest.mark.jobs  # it takes seconds
def test_the_fused_curve_compiles_for_gpus(tmp_path):
    """To machine code, for which none is needed."""
    pytest.importorskip("triton")
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path), "TRITON_INTERPRET": "0"}
    subprocess.run([sys.executable, "-c", COMPILE], env=environment, check=True)


class Unreachable:
    """A network that fails as torch does on a GPU."""

    halo, has_global_term = 7, False

    def __init__(self, error):
        self.error = error

    def __call__(self, *_):
        raise self.error


FULL = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
]


@pytest.mark.parametrize("error", FULL, ids=str)
def test_what_the_gpu_has_no_memory_for_is_done_on_the_cpu(error):
    image = random_image(40, 51)
    enhancer, expected = enhancer_on("cpu"), Enhancer(SGZ).enhance(image)
    assert enhancer.enhance(image).device == "cuda"
    enhancer.engine.network = Unreachable(error)
    enhanced = enhancer.enhance(image)
    assert (enhanced.device, enhanced.factor) == ("cpu", expected.factor)
    assert np.array_equal(enhanced.pixels, expected.pixels)
    assert np.array_equal(enhancer.apply(image, enhancer.factor_map(image)), expected.pixels)
    assert np.array_equal(enhancer(np.stack([image] * 2)), np.stack([expected.pixels] * 2))


class Full:
    """A network that needs much, and then more than there is."""

    halo, has_global_term = 7, False

    def __call__(self, *_):
        needed = np.zeros(9)
        self.held = weakref.ref(needed)
        raise torch.OutOfMemoryError("CUDA out of memory")


def test_the_memory_of_the_failed_call_is_free_before_the_cpu_begins():
    enhancer = enhancer_on("cpu")
    enhancer.engine.network = network = Full()
    factors, is_free = enhancer._cpu_engine.factors, []
    enhancer._cpu_engine.factors = lambda *given: [is_free.append(network.held() is None), factors(*given)][1]
    gc.disable()
    try:
        enhancer.enhance(random_image(20, 30))
    finally:
        gc.enable()
    assert is_free == [True]
    assert len(enhancer.engine._free_lanes) == 1


ACCELERATOR = getattr(torch, "AcceleratorError", RuntimeError)


@pytest.mark.parametrize(
    "error",
    [
        ACCELERATOR("CUDA error: an illegal memory access was encountered"),
        RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA"),
        RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"),
        RuntimeError("CUBLAS error: CUBLAS_STATUS_EXECUTION_FAILED"),
    ],
    ids=str,
)
def test_a_gpu_that_does_not_work_is_told_in_a_line(error):
    enhancer = enhancer_on("cpu")
    enhancer.engine.network = Unreachable(error)
    with pytest.raises(DeviceError, match=r"^the GPU does not work: [^\n]+$"):
        enhancer(random_image(20, 30))


def test_a_mistake_of_ours_stays_one():
    enhancer = enhancer_on("cpu")
    enhancer.engine.network = Unreachable(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1"):
        enhancer(random_image(20, 30))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_gpu_whose_memory_is_full():
    image = random_image(600, 900)
    enhancer = Enhancer(SGZ, scale_factor=1, device="cuda")
    enhancer(image)
    torch.cuda.empty_cache()  # else it would take what the first call had
    torch.cuda.set_per_process_memory_fraction(1e-4)
    try:
        enhanced = enhancer.enhance(image)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert enhanced.device == "cpu"
    assert difference(enhanced.pixels, Enhancer(SGZ, scale_factor=1)(image)) <= 1


@pytest.mark.parametrize(
    ("options", "device"),
    [
        ({}, "cpu"),
        ({"scale_factor": 3}, "auto"),
        ({"scale_factor": 4}, "cpu"),
        ({"method": "zero-dce", "scale_factor": 8}, "auto"),
        ({"method": "zero-dce", "scale_factor": 12}, "cpu"),
        ({"method": "lime", "scale_factor": 1}, "cpu"),
        ({"device": "cuda"}, "cuda"),
        ({"half": True}, "cuda"),
        ({"scale_factor": 1, "device": "cpu"}, "cpu"),
    ],
)
def test_a_gpu_is_looked_for_where_it_pays(options, device):
    assert MethodSettings(**options).device == device


@pytest.mark.parametrize(("scale_factor", "device"), [(2, "cuda"), (3, "cpu")])
def test_the_library_takes_a_gpu_where_it_pays(scale_factor, device, monkeypatch):
    monkeypatch.setattr("sgllie.enhancer.has_gpu", lambda: True)
    monkeypatch.setattr("sgllie.enhancer.engine_for", lambda *_, half: None)
    assert Enhancer.load(scale_factor=scale_factor).device == device


@pytest.mark.jobs
def test_a_shard_whose_gpu_fails_is_finished_by_the_next_attempt(tmp_path, monkeypatch):
    """The rows that were there are kept, and no row says that an image is to blame."""
    source = make_corpus(tmp_path / "in", 6)
    plain = EnhanceSettings(str(source), str(tmp_path / "out"), threads=1, device="cpu")
    run = prepare(plain)
    left = iter([0, 1, 2])

    def fails_after_a_while(enhancer, image, level=None):
        if next(left, None) is None:
            raise DeviceError("the GPU does not work: CUDA error")
        return Enhanced(image, None, "cuda")

    with monkeypatch.context() as patch:
        patch.setattr(Enhancer, "enhance", fails_after_a_while)
        with pytest.raises(DeviceError):
            run.make_pipeline(lambda *_: None).run(0)
    assert not (tmp_path / "out/commits").exists()
    run.make_pipeline(lambda *_: None).run(0)
    rows = pq.read_table(tmp_path / "out/commits/part-00000.parquet").to_pylist()
    found = Counter((row["status"], row["device"], row["attempt"]) for row in rows)
    assert found.keys() == {("ok", "cuda", 1), ("ok", "cpu", 2)}
    assert found.total() == 6
    assert found["ok", "cuda", 1] >= 2  # the third may still be on its way to the disk when the fourth fails


GROWTH = """
import re, numpy, torch
from sgllie import Enhancer, network
from sgllie.network.torch_engine import TorchEngine

def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])

torch.set_num_threads(1)
enhancer = Enhancer.load(device="cpu")
enhancer.engine = TorchEngine(enhancer.weights, "cpu")
enhancer(numpy.zeros((9, 9, 3), "uint8"))
before = peak()
image = numpy.full((6000, 4000, 3), 9, "uint8")
enhancer(image)
print(peak() - before - 2 * image.nbytes)
"""


@pytest.mark.slow
def test_memory_beyond_the_images_has_a_bound():
    result = subprocess.run([sys.executable, "-c", GROWTH], check=True, capture_output=True, text=True)
    assert int(result.stdout) < 400e6  # uncut, levels and factors alone would have 576
