"""One training step and the objective that it lowers: plain torch, without Ray.

    train_step = TrainStep(settings, total_steps=1000)
    terms = train_step.step(batch)            # N x 3 x H x W in [0, 1]
    weights = train_step.weights()

`distributed.train` runs the same `TrainStep` in each training process and wraps it for the exchange of gradients.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sgllie.errors import CollapseError, UsageError
from sgllie.network import weights as weights_module
from sgllie.network.model import EnhancementModel, FactorNetwork, state_of
from sgllie.network.weights import Weights
from sgllie.train.losses import (
    ColourConstancy,
    ExposureControl,
    FocalLoss,
    Reconstruction,
    SpatialConsistency,
    TotalVariation,
)
from sgllie.train.sampling import Example, stack
from sgllie.train.settings import LossSettings, OptimiserSettings, TrainSettings


@dataclass(frozen=True)
class Batch:
    """What a step sees.

    Attributes:
        images: N x 3 x H x W, float RGB in [0, 1].
        targets: the same photographs well exposed, where they are known.
    """

    images: Tensor
    targets: Tensor | None = None


def to_batch(pixels: dict[str, Tensor]) -> Batch:
    """Turn `images` and perhaps `targets`, N x H x W x 3 in 0..255, into a batch."""
    return Batch(**{name: values.permute(0, 3, 1, 2).float().div(255) for name, values in pixels.items()})


def batch_of(examples: Sequence[Example], device: torch.device | str = "cpu") -> Batch:
    """Stack examples to a batch on a device."""
    return to_batch({name: torch.from_numpy(pixels).to(device) for name, pixels in stack(examples).items()})


def set_up_torch(threads: int) -> None:
    """Make torch compute in this process as a training needs it, with so many threads."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # weights that decay to denormals make every convolution several times slower
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.allow_tf32 = False  # convolutions in single precision, not with 10 bits of each number


class Objective(nn.Module):
    """The weighted sum of the training terms that have a weight."""

    def __init__(self, settings: LossSettings, guide: nn.Module | None) -> None:
        super().__init__()
        self.settings = settings
        self.total_variation = TotalVariation()
        self.spatial = SpatialConsistency(settings.patch_size)
        self.colour = ColourConstancy()
        self.exposure = ExposureControl()
        self.reconstruction = Reconstruction()
        self.focal = FocalLoss()
        self.guide = guide

    def forward(self, batch: Batch, enhanced: Tensor, factor: Tensor) -> dict[str, Tensor]:
        """Compute the terms by name, each a scalar times its weight; their sum is what training lowers."""
        terms: dict[str, Callable[[], Tensor]] = {
            "total_variation": lambda: self.total_variation(factor),
            "spatial": lambda: self.spatial(enhanced, batch.images),
            "colour": lambda: self.colour(enhanced),
            "exposure": lambda: self.exposure(enhanced, self._level(batch)),
        }
        targets = batch.targets
        if targets is not None:
            terms["reconstruction"] = lambda: self.reconstruction(enhanced, targets)
        if self.guide is not None:
            terms["semantic"] = lambda: self.focal(self._seen(enhanced))
        weights = {name: getattr(self.settings, name) for name in terms}
        return {name: weights[name] * term() for name, term in terms.items() if weights[name]}

    def _seen(self, enhanced: Tensor) -> Tensor:
        """Return the logits of the guide, in bfloat16 where that is fast: it is most of a step, and is not trained.

        Network and curve stay in float32. Eight steps of the curve would lose what bfloat16 keeps of an image, which
        is less than its 8 bits.
        """
        assert self.guide is not None
        with torch.autocast(enhanced.device.type, torch.bfloat16, enabled=is_fast_in_bfloat16(enhanced.device)):
            logits: Tensor = self.guide(enhanced)
        return logits.float()

    def _level(self, batch: Batch) -> float | Tensor:
        """Return the brightness that the parts of each image should have."""
        level, targets = self.settings.exposure_level, batch.targets
        if level is not None:
            return level
        assert targets is not None  # see TrainSettings
        return targets.mean(dim=(1, 2, 3), keepdim=True)


def is_fast_in_bfloat16(device: torch.device) -> bool:
    """Tell whether a device has arithmetic in bfloat16: GPUs since NVIDIA's Ampere."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


class TrainStep:
    """Network, optimiser and moving average: everything that a step changes.

    Args:
        settings: of the job.
        total_steps: how many steps there will be, for the schedule of the learning rate.
        device: where to train.
        wrap: what makes the model exchange gradients with other processes.

    Attributes:
        model: the network with its curve.
        steps: how many steps are done.
    """

    def __init__(
        self,
        settings: TrainSettings,
        total_steps: int,
        device: torch.device | str = "cpu",
        wrap: Callable[[nn.Module], nn.Module] = lambda model: model,
    ) -> None:
        self.settings = settings
        self.device = torch.device(device)
        self.total_steps = total_steps
        self.steps = 0
        network = initial_network(settings)
        # On a CPU the depthwise layers are twice as fast in this order of memory; photographs come in it anyway.
        model = EnhancementModel(network, settings.network.scale_factor)
        self.model = model.to(self.device).to(memory_format=torch.channels_last)
        self.network = network
        self.parallel = wrap(self.model)
        self.objective = Objective(settings.loss, guide_of(settings)).to(self.device)
        self.optimiser = build_optimiser(network, settings.optimiser)
        self.average = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def step(self, batch: Batch) -> dict[str, float]:
        """Lower the objective once.

        Returns:
            The terms before the step.

        Raises:
            CollapseError: the loss is not finite.
        """
        options = self.settings.optimiser
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(self.steps, self.total_steps, options)
        self.parallel.train()
        enhanced, factor = self.parallel(batch.images)
        terms = self.objective(batch, enhanced, factor)
        loss = torch.stack(list(terms.values())).sum()
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), options.gradient_norm)
        values = torch.stack([*terms.values(), norm]).tolist()
        # The norm is that of all processes, so that all of them find out in the same step.
        if not math.isfinite(values[-1]):
            raise CollapseError(
                f"the loss or its gradient is not a finite number at step {self.steps + 1}; "
                "try a smaller --optimiser.learning-rate"
            )
        self.optimiser.step()
        self.steps += 1
        self._update_average()
        return dict(zip(terms, values[:-1], strict=True))

    @torch.no_grad()
    def _update_average(self) -> None:
        # Young averages look back over a tenth of their life, so that the random start is soon forgotten.
        decay = min(self.settings.optimiser.ema_decay, self.steps / (self.steps + 9))
        for name, value in self.network.state_dict().items():
            self.average[name].lerp_(value, 1 - decay)

    def weights(self, origin: str = "") -> Weights:
        """Return what the training has come to: the moving average of the network's weights."""
        network = self.settings.network
        return Weights(network.architecture, network.conv_type, to_numpy(self.average), origin)

    def validated_model(self) -> EnhancementModel:
        """Make a model of these weights, in evaluation mode, that looks at images as validation asks."""
        network = FactorNetwork(self.settings.network.architecture, self.settings.network.conv_type)
        network.load_state_dict(self.average)
        scale_factor = self.settings.validation.scale_factor or self.settings.network.scale_factor
        return EnhancementModel(network, scale_factor).to(self.device).to(memory_format=torch.channels_last).eval()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return all tensors that the next step depends on, by name."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.items()}
        names = [name for name, _ in self.network.named_parameters()]
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{names[index]}.{key}": value for key, value in moments.items()}
        return to_numpy(tensors)

    def load_state(self, tensors: dict[str, NDArray[Any]], steps: int) -> None:
        """Go back to where `state` was taken, after `steps` steps."""

        def part(prefix: str) -> dict[str, Tensor]:
            return {
                name.removeprefix(prefix): torch.from_numpy(value.copy())
                for name, value in tensors.items()
                if name.startswith(prefix)
            }

        self.steps = steps
        self.network.load_state_dict(part("network."))
        self.average = {name: value.to(self.device) for name, value in part("average.").items()}
        names = [name for name, _ in self.network.named_parameters()]
        moments = {index: part(f"optimiser.{name}.") for index, name in enumerate(names)}
        # Brings to the device what belongs there; of the numbers of steps each reading would wait for it.
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments if steps else {}, "param_groups": groups})


def guide_of(settings: TrainSettings) -> nn.Module | None:
    """Build the guide of a training; None where the loss has no use for one."""
    if not settings.loss.semantic:
        return None
    from sgllie.train.guide import build_guide  # torchvision, which others need not wait for

    guide = settings.guide
    return build_guide(guide.name, guide.weights, guide.classes, settings.seed)


def initial_network(settings: TrainSettings) -> FactorNetwork:
    """Make the network as it is before the first step: random by the seed, or of given weights.

    Raises:
        UsageError: those weights cannot be read, or are of another network.
    """
    options = settings.network
    with torch.random.fork_rng(devices=[]):  # nothing is drawn on a GPU; asking each would set up CUDA on all
        torch.manual_seed(settings.seed)
        network = FactorNetwork(options.architecture, options.conv_type)
        if options.initialisation == "centred":
            centre(network)
    if options.initial_weights:
        found = weights_module.load(options.initial_weights, settings.s3)
        there, wanted = (found.architecture, found.conv_type), (options.architecture, options.conv_type)
        if there != wanted:
            raise UsageError(f"--network.initial-weights are of {' '.join(there)}, not of {' '.join(wanted)}")
        network.load_state_dict(state_of(found))
    return network


@torch.no_grad()
def centre(network: nn.Module) -> None:
    """Draw weights anew: see `initialisation` in the settings.

    Source of the normal: He et al., "Delving Deep into Rectifiers", ICCV 2015.
    """
    for name, parameter in network.named_parameters():
        if name.endswith("bias") or name.startswith("global_conv2"):
            nn.init.zeros_(parameter)
        elif "depth_conv" in name:
            nn.init.normal_(parameter, std=0.05)
            parameter[:, :, 1, 1] += 1
        else:
            nn.init.kaiming_normal_(parameter)
            if name.startswith("e_conv7"):
                parameter.mul_(0.1)


def build_optimiser(network: nn.Module, settings: OptimiserSettings) -> torch.optim.Optimizer:
    """Make Adam, or AdamW where weight decay is to be decoupled."""
    kind = torch.optim.AdamW if settings.decoupled_decay else torch.optim.Adam
    return kind(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)


def learning_rate(step: int, total_steps: int, settings: OptimiserSettings) -> float:
    """Return the learning rate of the step after `step` steps."""
    warm = min(1.0, (step + 1) / (settings.warmup_steps + 1))
    fall = (1 + math.cos(math.pi * step / max(1, total_steps))) / 2 if settings.schedule == "cosine" else 1.0
    return settings.learning_rate * warm * fall


def to_numpy(tensors: dict[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Copy tensors to arrays, from whichever device."""
    return {name: value.detach().cpu().contiguous().numpy() for name, value in tensors.items()}
