"""What the networks are made of, for the torch modules, the ONNX graph and the check of weights files alike."""

from dataclasses import dataclass
from typing import Literal, get_args

ConvType = Literal["dsc", "tc", "dc"]
CONV_TYPES: tuple[ConvType, ...] = get_args(ConvType)
"""Depthwise separable (the published SGZ), plain, or dilated by two 3x3 convolutions."""

GLOBAL_LAYERS = ("global_conv1", "global_conv2")
ITERATIONS = 8
"""Steps of the curve."""
SCALE_FACTOR = 12
"""The network sees one sample for each block of this many pixels squared, unless the caller asks for another."""


@dataclass(frozen=True)
class Architecture:
    """One network: seven 3x3 layers with symmetric skips, whose last one puts out `maps` factor maps of 3 channels.

    With `global_term`, a two-layer perceptron on the mean of the fourth feature map is added to that map everywhere:
    the receptive field of seven 3x3 layers does not reach across an image, and how bright it should become depends on
    all of it. `width` is the number of channels between the layers.
    """

    maps: int
    global_term: bool = False
    width: int = 32

    @property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Layer name -> (channels in, channels out). Layers 5 to 7 see two feature maps."""
        width = self.width
        return {
            "e_conv1": (3, width),
            "e_conv2": (width, width),
            "e_conv3": (width, width),
            "e_conv4": (width, width),
            "e_conv5": (2 * width, width),
            "e_conv6": (2 * width, width),
            "e_conv7": (2 * width, 3 * self.maps),
        }


ARCHITECTURES = {
    "sgz": Architecture(maps=1),
    "sgz-global": Architecture(maps=1, global_term=True),
    "sgz-slim": Architecture(maps=1, global_term=True, width=16),
    "zero-dce": Architecture(maps=ITERATIONS),
}


def parameter_shapes(architecture: str, conv_type: str) -> dict[str, tuple[int, ...]]:
    """Return name -> shape of all parameters of a network.

    Args:
        architecture: a key of ARCHITECTURES; KeyError for any other name.
        conv_type: `dsc`, or one of the others, which all have the same shapes.
    """
    network = ARCHITECTURES[architecture]
    shapes: dict[str, tuple[int, ...]] = {}
    if network.global_term:
        for name in GLOBAL_LAYERS:
            shapes |= {f"{name}.weight": (network.width, network.width, 1, 1), f"{name}.bias": (network.width,)}
    for name, (channels_in, channels_out) in network.layers.items():
        if conv_type == "dsc":
            shapes[f"{name}.depth_conv.weight"] = (channels_in, 1, 3, 3)
            shapes[f"{name}.depth_conv.bias"] = (channels_in,)
            shapes[f"{name}.point_conv.weight"] = (channels_out, channels_in, 1, 1)
            shapes[f"{name}.point_conv.bias"] = (channels_out,)
        else:
            shapes[f"{name}.weight"] = (channels_out, channels_in, 3, 3)
            shapes[f"{name}.bias"] = (channels_out,)
    return shapes
