"""Dark noise, and networks in ONNX files, for the tests of methods."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper


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
QUARTERS = [helper.make_node("MaxPool", ["x"], ["small"], kernel_shape=[4, 4], strides=[4, 4])]
FOURS = onnx_model(
    *QUARTERS,
    helper.make_node("Resize", ["small", "", "scales"], ["y"], mode="nearest"),
    constants={"scales": np.array([1, 1, 4, 4], np.float32)},
)
