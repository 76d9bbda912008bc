"""The front door of the library: arrays in, brightened arrays out.

    from sgllie import Enhancer

    bright = Enhancer.load()(image)

On the CPU the network runs in onnxruntime and the curve in a fused kernel, and torch is never imported; on CUDA both
run in torch (`network.torch_engine`). The results are those of `model.EnhancementModel` within one grey level of 255.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast, overload

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import DeviceMemoryError
from sgllie.images import Pixels
from sgllie.network import kernels
from sgllie.network import weights as weights_module
from sgllie.network.architecture import ARCHITECTURES
from sgllie.network.device import pays_on_gpu
from sgllie.network.effect import EffectSettings
from sgllie.network.factor import Factor, FactorStatistics, Level
from sgllie.network.weights import Weights
from sgllie.settings import check, check_limits, in_words
from sgllie.storage import S3Options

Result = TypeVar("Result")


class Enhanced(NamedTuple):
    """What became of one image.

    Attributes:
        pixels: in the shape and dtype of the image.
        factor: what its factor map was like; None for a method that has none.
        device: where it was computed, `cpu` or `cuda`.
    """

    pixels: Pixels
    factor: FactorStatistics | None
    device: str


class Engine(Protocol):
    """What differs between devices: the network, and the curve. Factor maps stay where it has them, until asked for."""

    def factors(self, images: Sequence[Pixels], scale: int, level: Level | None = None) -> Any:
        """Compute the factor maps of images of one shape, each H x W x C: N x h x w x (3 * maps).

        With a level, the global term sees that in the place of the mean over each image.
        """

    def level(self, image: Pixels, scale: int) -> Level:
        """Return the mean over one image that the global term sees."""

    def curve(self, images: Sequence[Pixels], factors: Any, scale: int, strength: float) -> list[Pixels]:
        """Brighten images of one shape with their factor maps, arrays or not; grey ones take the mean of three."""

    def statistics(self, factors: Any) -> FactorStatistics:
        """Return mean, lowest and highest value of the maps."""

    def to_array(self, factors: Any) -> Factor:
        """Return factor maps as an array."""


class Enhancer:
    """Brightens images of any size with the network of given weights. Thread-safe: threads may share one.

    Args:
        weights: of the factor network.
        scale_factor: the network looks at one bilinear sample for each `scale_factor` squared pixels.
        strength: 0 gives the input back, 1 the full curve, values between blend the two.
        denoise: do not amplify noise; what it takes is found on the CPU (see `network.denoise`).
        device: `cpu` or `cuda`.
        half: run the network in half precision (CUDA only).
    """

    def __init__(
        self,
        weights: Weights,
        *,
        scale_factor: int = EffectSettings.scale_factor,
        strength: float = EffectSettings.strength,
        denoise: bool = False,
        device: Literal["cpu", "cuda"] = "cpu",
        half: bool = False,
    ) -> None:
        check_limits(EffectSettings(scale_factor=scale_factor, strength=strength), in_words)
        check(device in ("cpu", "cuda"), "the device", device, "must be cpu or cuda")
        check(not half or device == "cuda", "half precision", "on", "needs the device cuda")
        self.weights = weights
        self.scale_factor = scale_factor
        self.strength = strength
        self.denoise = denoise
        self.device = device
        self.half = half
        self.engine = engine_for(device, weights, half=half)

    def __reduce__(self) -> tuple[Callable[[Weights], "Enhancer"], tuple[Weights]]:
        """Pickle as weights and settings, so that it can be sent to a DataLoader's or to Ray's processes."""
        options = {name: getattr(self, name) for name in ("scale_factor", "strength", "denoise", "device", "half")}
        return partial(type(self), **options), (self.weights,)

    @classmethod
    def load(
        cls,
        name: str = weights_module.DEFAULT,
        *,
        scale_factor: int = EffectSettings.scale_factor,
        strength: float = EffectSettings.strength,
        denoise: bool = False,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        half: bool = False,
        s3: S3Options | None = None,
    ) -> "Enhancer":
        """Make an enhancer with the weights of this name, file, run folder or s3 url (see `weights.load`).

        The device `auto` is the GPU, if there is one, where the network is heavy (`network.device`).
        """
        loaded = weights_module.load(name, s3)
        if device == "auto":
            device = "cuda" if pays_on_gpu(loaded.parameter_count, scale_factor) and has_gpu() else "cpu"
        return cls(loaded, scale_factor=scale_factor, strength=strength, denoise=denoise, device=device, half=half)

    @overload
    def __call__(self, images: Pixels) -> Pixels: ...

    @overload
    def __call__(self, images: Sequence[Pixels]) -> list[Pixels]: ...

    def __call__(self, images: Pixels | Sequence[Pixels]) -> Pixels | list[Pixels]:
        """Enhance one image, a batch, or a list.

        Args:
            images: H x W x 3 or H x W; a batch N x H x W x 3; or a sequence of images of any sizes. uint8 or uint16.

        Returns:
            The same shape and dtype.

        Raises:
            ValueError: another shape or dtype.
            TypeError: no array, and no sequence of them.
        """
        if not isinstance(images, np.ndarray):
            if isinstance(images, str) or not isinstance(images, Sequence):
                kind = type(images).__name__
                raise TypeError(f"an image must be a numpy array, not {kind}; of a Pillow image np.asarray makes one")
            return [self(image) for image in images]
        if images.ndim == 4 and len(images):
            pixels = [as_channels(image) for image in images]
            brightened, _ = self._on_device(
                lambda engine: self._brightened(engine, pixels, engine.factors(pixels, self.scale_factor))
            )
            return np.stack(brightened).reshape(images.shape)
        return self.enhance(images).pixels

    def enhance(self, image: Pixels, level: Level | None = None) -> Enhanced:
        """Enhance one image, and tell what its factor map was like; the map itself stays on the device.

        Args:
            image: as of a call.
            level: what it shares with other images (the mean of their levels); by default its own.
        """
        pixels = [as_channels(image)]

        def work(engine: Engine) -> tuple[Pixels, FactorStatistics]:
            factors = engine.factors(pixels, self.scale_factor, level)
            (enhanced,) = self._brightened(engine, pixels, factors)
            return enhanced.reshape(image.shape), engine.statistics(factors)

        result, device = self._on_device(work)
        return Enhanced(*result, device)

    def level(self, image: Pixels) -> Level:
        """Return what the network takes of all of one image at once; nothing, where it has no global term."""
        if not ARCHITECTURES[self.weights.architecture].global_term:
            return []
        pixels = as_channels(image)
        return self._on_device(lambda engine: engine.level(pixels, self.scale_factor))[0]

    def _brightened(self, engine: Engine, pixels: Sequence[Pixels], factors: Any) -> list[Pixels]:
        """Brighten images of one shape with their factor maps, each without its noise, where that is asked for."""
        bright = engine.curve(pixels, factors, self.scale_factor, self.strength)
        if not self.denoise:
            return bright
        from sgllie.network.denoise import limit_noise, quieted
        from sgllie.network.noise import noise_of

        for place, image in enumerate(pixels):
            noise = noise_of(image)
            if noise is not None:
                quiet = quieted(image, noise)
                one = factors[place : place + 1]
                (quiet_bright,) = engine.curve([quiet], one, self.scale_factor, self.strength)
                limit_noise(image, quiet, bright[place], quiet_bright)
        return bright

    def factor_map(self, image: Pixels) -> Factor:
        """Compute the factor map of one image: h x w x (3 * maps), with h = ceil(H / scale_factor)."""
        return self.factor_maps([image])[0]

    def factor_maps(self, images: Sequence[Pixels]) -> Factor:
        """Compute the factor maps of images of one shape as one batch: N x h x w x (3 * maps)."""
        pixels = [as_channels(image) for image in images]
        return self._on_device(lambda engine: engine.to_array(engine.factors(pixels, self.scale_factor)))[0]

    def apply(self, image: Pixels, factor: Factor) -> Pixels:
        """Apply the curve to one image with a given factor map, and return it in its own shape and dtype.

        Grey images stay grey: they take the mean of the factors of the channels.
        """
        pixels = [as_channels(image)]
        (enhanced,), _ = self._on_device(lambda engine: self._brightened(engine, pixels, factor[None]))
        return enhanced.reshape(image.shape)

    def _on_device(self, work: Callable[[Engine], Result]) -> tuple[Result, str]:
        """Return what the engine makes, or that of the CPU where the memory of the GPU is full; and which it was."""
        with suppress(DeviceMemoryError):
            return work(self.engine), self.device
        return work(self._cpu_engine), "cpu"

    @cached_property
    def _cpu_engine(self) -> Engine:
        """What takes over for images that the GPU has no memory for."""
        return CpuEngine(self.weights)


def as_channels(image: Pixels) -> Pixels:
    """Return the image as contiguous H x W x 3 or H x W x 1; ValueError for what is no image of this library's."""
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"the image is of type {image.dtype}; uint8 or uint16 is needed")
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"the image has shape {image.shape}; H x W x 3 (RGB) or H x W (grey) is needed")
    return np.ascontiguousarray(image)


class CpuEngine:
    """onnxruntime and the fused kernel, on the calling thread."""

    def __init__(self, weights: Weights) -> None:
        from sgllie.network.onnx_graph import factor_session

        self.weights = weights
        self.session = factor_session(weights)

    def factors(self, images: Sequence[Pixels], scale: int, level: Level | None = None) -> Factor:
        session, given = self.session, {}
        if level:
            session, given = self._shared_session, {"pooled": np.array(level, np.float32).reshape(1, -1, 1, 1)}
        # One at a time: a batch of eight was measured to take 15 % longer per image, for its maps leave the cache.
        maps = [session.run(None, {"small": samples(image, scale)[None], **given})[0] for image in images]
        return cast(Factor, np.concatenate(maps) if len(maps) > 1 else maps[0])

    def level(self, image: Pixels, scale: int) -> Level:
        (pooled,) = self._level_session.run(None, {"small": samples(image, scale)[None]})
        return [float(value) for value in np.ravel(pooled)]

    @cached_property
    def _shared_session(self) -> Any:
        from sgllie.network.onnx_graph import factor_session

        return factor_session(self.weights, level_given=True)

    @cached_property
    def _level_session(self) -> Any:
        from sgllie.network.onnx_graph import level_session

        return level_session(self.weights)

    def curve(self, images: Sequence[Pixels], factors: Any, scale: int, strength: float) -> list[Pixels]:
        brightened = [np.empty_like(image) for image in images]
        for image, factor, enhanced in zip(images, factors, brightened, strict=True):
            kernels.apply_curve(
                image, factor_rows(factor, image.shape[2]), scale, float(np.iinfo(image.dtype).max), strength, enhanced
            )
        return brightened

    def statistics(self, factors: Factor) -> FactorStatistics:
        return FactorStatistics.of(factors)

    def to_array(self, factors: Factor) -> Factor:
        return factors


def factor_rows(factor: Factor, channels: int) -> Factor:
    """Lay a factor map out as the kernel reads it: maps x h x (w * channels); a grey image takes the channels' mean."""
    rows, columns, values = factor.shape
    maps = factor.reshape(rows, columns, values // 3, 3).transpose(2, 0, 1, 3)
    if channels == 1:
        maps = maps.mean(axis=3, keepdims=True)
    return np.ascontiguousarray(maps).reshape(values // 3, rows, columns * channels)


def samples(image: Pixels, scale: int) -> NDArray[np.float32]:
    """Take the bilinear samples that the network looks at: 3 x h x w in [0, 1]."""
    rows, columns = (-(-side // scale) for side in image.shape[:2])
    small = np.empty((3, rows, columns), np.float32)
    kernels.downscale(image, scale, float(np.iinfo(image.dtype).max), small)
    return small


def has_gpu() -> bool:
    """Tell whether torch can use a GPU; to find out, it is imported."""
    import torch

    return torch.cuda.is_available()


def engine_for(device: str, weights: Weights, *, half: bool) -> Engine:
    """Make the engine of a device."""
    if device == "cpu":
        return CpuEngine(weights)
    from sgllie.network.torch_engine import TorchEngine

    return TorchEngine(weights, device, half=half)
