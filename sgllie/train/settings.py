"""The settings of the training job: one frozen dataclass, from which the command line is made, and two presets."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, get_args

import tyro

from sgllie.network.architecture import ARCHITECTURES, ConvType
from sgllie.settings import check, check_limits, setting
from sgllie.storage import S3Options, refuse_credentials

PresetName = Literal["default", "published"]
GuideName = Literal["none", "fpn-resnet50", "efficientnet-lite0", "lraspp-mobilenet-v3", "deeplab-v3-resnet50"]


@dataclass(frozen=True)
class NetworkSettings:
    """What is trained."""

    architecture: str = "sgz"
    """Name of the network."""
    conv_type: ConvType = "dsc"
    """Depthwise separable, plain (tc) or dilated (dc) convolutions."""
    scale_factor: int = setting(1, least=1)
    """The network looks at one sample for each block of this many pixels squared."""
    initialisation: Literal["torch", "centred"] = "torch"
    """Random weights: as torch draws them, or so that signals keep their strength through seven layers (depthwise
    kernels near the identity, He's normal elsewhere, zero biases, a factor map near zero)."""
    initial_weights: str | None = None
    """Start from these weights (a file, a bundled name, or the folder of a run) instead of random ones."""


@dataclass(frozen=True)
class LossSettings:
    """Weights of the training terms (0 leaves a term out), and what the terms need to know."""

    total_variation: float = setting(1600.0, least=0, most=1e9)
    spatial: float = setting(1.0, least=0, most=1e9)
    colour: float = setting(5.0, least=0, most=1e9)
    exposure: float = setting(10.0, least=0, most=1e9)
    semantic: float = setting(0.1, least=0, most=1e9)
    reconstruction: float = setting(0.0, least=0, most=1e9)
    """Distance from the photograph before it was darkened, as log10(1 + 1000 e) of each image's mean squared error e
    (needs --darkening.stops)."""
    patch_size: int = setting(4, least=1)
    """Pixels along the side of a patch of the spatial term."""
    exposure_level: float | None = setting(0.6, least=0, most=1)
    """Brightness, 0 to 1, that the exposure term asks of each part of the image; None: the mean of the photograph
    before it was darkened, so that its light is evened out (needs --darkening.stops)."""


@dataclass(frozen=True)
class GuideSettings:
    """The frozen network behind the semantic term."""

    name: GuideName = "fpn-resnet50"
    """none, or which network looks at the enhanced images."""
    weights: str | None = None
    """File with the guide's weights, where they cannot be downloaded."""
    classes: int = setting(21, least=1)
    """Classes of the random head of fpn-resnet50."""


@dataclass(frozen=True)
class OptimiserSettings:
    """Adam, its learning rate over time, and what is kept of the weights."""

    learning_rate: float = setting(1e-3, least=1e-9)
    """Learning rate of Adam; with cosine the highest it reaches."""
    weight_decay: float = setting(1e-3, least=0, most=1)
    """How strongly weights are drawn to zero."""
    decoupled_decay: bool = False
    """Decay the weights beside the gradient step (AdamW) and not through it (L2)."""
    gradient_norm: float = setting(0.1, least=1e-6)
    """Gradients are scaled down to this norm."""
    schedule: Literal["constant", "cosine"] = "constant"
    """cosine: rise over the warm-up, then fall to zero along half a cosine."""
    warmup_steps: int = setting(0, least=0)
    """Steps over which cosine raises the learning rate from zero."""
    ema_decay: float = setting(0.0, least=0, most=0.999999)
    """Keep an exponential moving average of the weights with this decay (0: keep the weights themselves)."""


@dataclass(frozen=True)
class ImageSettings:
    """How photographs become training images."""

    size: int = setting(512, least=32, most=8192)
    """Photographs are resized (Lanczos) to this many pixels squared."""
    crop: int | None = setting(None, least=32, most=8192)
    """Train on random parts of the photograph, resized to this many pixels squared; by default on all of it."""
    smallest_crop: float = setting(0.6, least=0.01, most=1)
    """Smallest side of such a part, as a share of the photograph's."""
    inference_scale: int | None = setting(None, least=1)
    """Instead of shrinking such a part, take from it the pixels that the network would look at with this scale factor:
    32 pixels with --network.scale-factor 1 are then what it sees of 384 with 12."""
    flip: bool = False
    """Mirror every second image."""
    repeats: int = setting(1, least=1)
    """How often an epoch uses each photograph."""


@dataclass(frozen=True)
class DarkeningSettings:
    """Dark images made of well exposed photographs, which are then known as the targets. Off with 0 stops."""

    stops: float = setting(0.0, least=0, most=16)
    """Exposure is lowered by up to this many stops, drawn uniformly."""
    identity_share: float = setting(0.15, least=0, most=1)
    """Share of the photographs that stay as they are, so that the network learns to leave good ones alone."""
    unevenness: float = setting(1.5, least=0, most=8)
    """Most stops by which the light varies across an image (one standard deviation)."""
    shoulder: float = setting(1.0, least=0, most=100)
    """How strongly the camera compresses highlights, from 0 to this."""
    least_gamma: float = setting(0.75, least=0.05, most=20)
    """Least power by which the tone curve is bent."""
    greatest_gamma: float = setting(1.7, least=0.05, most=20)
    """Greatest power by which the tone curve is bent."""
    contrast: float = setting(1.6, least=0, most=8)
    """At most this many stops more are taken from a region for each stop that it is darker than the rest."""
    shot_noise: float = setting(3e-4, least=0, most=1)
    """Largest variance of shot noise for each unit of linear light."""
    read_noise: float = setting(1.5e-3, least=0, most=1)
    """Largest standard deviation of read noise, in linear light."""
    darkest: float = setting(0.33, least=0, most=1)
    """Photographs with a lower mean are too dark to count as well exposed, and are not darkened."""
    brightest: float = setting(0.58, least=0, most=1)
    """Photographs with a higher mean are too bright to count as well exposed, and are not darkened."""
    clipped: float = setting(0.1, least=0, most=1)
    """Photographs with a larger share of clipped pixels do not count as well exposed."""
    bright_share: float = setting(0.1, least=0, most=1)
    """Share of brighter photographs (mean up to 0.9) among the training images; they stay as they are."""
    bracket_share: float = setting(0.0, least=0, most=1)
    """Share of pairs among the training images: a photograph with a mean of at most --darkening.darkest, and the best
    exposed one of its scene, which it is to become. Photographs of one scene are those that follow each other by name
    and look alike; where there are none, all images are made dark."""


@dataclass(frozen=True)
class ValidationSettings:
    """What is measured after each epoch, on photographs that are held back."""

    images: int = setting(32, least=1)
    """Random photographs held back; at most a fifth of all."""
    held_back: str | None = None
    """Pattern (validation/*) of the paths of the photographs to hold back, instead of random ones: so that photographs
    of one scene stay on one side, and runs with several seeds can be compared."""
    batch_size: int = setting(8, least=1)
    """Photographs that are measured together."""
    size: int = setting(512, least=32, most=8192)
    """The photographs are resized to this many pixels squared."""
    scale_factor: int | None = setting(None, least=1)
    """The network looks at one sample for each block of this many pixels squared; by default as in training."""


@dataclass(frozen=True)
class TrainSettings:
    """Train an enhancement network on photographs, without reference images or labels.

    The same command again goes on from the last finished epoch.
    """

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = setting(changes_output=False)
    """Folder, s3://bucket/prefix, glob in quotes, or a list of photographs."""
    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")] = setting(changes_output=False)
    """Folder or s3://bucket/prefix that becomes weights/, checkpoints/, samples/, events/, metrics.csv, curves.png."""

    image_column: str | None = None
    """Column of Parquet files that holds the images; by default it is found by what it holds."""
    preset: PresetName = setting("default", changes_output=False)
    """Where all other defaults come from: published repeats the recipe of the SGZ paper to the letter."""
    epochs: int = setting(100, least=1)
    """Passes over the training images."""
    batch_size: int = setting(6, least=1)
    """Images of one step, over all workers together."""
    seed: int = setting(0, least=0, most=2**32 - 1)
    """Seed of all that is random; on the CPUs of a machine the same seed gives the same weights (GPUs: not tried)."""
    dead_layers: Literal["stop", "warn"] = "stop"
    """What to do when a layer no longer answers to its input."""

    network: NetworkSettings = setting(factory=NetworkSettings)
    loss: LossSettings = setting(factory=LossSettings)
    guide: GuideSettings = setting(factory=GuideSettings)
    optimiser: OptimiserSettings = setting(factory=OptimiserSettings)
    images: ImageSettings = setting(factory=ImageSettings)
    darkening: DarkeningSettings = setting(factory=DarkeningSettings)
    validation: ValidationSettings = setting(factory=ValidationSettings)

    display_every: int = setting(10, least=1, changes_output=False)
    """Steps after which progress is reported again."""
    snapshot_every: int = setting(10, least=1, changes_output=False)
    """Steps after which weights/last.safetensors is written again, in the middle of an epoch."""
    num_workers: int = setting(1, least=1, changes_output=False)
    """Training processes."""
    min_workers: int | None = setting(None, least=1, changes_output=False)
    """Go on with as few as these while machines are lost, or others use them; by default a training that has begun
    waits for room for all."""
    use_gpu: bool = setting(False, changes_output=False)
    """Give each training process a GPU."""
    cpus_per_worker: int = setting(1, least=1, changes_output=False)
    """Processor cores, and threads, of each training process."""
    loaders: int = setting(4, least=1, changes_output=False)
    """Tasks that load images for one training process at the same time."""
    cache: Literal["auto", "memory", "none"] = setting("auto", changes_output=False)
    """memory: decode every photograph once; none: in every epoch; auto: memory where they fit."""
    max_failures: int = setting(3, least=0, changes_output=False)
    """How many deaths of workers a run survives by itself, counted since the last finished epoch."""
    address: str | None = setting(None, changes_output=False)
    """Address of a Ray cluster (auto: the one this machine belongs to); by default a local one is started."""
    s3: S3Options = setting(factory=S3Options, changes_output=False)
    """How to reach S3."""

    def __post_init__(self) -> None:
        check_limits(self)
        refuse_credentials("--address", self.address or "")
        architecture, known = self.network.architecture, f"must be one of {', '.join(ARCHITECTURES)}"
        check(architecture in ARCHITECTURES, "--network.architecture", architecture, known)
        least, most = self.least_workers, self.num_workers
        check(least <= most, "--min-workers", least, f"must not be above --num-workers ({most})")
        for name, workers in (("--num-workers", most), ("--min-workers", least)):
            divides = self.batch_size % workers == 0
            check(divides, "--batch-size", self.batch_size, f"must be a multiple of {name} ({workers})")
        self._check_terms()
        self._check_images()
        self._check_darkening()

    @property
    def least_workers(self) -> int:
        """Training processes without which the training waits."""
        return self.min_workers or self.num_workers

    def _check_terms(self) -> None:
        """Raise UsageError where what a training term needs is missing."""
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
        """Raise UsageError where sizes of images do not fit each other."""
        crop, size, inference_scale = self.images.crop, self.images.size, self.images.inference_scale
        check(crop is None or crop <= size, "--images.crop", crop, f"must not be above --images.size ({size})")
        scale = self.network.scale_factor
        rule = "needs --images.crop, a multiple of --network.scale-factor, and must not be less than that factor"
        fits = inference_scale is None or bool(crop and crop % scale == 0 and inference_scale >= scale)
        check(fits, "--images.inference-scale", inference_scale, rule)

    def _check_darkening(self) -> None:
        """Raise UsageError where ranges are empty, or shares add up to too much."""
        dark = self.darkening
        shares = {"bright": dark.bright_share, "bracket": dark.bracket_share}
        for name, share in shares.items():
            check(sum(shares.values()) < 1, f"--darkening.{name}-share", share, "must be below 1 with the other share")
        least, greatest = dark.least_gamma, dark.greatest_gamma
        check(least <= greatest, "--darkening.least-gamma", least, f"must not be above the greatest ({greatest})")
        darkest, brightest = dark.darkest, dark.brightest
        check(darkest <= brightest, "--darkening.darkest", darkest, f"must not be above the brightest ({brightest})")


PRESETS: dict[PresetName, TrainSettings] = {
    "default": TrainSettings(
        tyro.MISSING,
        tyro.MISSING,
        epochs=10,
        batch_size=16,
        network=NetworkSettings(architecture="sgz-slim", initialisation="centred"),
        loss=LossSettings(
            total_variation=0, spatial=0, colour=0, exposure=0.15, exposure_level=None, semantic=0, reconstruction=0.1
        ),
        guide=GuideSettings(name="none"),
        optimiser=OptimiserSettings(
            learning_rate=2e-3,
            weight_decay=0,
            decoupled_decay=True,
            gradient_norm=1,
            schedule="cosine",
            warmup_steps=100,
            ema_decay=0.995,
        ),
        images=ImageSettings(size=512, crop=32, inference_scale=12, flip=True, repeats=5),
        darkening=DarkeningSettings(
            stops=6,
            identity_share=0.2,
            unevenness=0.7,
            contrast=0.5,
            least_gamma=0.85,
            greatest_gamma=1.3,
            darkest=0.3,
            brightest=0.67,
            bracket_share=0.25,
        ),
        validation=ValidationSettings(scale_factor=12),
        snapshot_every=1000,
    ),
    "published": TrainSettings(tyro.MISSING, tyro.MISSING, preset="published", dead_layers="warn"),
}


def parse(arguments: Sequence[str]) -> TrainSettings:
    """Return the settings that a command line asks for: those of its preset, changed by its options."""
    chooser = argparse.ArgumentParser("sgllie train", add_help=False, allow_abbrev=False)
    chooser.add_argument("--preset", choices=get_args(PresetName), default="default")
    preset: PresetName = chooser.parse_known_args(arguments)[0].preset
    return tyro.cli(TrainSettings, default=PRESETS[preset], args=arguments, prog="sgllie train")
