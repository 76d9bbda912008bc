"""Zero-DCE with its published weights, and networks in ONNX files: what fits, and what is refused."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException

from commands import make_corpus
from networks import FOURS, IDENTITY, QUARTERS, dark_image, onnx_model
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import DeviceError, DeviceMemoryError, ImageError, UsageError, failure_of
from sgllie.methods import MethodSettings, cpu_instead, make_method, onnx_file
from sgllie.methods.onnx_file import CUDA, OnnxFile, open_network
from sgllie.runs.gpu import opened


def onnx_method(data, **options):
    return OnnxFile(open_network(data, "test.onnx"), **options)


def test_published_zero_dce(shared):
    published = str(shared / "reference/zero_dce_Epoch99.pth")
    method = make_method(MethodSettings(method="zero-dce", weights=published, scale_factor=1, device="cpu"))
    image = np.load(shared / "reference/golden_model.npz")["input_u8"]
    expected = np.load(shared / "reference/golden_zero_dce.npz")["enhanced"] * 255
    assert np.abs(method(image) - expected).max() <= 1


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
    assert failure_of(found.value, "video").error_type == "too_large"
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
        (onnx_model(helper.make_node("Identity", ["small"], ["y"]), *QUARTERS), "none of its outputs has the shape"),
        (onnx_model(helper.make_node("Identity", ["x"], ["y"]), shape=(1, 1, "h", "w")), "it has x: tensor"),
        (onnx_model(helper.make_node("Identity", ["x"], ["y"]), shape=(2, 3, "h", "w")), "must have one input"),
        (onnx_model(helper.make_node("Identity", ["x"], ["y"]), shape=(1, 3, "w", 3)), "must have one input"),
        (onnx_model(helper.make_node("Add", ["x", "x1"], ["y"]), inputs=2), "must have one input"),
        (onnx_model(helper.make_node("Identity", ["x"], ["y"]), dtype=TensorProto.INT32), "tensor.int32"),
    ],
)
def test_onnx_files_that_do_not_fit(data, sentence):
    with pytest.raises(UsageError, match=sentence) as found:
        open_network(data, "test.onnx")
    assert "\n" not in str(found.value)


def test_a_run_goes_on_only_with_the_same_network(tmp_path):
    source, network = make_corpus(tmp_path / "in", 1), tmp_path / "a.onnx"
    network.write_bytes(FOURS)
    chosen = EnhanceSettings(str(source), str(tmp_path / "out"), method="onnx", weights=str(network))
    assert not prepare(chosen).resumed
    assert prepare(chosen).resumed
    network.write_bytes(IDENTITY)
    with pytest.raises(UsageError, match=r"other settings: the content of the weights"):
        prepare(chosen)


class CudaSession(onnx_file.onnxruntime.InferenceSession):
    """Looks like onnxruntime on CUDA, and runs on the CPU; fails with `fault` for images of more than 100 rows."""

    fault = None
    fault_at_start = None
    works = True

    def __init__(self, data, options, providers):
        if self.fault_at_start and CUDA in providers:
            raise self.fault_at_start
        self.pretended = providers if self.works else ["CPUExecutionProvider"]
        super().__init__(data, options, providers=["CPUExecutionProvider"])

    def get_providers(self):
        return self.pretended

    def run(self, names, inputs):
        if self.fault and CUDA in self.pretended and inputs["x"].shape[2] > 100:
            raise RuntimeError(self.fault)
        return super().run(names, inputs)


@pytest.fixture
def on_cuda(monkeypatch, tmp_path):
    """Settings of a network that is to run on CUDA, which onnxruntime pretends to have."""
    monkeypatch.setattr(onnx_file.onnxruntime, "get_available_providers", lambda: [CUDA, "CPUExecutionProvider"])
    monkeypatch.setattr(onnx_file.onnxruntime, "InferenceSession", CudaSession)
    (tmp_path / "network.onnx").write_bytes(IDENTITY)
    return MethodSettings(method="onnx", weights=str(tmp_path / "network.onnx"), device="cuda")


def test_onnx_runs_on_cuda_where_onnxruntime_has_it(on_cuda):
    image = dark_image(37, 53)
    enhanced = make_method(on_cuda).enhance(image)
    assert enhanced.device == "cuda"
    assert np.array_equal(enhanced.pixels, image)
    assert cpu_instead(on_cuda) is None
    on_cpu = MethodSettings(method="onnx", weights=on_cuda.weights)
    assert on_cpu.device == "cpu", "how heavy a network is, is not known before it is read"
    assert make_method(on_cpu).enhance(image).device == "cpu"


def test_onnx_runs_on_the_cpu_without_cuda_and_says_so(on_cuda, monkeypatch):
    monkeypatch.setattr(CudaSession, "works", False)  # the package is there, and libraries that it needs are not
    assert make_method(on_cuda).enhance(dark_image(37, 53)).device == "cpu"
    monkeypatch.undo()
    assert make_method(on_cuda).enhance(dark_image(37, 53)).device == "cpu"
    said = cpu_instead(on_cuda)
    assert said.startswith("--device cuda: this machine's onnxruntime has no CUDA")
    assert "\n" not in said
    assert cpu_instead(MethodSettings(device="cuda")) is None


@pytest.mark.parametrize("said", ["Failed to allocate memory for requested buffer", "CUDA failure 2: out of memory"])
def test_onnx_takes_the_cpu_for_an_image_that_the_gpu_has_no_memory_for(on_cuda, monkeypatch, said):
    monkeypatch.setattr(CudaSession, "fault", said)
    method = make_method(on_cuda)
    for rows, device in ((60, "cuda"), (120, "cpu"), (60, "cuda")):
        image = dark_image(rows, 53)
        enhanced = method.enhance(image)
        assert enhanced.device == device
        assert np.array_equal(enhanced.pixels, image)
        assert np.array_equal(method.apply(image, method.factor_map(image)), image)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("CUDA failure 700: an illegal memory access was encountered", DeviceError),
        ("CUDNN_STATUS_EXECUTION_FAILED", DeviceError),
        ("Non-zero status code returned while running Reshape node", ImageError),
    ],
)
def test_onnx_blames_no_image_for_a_gpu_that_does_not_work(on_cuda, monkeypatch, said, error):
    monkeypatch.setattr(CudaSession, "fault", said)
    with pytest.raises(error):
        make_method(on_cuda).enhance(dark_image(120, 53))


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ("Failed to allocate memory for requested buffer of size 1073741824", DeviceMemoryError),
        ("CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);", DeviceMemoryError),
        ("CUDNN failure 4000: CUDNN_STATUS_INTERNAL_ERROR", DeviceError),
    ],
)
def test_the_file_is_not_to_blame_where_the_gpu_cannot_open_it(on_cuda, monkeypatch, said, error):
    fault = RuntimeException(f"[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : {said}")
    monkeypatch.setattr(CudaSession, "fault_at_start", fault)
    with pytest.raises(error):
        make_method(on_cuda)
    assert opened(make_method, on_cuda).network.device == "cpu"
    monkeypatch.setattr(CudaSession, "fault_at_start", RuntimeException("This is an invalid model."))
    with pytest.raises(UsageError, match=r"network\.onnx is no ONNX file"):
        make_method(on_cuda)
