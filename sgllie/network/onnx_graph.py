"""The factor network as an ONNX graph for onnxruntime, which runs it several times as fast on a CPU as eager torch.

The graph is written out node by node from the tensors, so that a process that enhances on the CPU never imports torch.
`tests/network/test_enhancer.py` holds it against `model.EnhancementModel`.
"""

import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from sgllie.network.architecture import ARCHITECTURES, GLOBAL_LAYERS
from sgllie.network.weights import Weights

OPSET, IR_VERSION = 17, 9
LAST_LAYER = "e_conv7"
ANY_SIZE = "any_size"
"""A key in the metadata of a file: it gives the right image for one of any size, and small ones need no padding."""
SKIPS = {"e_conv5": ("e_conv3", "e_conv4"), "e_conv6": ("e_conv2", "e_conv5"), LAST_LAYER: ("e_conv1", "e_conv6")}
"""Layers that see two feature maps, one behind the other."""


POOLED = "pooled"
"""The mean of the fourth feature map, N x C x 1 x 1, where there is a global term."""


def factor_session(weights: Weights, *, level_given: bool = False) -> onnxruntime.InferenceSession:
    """Open a session from `small` (N x 3 x h x w, float32 in [0, 1]) to `factor` (N x h x w x 3*maps), on one thread.

    With `level_given` it has POOLED as a second input.

    The job runs as many of these side by side as there are cores, so one session must not use more than its own.
    onnxruntime's `session.set_denormal_as_zero` stays off: it changes the arithmetic of the calling thread for good,
    and weights that were flushed on load run as fast without it.
    """
    return session_of(factor_graph(weights, level_given=level_given))


def level_session(weights: Weights) -> onnxruntime.InferenceSession:
    """Open a session from `small` to POOLED, for weights that have a global term."""
    return session_of(level_graph(weights))


def session_of(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    """Open a model, on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def level_graph(weights: Weights) -> onnx.ModelProto:
    """Write the first half of the network, up to the mean that its global term sees."""
    nodes = network_nodes(weights)
    last = next(place for place, node in enumerate(nodes) if POOLED in node.output)
    graph = helper.make_graph(
        nodes[: last + 1],
        "level_network",
        [helper.make_tensor_value_info("small", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [helper.make_tensor_value_info(POOLED, TensorProto.FLOAT, ["n", "c", 1, 1])],
        tensors_of(weights),
    )
    return model_of(graph)


def factor_graph(weights: Weights, *, level_given: bool = False) -> onnx.ModelProto:
    """Write the network of these weights as an ONNX model; with POOLED as a second input, if that is given."""
    nodes = [node for node in network_nodes(weights) if not (level_given and POOLED in node.output)]
    inputs = [helper.make_tensor_value_info("small", TensorProto.FLOAT, ["n", 3, "h", "w"])]
    if level_given:
        inputs.append(helper.make_tensor_value_info(POOLED, TensorProto.FLOAT, ["n", "c", 1, 1]))
    # The kernel walks the map row by row, all channels of a pixel together.
    nodes.append(helper.make_node("Transpose", [LAST_LAYER], ["factor"], perm=[0, 2, 3, 1]))
    graph = helper.make_graph(
        nodes,
        "factor_network",
        inputs,
        [helper.make_tensor_value_info("factor", TensorProto.FLOAT, ["n", "h", "w", "k"])],
        tensors_of(weights),
    )
    return model_of(graph)


def model_of(graph: onnx.GraphProto) -> onnx.ModelProto:
    """Make a model of a graph, in the versions of ONNX that all graphs here are written in."""
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def tensors_of(weights: Weights) -> list[onnx.TensorProto]:
    """Return the tensors that the nodes of the network refer to."""
    return [numpy_helper.from_array(tensor, name) for name, tensor in weights.tensors.items()]


def network_nodes(weights: Weights) -> list[onnx.NodeProto]:
    """Return the nodes from `small` (N x 3 x h x w, in [0, 1]) to LAST_LAYER (N x 3*maps x h x w, in (-1, 1))."""
    nodes: list[onnx.NodeProto] = []
    previous = "small"
    enriched: dict[str, str] = {}
    for layer in ARCHITECTURES[weights.architecture].layers:
        if layer in SKIPS:
            seen = [enriched.get(name, name) for name in SKIPS[layer]]
            nodes.append(helper.make_node("Concat", seen, [f"{layer}.input"], axis=1))
            previous = f"{layer}.input"
        nodes += convolution(layer, previous, weights)
        activation = "Tanh" if layer == LAST_LAYER else "Relu"
        nodes.append(helper.make_node(activation, [f"{layer}.linear"], [layer]))
        previous = layer
        if layer == "e_conv4" and ARCHITECTURES[weights.architecture].global_term:
            nodes += global_term(layer)
            enriched[layer] = previous = f"{layer}.global"
    return nodes


def global_term(layer: str) -> list[onnx.NodeProto]:
    """Return the nodes that add a perceptron on the mean of a feature map to that map, from `LAYER` to `LAYER.global`.

    Its result is spread over the whole map first: onnxruntime adds maps of one shape several times as fast as it adds
    a map and one value for each of its channels.
    """
    first, second = GLOBAL_LAYERS
    return [
        helper.make_node("GlobalAveragePool", [layer], [POOLED]),
        helper.make_node("Conv", [POOLED, f"{first}.weight", f"{first}.bias"], [f"{first}.linear"]),
        helper.make_node("Relu", [f"{first}.linear"], [first]),
        helper.make_node("Conv", [first, f"{second}.weight", f"{second}.bias"], [second]),
        helper.make_node("Shape", [layer], [f"{layer}.shape"]),
        helper.make_node("Expand", [second, f"{layer}.shape"], [f"{second}.map"]),
        helper.make_node("Add", [layer, f"{second}.map"], [f"{layer}.global"]),
    ]


def convolution(layer: str, source: str, weights: Weights) -> list[onnx.NodeProto]:
    """Return the nodes of one 3x3 layer, from `source` to `LAYER.linear`."""
    result = f"{layer}.linear"
    if weights.conv_type == "dsc":
        depth, point = f"{layer}.depth_conv", f"{layer}.point_conv"
        groups = len(weights.tensors[f"{depth}.weight"])
        return [
            helper.make_node("Conv", [source, f"{depth}.weight", f"{depth}.bias"], [depth], group=groups, pads=[1] * 4),
            helper.make_node("Conv", [depth, f"{point}.weight", f"{point}.bias"], [result]),
        ]
    dilation = 2 if weights.conv_type == "dc" else 1
    parameters = [f"{layer}.weight", f"{layer}.bias"]
    return [
        helper.make_node("Conv", [source, *parameters], [result], pads=[dilation] * 4, dilations=[dilation, dilation])
    ]
