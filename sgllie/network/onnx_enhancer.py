"""The whole enhancer as one ONNX graph, for what runs such files and no Python: pixels in, pixels out.

    image      1 x H x W x 3, uint8, RGB
    enhanced   1 x H x W x 3, uint8, RGB

What lies around the network is written in ONNX's own textual syntax, step for step as in `model.EnhancementModel`.
`tests/network/test_onnx_enhancer.py` compares it with `Enhancer`.
"""

import onnx
from onnx import helper, parser

from sgllie.network.architecture import ARCHITECTURES, ITERATIONS
from sgllie.network.effect import EffectSettings
from sgllie.network.onnx_graph import ANY_SIZE, LAST_LAYER, model_of, network_nodes, tensors_of
from sgllie.network.weights import Weights

Size = tuple[int, int]
"""Height and width."""


def enhancer_graph(weights: Weights, effect: EffectSettings, size: Size | None = None) -> onnx.ModelProto:
    """Write the enhancer as an ONNX model.

    Args:
        weights: of the factor network.
        effect: how finely the network looks, and how strongly the result is blended with the image.
        size: of the images; without it they may have any, and the graph computes with what it finds.
    """
    scale, maps = effect.scale_factor, ARCHITECTURES[weights.architecture].maps
    sides = "H, W" if size is None else f"{size[0]}, {size[1]}"
    signature = f"enhancer (uint8[1, {sides}, 3] image) => (uint8[1, {sides}, 3] enhanced)"
    shapes = found_shapes(scale, maps) if size is None else fixed_shapes(size, scale, maps)
    before = [*LEVELS, *(shapes if scale > 1 else ()), *downscaled(scale)]
    after = [*upscaled(scale), *curve(maps), *blended(effect.strength), *ROUNDED]
    graph = parser.parse_graph(f"{signature} {{ {' '.join(before)} }}")
    graph.node.extend(network_nodes(weights))
    graph.node.extend(parser.parse_graph(f"after () => () {{ {' '.join(after)} }}").node)
    graph.initializer.extend(tensors_of(weights))
    model = model_of(graph)
    facts = {"weights": weights.fingerprint, "scale_factor": f"{scale}", "strength": f"{effect.strength:g}"}
    helper.set_model_props(model, facts if size else facts | {ANY_SIZE: "yes"})
    onnx.checker.check_model(model, full_check=True)
    return model


def integers(*values: int) -> str:
    """Return the node that holds a list of integers."""
    return f"Constant <value_ints = [{', '.join(map(str, values))}]> ()"


def fixed_shapes(size: Size, scale: int, maps: int) -> list[str]:
    """Return the nodes that hold all shapes, for images of one size."""
    height, width = size
    rows, columns = (-(-side // scale) for side in size)
    return [
        f"sides = {integers(height, width)}",
        f"padding = {integers(0, 0, 0, 0, 0, 0, rows * scale - height, columns * scale - width)}",
        f"small_shape = {integers(1, 3, rows, columns)}",
        f"whole_shape = {integers(1, 3 * maps, rows * scale, columns * scale)}",
    ]


def found_shapes(scale: int, maps: int) -> list[str]:
    """Return the nodes that compute the same from the image."""
    return [
        "sides = Shape <start = 1, end = 3> (image)",
        f"scale = {integers(scale)}",
        f"beyond = {integers(scale - 1)}",
        "over = Add (sides, beyond)",
        "samples = Div (over, scale)",
        "whole = Mul (samples, scale)",
        "missing = Sub (whole, sides)",
        f"none = {integers(*[0] * 6)}",
        "padding = Concat <axis = 0> (none, missing)",
        f"one_image = {integers(1, 3)}",
        "small_shape = Concat <axis = 0> (one_image, samples)",
        f"one_map = {integers(1, 3 * maps)}",
        "whole_shape = Concat <axis = 0> (one_map, whole)",
    ]


LEVELS = (
    "peak = Constant <value_float = 255.0> ()",
    "floats = Cast <to = 1> (image)",
    "planes = Transpose <perm = [0, 3, 1, 2]> (floats)",
    "x0 = Div (planes, peak)",
)
"""From pixels to levels from 0 to 1, 1 x 3 x H x W."""

ROUNDED = (
    "half = Constant <value_float = 0.5> ()",
    "bright = Mul (y, peak)",
    "raised = Add (bright, half)",
    "bytes = Cast <to = 2> (raised)",
    "enhanced = Transpose <perm = [0, 2, 3, 1]> (bytes)",
)
"""From levels back to pixels."""


def downscaled(scale: int) -> list[str]:
    """Return the nodes of `model.pad_to_multiple` and `model.downscale`."""
    if scale == 1:
        return ["small = Identity (x0)"]
    return [
        'padded = Pad <mode = "edge"> (x0, padding)',
        'small = Resize <mode = "linear", coordinate_transformation_mode = "half_pixel"> (padded, "", "", small_shape)',
    ]


def upscaled(scale: int) -> list[str]:
    """Return the nodes of `model.upscale`, and of the crop to the size of the image."""
    if scale == 1:
        return [f"factor = Identity ({LAST_LAYER})"]
    return [
        'stretched = Resize <mode = "linear", coordinate_transformation_mode = "align_corners">'
        f' ({LAST_LAYER}, "", "", whole_shape)',
        f"origin = {integers(0, 0)}",
        f"axes = {integers(2, 3)}",
        "factor = Slice (stretched, origin, sides, axes)",
    ]


def curve(maps: int) -> list[str]:
    """Return the nodes of `model.curve`, from x0 to the result of the last step."""
    split = ", ".join(f"a{step}" for step in range(maps))
    nodes = [f"{split} = Split <axis = 1> (factor)"] if maps > 1 else ["a0 = Identity (factor)"]
    for step in range(ITERATIONS):
        nodes += [
            f"square{step} = Mul (x{step}, x{step})",
            f"bend{step} = Sub (square{step}, x{step})",
            f"change{step} = Mul (a{step % maps}, bend{step})",
            f"x{step + 1} = Add (x{step}, change{step})",
        ]
    return nodes


def blended(strength: float) -> list[str]:
    """Return the nodes that blend the result of the curve with the image."""
    last = f"x{ITERATIONS}"
    if strength == 1:
        return [f"y = Identity ({last})"]
    return [
        f"strength = Constant <value_float = {strength:.9f}> ()",
        f"difference = Sub ({last}, x0)",
        "share = Mul (strength, difference)",
        "y = Add (x0, share)",
    ]
