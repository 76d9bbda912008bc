"""The settings of the training job: one frozen dataclass, from which the command line is made, and two presets."""

import argparse
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, get_args

import tyro

from sgllie.architecture import ARCHITECTURES, ConvType
from sgllie.settings import check, option
from sgllie.storage import S3Options

PresetName = Literal["default", "published"]
GuideName = Literal["none", "fpn-resnet50", "efficientnet-lite0", "lraspp-mobilenet-v3", "deeplab-v3-resnet50"]


@dataclass(frozen=True)
class NetworkSettings:
    """What is trained."""

    architecture: str = "sgz"
    """Name of the network."""
    conv_type: ConvType = "dsc"
    """Depthwise separable, plain (tc) or dilated (dc) convolutions."""
    scale_factor: int = 1
    """The network looks at one sample for each block of this many pixels squared."""
    initialisation: Literal["torch", "centred"] = "torch"
    """Random weights: as torch draws them, or so that signals keep their strength through seven layers (depthwise
    kernels near the identity, He's normal elsewhere, zero biases, a factor map near zero)."""
    initial_weights: str | None = None
    """Start from these weights (a file, a bundled name, or the folder of a run) instead of random ones."""


@dataclass(frozen=True)
class LossSettings:
    """Weights of the training terms (0 leaves a term out), and what the terms need to know."""

    total_variation: float = 1600.0
    spatial: float = 1.0
    colour: float = 5.0
    exposure: float = 10.0
    semantic: float = 0.1
    reconstruction: float = 0.0
    """Mean absolute difference from the photograph before it was darkened (needs --darkening.stops)."""
    patch_size: int = 4
    """Pixels along the side of a patch of the spatial term."""
    exposure_level: float | None = 0.6
    """Brightness, 0 to 1, that the exposure term asks of each part of the image; None: the mean of the photograph
    before it was darkened, so that its light is evened out (needs --darkening.stops)."""


@dataclass(frozen=True)
class GuideSettings:
    """The frozen network behind the semantic term."""

    name: GuideName = "fpn-resnet50"
    """none, or which network looks at the enhanced images."""
    weights: str | None = None
    """File with the guide's weights, where they cannot be downloaded."""
    classes: int = 21
    """Classes of the random head of fpn-resnet50."""


@dataclass(frozen=True)
class OptimiserSettings:
    """Adam, its learning rate over time, and what is kept of the weights."""

    learning_rate: float = 1e-3
    weight_decay: float = 1e-3
    decoupled_decay: bool = False
    """Decay the weights beside the gradient step (AdamW) and not through it (L2)."""
    gradient_norm: float = 0.1
    """Gradients are scaled down to this norm."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: rise over the warm-up, then fall to zero along half a cosine."""
    warmup_steps: int = 0
    average: float = 0.0
    """Keep an exponential moving average of the weights with this decay (0: keep the weights themselves)."""


@dataclass(frozen=True)
class ImageSettings:
    """How photographs become training images."""

    size: int = 512
    """Photographs are resized (Lanczos) to this many pixels squared."""
    crop: int | None = None
    """Train on random parts of the photograph, resized to this many pixels squared; by default on all of it."""
    smallest_crop: float = 0.6
    """Smallest side of such a part, as a share of the photograph's."""
    seen_at: int | None = None
    """Take of such a part the pixels that the network would look at at this scale factor, instead of making it small:
    84 pixels at --network.scale-factor 2 then are what it sees of 504 at 12."""
    flip: bool = False
    """Mirror every second image."""
    repeats: int = 1
    """How often an epoch uses each photograph."""


@dataclass(frozen=True)
class DarkeningSettings:
    """Dark images made of well exposed photographs, which are then known as the targets. Off with 0 stops."""

    stops: float = 0.0
    """Exposure is lowered by between none and so many stops, uniformly."""
    untouched: float = 0.15
    """Share of the photographs that stay as they are, so that the network learns to leave good ones alone."""
    unevenness: float = 1.5
    """Stops by which the light varies across an image, at most (one standard deviation)."""
    shoulder: float = 1.0
    """How strongly the camera compresses highlights, from 0 to this."""
    least_gamma: float = 0.75
    greatest_gamma: float = 1.7
    """The tone curve is bent by a power between these two."""
    contrast: float = 1.6
    """Darker regions lose so many stops more for each stop that they are darker, at most."""
    shot_noise: float = 3e-4
    """Variance of the noise of light for each unit of linear light, at most."""
    read_noise: float = 1.5e-3
    """Deviation of the noise of the sensor in linear light, at most."""
    darkest: float = 0.33
    brightest: float = 0.58
    """Photographs with a mean between these two count as well exposed; others are not darkened."""
    clipped: float = 0.1
    """Well exposed photographs have at most this share of clipped pixels."""
    bright_share: float = 0.1
    """Share of brighter photographs (mean up to 0.9) among the training images; they stay as they are."""
    bracket_share: float = 0.0
    """Share of pairs among the training images: a photograph with a mean of at most --darkening.darkest, and the best
    exposed one of its scene, which it is to become. Photographs of one scene are those that follow each other by name
    and look alike; where there are none, all images are made dark."""


@dataclass(frozen=True)
class ValidationSettings:
    """What is measured after each epoch, on photographs that are held back."""

    images: int = 32
    """Photographs held back; at most a fifth of all."""
    batch_size: int = 8
    size: int = 512
    """They are resized to this many pixels squared."""
    scale_factor: int | None = None
    """The network looks at one sample for each block of this many pixels squared; by default as in training."""


LIMITS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("epochs", "batch_size", "num_workers", "cpus_per_worker", "loaders"), (1, math.inf)),
    **dict.fromkeys(("display_every", "snapshot_every", "images.repeats", "images.seen_at"), (1, math.inf)),
    **dict.fromkeys(("network.scale_factor", "validation.scale_factor", "guide.classes"), (1, math.inf)),
    **dict.fromkeys(("validation.images", "validation.batch_size", "loss.patch_size"), (1, math.inf)),
    **dict.fromkeys(("loss.total_variation", "loss.spatial", "loss.colour", "loss.exposure"), (0, 1e9)),
    **dict.fromkeys(("loss.semantic", "loss.reconstruction"), (0, 1e9)),
    **dict.fromkeys(("images.size", "images.crop", "validation.size"), (32, 8192)),
    **dict.fromkeys(("max_failures", "optimiser.warmup_steps"), (0, math.inf)),
    **dict.fromkeys(("loss.exposure_level", "darkening.untouched", "darkening.darkest", "darkening.brightest"), (0, 1)),
    **dict.fromkeys(("darkening.clipped", "darkening.bright_share", "darkening.bracket_share"), (0, 1)),
    **dict.fromkeys(("darkening.shot_noise", "darkening.read_noise"), (0, 1)),
    **dict.fromkeys(("darkening.unevenness", "darkening.contrast"), (0, 8)),
    **dict.fromkeys(("darkening.least_gamma", "darkening.greatest_gamma"), (0.05, 20)),
    "darkening.stops": (0, 16),
    "darkening.shoulder": (0, 100),
    "images.smallest_crop": (0.01, 1),
    "optimiser.average": (0, 0.999999),
    "optimiser.gradient_norm": (1e-6, math.inf),
    "optimiser.learning_rate": (1e-9, math.inf),
    "optimiser.weight_decay": (0, 1),
    "seed": (0, 2**32 - 1),
}
"""The least and the greatest value of each number; what has to fit to another setting is checked besides."""


@dataclass(frozen=True)
class TrainSettings:
    """Train an enhancement network on photographs, without reference images or labels.

    The same command again goes on from the last finished epoch.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")]
    """Folder, s3://bucket/prefix, glob in quotes, or a list of photographs."""
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder or s3://bucket/prefix that becomes weights/, checkpoints/, samples/, events/, metrics.csv, curves.png."""

    preset: PresetName = "default"
    """Where all other defaults come from: published repeats the recipe of the SGZ paper to the letter."""
    epochs: int = 100
    batch_size: int = 6
    """Images of one step, over all workers together."""
    seed: int = 0
    dead_layers: Literal["stop", "warn"] = "stop"
    """What to do when a layer no longer answers to its input."""

    network: NetworkSettings = field(default_factory=NetworkSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    guide: GuideSettings = field(default_factory=GuideSettings)
    optimiser: OptimiserSettings = field(default_factory=OptimiserSettings)
    images: ImageSettings = field(default_factory=ImageSettings)
    darkening: DarkeningSettings = field(default_factory=DarkeningSettings)
    validation: ValidationSettings = field(default_factory=ValidationSettings)

    display_every: int = 10
    """Steps between two reports of progress."""
    snapshot_every: int = 10
    """Steps between two writes of weights/last.safetensors in the middle of an epoch."""
    num_workers: int = 1
    """Training processes."""
    use_gpu: bool = False
    """Give each training process a GPU."""
    cpus_per_worker: int = 1
    """Processor cores, and threads, of each training process."""
    loaders: int = 4
    """Tasks that load images for one training process at the same time."""
    cache: Literal["auto", "memory", "none"] = "auto"
    """memory: decode every photograph once; none: in every epoch; auto: memory where they fit."""
    max_failures: int = 3
    """Deaths of workers that a run survives by itself."""
    address: str | None = None
    """Address of a Ray cluster (auto: the one this machine belongs to); by default a local one is started."""
    s3: S3Options = field(default_factory=S3Options)
    """How to reach S3."""

    def __post_init__(self) -> None:
        for name, value in flatten(self).items():
            if name in LIMITS and value is not None:
                least, most = LIMITS[name]
                rule = f"must lie between {least:g} and {most:g}" if most < math.inf else f"must be {least:g} or more"
                check(least <= value <= most, option(name), value, rule)
        architecture, known = self.network.architecture, f"must be one of {', '.join(ARCHITECTURES)}"
        check(architecture in ARCHITECTURES, "--network.architecture", architecture, known)
        divides = self.batch_size % self.num_workers == 0
        check(divides, "--batch-size", self.batch_size, f"must be a multiple of --num-workers ({self.num_workers})")
        self._check_terms()
        self._check_images()
        self._check_darkening()

    def _check_terms(self) -> None:
        """What the training terms need."""
        loss, stops = self.loss, self.darkening.stops
        terms = (loss.total_variation, loss.spatial, loss.colour, loss.exposure, loss.semantic, loss.reconstruction)
        check(any(terms), "--loss.exposure", loss.exposure, "or the weight of another term must be above 0")
        wanted = loss.reconstruction or (loss.exposure and loss.exposure_level is None)
        rule = "must be above 0 for --loss.reconstruction, and for --loss.exposure-level None"
        check(stops > 0 or not wanted, "--darkening.stops", stops, rule)
        side = min(self.images.crop or self.images.size, self.validation.size)
        check(
            loss.patch_size <= side, "--loss.patch-size", loss.patch_size, f"must fit into the images ({side} pixels)"
        )

    def _check_images(self) -> None:
        """The sizes of images against each other."""
        crop, size, seen_at = self.images.crop, self.images.size, self.images.seen_at
        check(crop is None or crop <= size, "--images.crop", crop, f"must not be above --images.size ({size})")
        scale = self.network.scale_factor
        rule = "needs --images.crop, a multiple of --network.scale-factor, and must not be less than that factor"
        fits = seen_at is None or bool(crop and crop % scale == 0 and seen_at >= scale)
        check(fits, "--images.seen-at", seen_at, rule)

    def _check_darkening(self) -> None:
        """The ranges and shares of the recipes."""
        dark = self.darkening
        shares = {"bright": dark.bright_share, "bracket": dark.bracket_share}
        for name, share in shares.items():
            check(sum(shares.values()) < 1, f"--darkening.{name}-share", share, "must be below 1 with the other share")
        least, greatest = dark.least_gamma, dark.greatest_gamma
        check(least <= greatest, "--darkening.least-gamma", least, f"must not be above the greatest ({greatest})")
        darkest, brightest = dark.darkest, dark.brightest
        check(darkest <= brightest, "--darkening.darkest", darkest, f"must not be above the brightest ({brightest})")

    @property
    def outcome(self) -> dict[str, Any]:
        """The settings that change the weights; a run can be resumed only with the same ones."""
        here_or_there = "data run display_every snapshot_every num_workers use_gpu cpus_per_worker loaders cache"
        left_out = {*here_or_there.split(), "max_failures", "address", "s3", "preset"}
        return {name: value for name, value in flatten(self).items() if name.split(".")[0] not in left_out}


def flatten(settings: TrainSettings) -> dict[str, Any]:
    """`{"loss.colour": 5.0, ...}`: every setting by the name of its option."""
    flat: dict[str, Any] = {}
    for name, value in dataclasses.asdict(settings).items():
        flat |= {f"{name}.{key}": inner for key, inner in value.items()} if isinstance(value, dict) else {name: value}
    return flat


PRESETS: dict[PresetName, TrainSettings] = {
    "default": TrainSettings(
        tyro.MISSING,
        tyro.MISSING,
        epochs=25,
        batch_size=16,
        network=NetworkSettings(architecture="sgz-slim", scale_factor=2, initialisation="centred"),
        loss=LossSettings(
            total_variation=0, spatial=0, colour=0, exposure=0.15, exposure_level=None, semantic=0, reconstruction=1
        ),
        guide=GuideSettings(name="none"),
        optimiser=OptimiserSettings(
            learning_rate=2e-3,
            weight_decay=0,
            decoupled_decay=True,
            gradient_norm=1,
            schedule="cosine",
            warmup_steps=100,
            average=0.995,
        ),
        images=ImageSettings(size=512, crop=84, seen_at=12, flip=True, repeats=2),
        darkening=DarkeningSettings(stops=7, untouched=0.2, bracket_share=0.25),
        validation=ValidationSettings(scale_factor=12),
        snapshot_every=1000,
    ),
    "published": TrainSettings(tyro.MISSING, tyro.MISSING, preset="published", dead_layers="warn"),
}


def parse(arguments: Sequence[str], prog: str = "sgllie train") -> TrainSettings:
    """The settings that a command line asks for: those of its preset, changed by its options."""
    chooser = argparse.ArgumentParser(prog, add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", choices=get_args(PresetName), default="default")
    preset: PresetName = chooser.parse_known_args(arguments)[0].preset
    return tyro.cli(TrainSettings, default=PRESETS[preset], args=arguments, prog=prog)
