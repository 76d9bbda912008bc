"""The networks and the recurrent brightening curve, as plain torch modules.

    x = images                         N x 3 x H x W, float, RGB in [0, 1]
    a = factor_network(downscale(x))   N x 3*maps x h x w, in (-1, 1)
    y = curve(x, upscale(a))           N x 3 x H x W, in [0, 1]

Sources: SGZ (Zheng and Gupta, "Semantic-Guided Zero-Shot Learning for Low-Light Image/Video Enhancement", WACV 2022
workshops) and Zero-DCE (Guo et al., CVPR 2020), of which SGZ is the one-map, depthwise-separable descendant. Module
names follow the published checkpoints (`e_conv1` .. `e_conv7`), so those load without a change of keys.

This is the definition that everything else is compared with. For speed on the CPU see `kernels` and `onnx_graph`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from sgllie.network.architecture import ARCHITECTURES, CONV_TYPES, GLOBAL_LAYERS, ITERATIONS, ConvType
from sgllie.network.weights import Weights


class DepthwiseSeparableConv(nn.Module):
    """3x3 convolution per channel, then a 1x1 convolution across channels, both with bias."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.depth_conv = nn.Conv2d(in_channels, in_channels, 3, padding=1, groups=in_channels)
        self.point_conv = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve: N x C_in x H x W -> N x C_out x H x W."""
        return self.point_conv(self.depth_conv(x))


def convolution(conv_type: ConvType, in_channels: int, out_channels: int) -> nn.Module:
    """Make one 3x3 layer that keeps height and width: depthwise separable, plain, or dilated by two."""
    if conv_type == "dsc":
        return DepthwiseSeparableConv(in_channels, out_channels)
    dilation = {"tc": 1, "dc": 2}[conv_type]
    return nn.Conv2d(in_channels, out_channels, 3, padding=dilation, dilation=dilation)


class FactorNetwork(nn.Module):
    """Seven layers with symmetric skips: image -> factor map.

    Args:
        architecture: `sgz` (one factor map, used in all eight steps), `sgz-global` (the same with a term that sees the
            whole image), `sgz-slim` (that one, half as wide) or `zero-dce` (one map for each step).
        conv_type: `dsc` (the published SGZ), `tc` (the published Zero-DCE) or `dc`.

    Attributes:
        has_global_term: whether a factor depends on the whole image.
        halo: else on no more than so many samples to each side.
    """

    def __init__(self, architecture: str = "sgz", conv_type: ConvType = "dsc") -> None:
        super().__init__()
        if architecture not in ARCHITECTURES:
            raise ValueError(f"architecture is {architecture!r}; choose one of {', '.join(ARCHITECTURES)}")
        if conv_type not in CONV_TYPES:
            raise ValueError(f"conv_type is {conv_type!r}; choose one of {', '.join(CONV_TYPES)}")
        network = ARCHITECTURES[architecture]
        self.has_global_term = network.global_term
        self.halo = len(network.layers) * (2 if conv_type == "dc" else 1)
        for name, (channels_in, channels_out) in network.layers.items():
            self.add_module(name, convolution(conv_type, channels_in, channels_out))
        if network.global_term:
            for name in GLOBAL_LAYERS:
                self.add_module(name, nn.Conv2d(network.width, network.width, 1))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute the first four feature maps: N x 3 x h x w in [0, 1] -> N x C x h x w each."""
        layer = dict(self.named_children())
        f1 = functional.relu(layer["e_conv1"](x))
        f2 = functional.relu(layer["e_conv2"](f1))
        f3 = functional.relu(layer["e_conv3"](f2))
        return f1, f2, f3, functional.relu(layer["e_conv4"](f3))

    def forward(self, x: Tensor, pooled: Tensor | None = None) -> Tensor:
        """Compute factor maps: N x 3 x h x w in [0, 1] -> N x 3*maps x h x w in (-1, 1).

        For some rows of an image, `pooled` is the mean of the fourth feature map over all of it, N x C x 1 x 1.
        """
        layer = dict(self.named_children())
        f1, f2, f3, f4 = self.encode(x)
        if self.has_global_term:
            pooled = f4.mean(dim=(2, 3), keepdim=True) if pooled is None else pooled
            f4 = f4 + layer[GLOBAL_LAYERS[1]](functional.relu(layer[GLOBAL_LAYERS[0]](pooled)))
        f5 = functional.relu(layer["e_conv5"](torch.cat([f3, f4], dim=1)))
        f6 = functional.relu(layer["e_conv6"](torch.cat([f2, f5], dim=1)))
        return torch.tanh(layer["e_conv7"](torch.cat([f1, f6], dim=1)))


def downscale(x: Tensor, scale_factor: int) -> Tensor:
    """Take bilinear samples, `align_corners=False`; height and width must be multiples of `scale_factor`."""
    if scale_factor == 1:
        return x
    return functional.interpolate(x, scale_factor=1 / scale_factor, mode="bilinear", align_corners=False)


def upscale(factor: Tensor, scale_factor: int) -> Tensor:
    """Stretch bilinearly, `align_corners=True`, to `scale_factor` times the height and width."""
    if scale_factor == 1:
        return factor
    return functional.interpolate(factor, scale_factor=scale_factor, mode="bilinear", align_corners=True)


def curve(x: Tensor, factor: Tensor) -> Tensor:
    """Apply the curve: eight times x <- x + a (x^2 - x).

    N x 3 x H x W, with a factor of N x 3 x H x W (SGZ) or N x 24 x H x W (Zero-DCE: one map for each step).
    a = 0 leaves x as it is, a = -1 gives 1 - (1 - x)^256, a = 1 gives x^256.
    """
    maps = factor.split(x.shape[1], dim=1)
    for step in range(ITERATIONS):
        x = x + maps[step % len(maps)] * (x * x - x)
    return x


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until height and width are multiples of `multiple`."""
    height, width = x.shape[-2:]
    return functional.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")


class EnhancementModel(nn.Module):
    """Image -> enhanced image and factor map, at any size: padded, enhanced, cropped back."""

    def __init__(self, network: nn.Module, scale_factor: int = 1) -> None:
        super().__init__()
        if scale_factor < 1:
            raise ValueError(f"scale_factor is {scale_factor}; it must be 1 or more")
        self.network = network
        self.scale_factor = scale_factor

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Enhance a batch.

        Args:
            x: N x 3 x H x W, float RGB in [0, 1].

        Returns:
            The enhanced batch (same shape, in [0, 1]) and the factor map (N x 3*maps x H x W).
        """
        height, width = x.shape[-2:]
        factor = self.network(downscale(pad_to_multiple(x, self.scale_factor), self.scale_factor))
        factor = upscale(factor, self.scale_factor)[..., :height, :width]
        return curve(x, factor), factor


def network_from(weights: Weights) -> FactorNetwork:
    """Make the network of these weights, in evaluation mode."""
    network = FactorNetwork(weights.architecture, weights.conv_type)
    network.load_state_dict(state_of(weights))
    return network.eval()


def state_of(weights: Weights) -> dict[str, Tensor]:
    """Return weights as torch takes them."""
    return {name: torch.from_numpy(tensor.copy()) for name, tensor in weights.tensors.items()}
