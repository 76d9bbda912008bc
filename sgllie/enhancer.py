"""The front door of the library: arrays in, brightened arrays out.

    from sgllie import Enhancer

    bright = Enhancer.load()(image)

On the CPU the network runs in onnxruntime and the curve in a fused kernel, and torch is never imported; on CUDA both
run in torch. The results are those of `model.EnhancementModel` within one grey level of 255.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, Protocol, cast, overload

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import UsageError
from sgllie.images import Pixels
from sgllie.network import kernels
from sgllie.network import weights as weights_module
from sgllie.network.architecture import ARCHITECTURES
from sgllie.network.effect import EffectSettings
from sgllie.network.weights import Weights
from sgllie.settings import check, check_limits, in_words
from sgllie.storage import S3Options

Factor = NDArray[np.float32]
"""h x w x (3 * maps) values in (-1, 1), 1 / scale_factor of the size of the image: below zero brightens."""


class Engine(Protocol):
    """What differs between devices: the network on small images, and the curve on whole ones."""

    def network(self, small: NDArray[np.float32]) -> Factor:
        """Compute factor maps: N x 3 x h x w in [0, 1] -> N x h x w x (3 * maps)."""

    def curve(self, image: Pixels, factor: NDArray[np.float32], scale: int, strength: float) -> Pixels:
        """Brighten an image: H x W x C and maps x h x (w * C) -> H x W x C, in its own dtype."""


class Enhancer:
    """Brightens images of any size with the network of given weights. Thread-safe: threads may share one.

    Args:
        weights: of the factor network.
        scale_factor: the network looks at one bilinear sample for each `scale_factor` squared pixels.
        strength: 0 gives the input back, 1 the full curve, values between blend the two.
        device: `cpu` or `cuda`.
        half: run the network in half precision (CUDA only).
    """

    def __init__(
        self,
        weights: Weights,
        *,
        scale_factor: int = EffectSettings.scale_factor,
        strength: float = EffectSettings.strength,
        device: Literal["cpu", "cuda"] = "cpu",
        half: bool = False,
    ) -> None:
        check_limits(EffectSettings(scale_factor=scale_factor, strength=strength), in_words)
        check(device in ("cpu", "cuda"), "the device", device, "must be cpu or cuda")
        check(not half or device == "cuda", "half precision", "on", "needs the device cuda")
        self.weights = weights
        self.scale_factor = scale_factor
        self.strength = strength
        self.device = device
        self.half = half
        self.maps = ARCHITECTURES[weights.architecture].maps
        self.engine: Engine = CudaEngine(weights, half=half) if device == "cuda" else CpuEngine(weights)

    def __reduce__(self) -> tuple[Callable[[Weights], "Enhancer"], tuple[Weights]]:
        """Pickle as weights and settings, so that it can be sent to a DataLoader's or to Ray's processes."""
        options = {name: getattr(self, name) for name in ("scale_factor", "strength", "device", "half")}
        return partial(type(self), **options), (self.weights,)

    @classmethod
    def load(
        cls,
        name: str = weights_module.DEFAULT,
        *,
        scale_factor: int = EffectSettings.scale_factor,
        strength: float = EffectSettings.strength,
        device: Literal["auto", "cpu", "cuda"] = "auto",
        half: bool = False,
        s3: S3Options | None = None,
    ) -> "Enhancer":
        """Make an enhancer with the weights of this name, file, run folder or s3 url (see `weights.load`)."""
        if device == "auto":
            import torch

            device = "cuda" if torch.cuda.is_available() else "cpu"
        loaded = weights_module.load(name, s3)
        return cls(loaded, scale_factor=scale_factor, strength=strength, device=device, half=half)

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
            factors = self.factor_maps(list(images))
            return np.stack([self.apply(image, factor) for image, factor in zip(images, factors, strict=True)])
        return self.apply(images, self.factor_map(images))

    def factor_map(self, image: Pixels) -> Factor:
        """Compute the factor map of one image: h x w x (3 * maps), with h = ceil(H / scale_factor)."""
        return self.factor_maps([image])[0]

    def factor_maps(self, images: Sequence[Pixels]) -> Factor:
        """Compute the factor maps of images of one shape as one batch: N x h x w x (3 * maps)."""
        return self.engine.network(np.stack([self._samples(image) for image in images]))

    def _samples(self, image: Pixels) -> NDArray[np.float32]:
        """Take the bilinear samples that the network looks at: 3 x h x w in [0, 1]."""
        image = as_channels(image)
        rows, columns = (-(-side // self.scale_factor) for side in image.shape[:2])
        small = np.empty((3, rows, columns), np.float32)
        kernels.downscale(image, self.scale_factor, float(np.iinfo(image.dtype).max), small)
        return small

    def apply(self, image: Pixels, factor: Factor) -> Pixels:
        """Apply the curve to one image with a given factor map, and return it in its own shape and dtype.

        Grey images stay grey: they take the mean of the factors of the channels.
        """
        pixels = as_channels(image)
        channels = pixels.shape[2]
        rows, columns, _ = factor.shape
        maps = factor.reshape(rows, columns, self.maps, 3).transpose(2, 0, 1, 3)
        if channels == 1:
            maps = maps.mean(axis=3, keepdims=True)
        lines = np.ascontiguousarray(maps).reshape(self.maps, rows, columns * channels)
        return self.engine.curve(pixels, lines, self.scale_factor, self.strength).reshape(image.shape)


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

        self.session = factor_session(weights)

    def network(self, small: NDArray[np.float32]) -> Factor:
        # One at a time: a batch of eight was measured to take 15 % longer per image, for its maps leave the cache.
        maps = [self.session.run(None, {"small": image[None]})[0] for image in small]
        return cast(Factor, np.concatenate(maps) if len(maps) > 1 else maps[0])

    def curve(self, image: Pixels, factor: NDArray[np.float32], scale: int, strength: float) -> Pixels:
        enhanced = np.empty_like(image)
        kernels.apply_curve(image, factor, scale, float(np.iinfo(image.dtype).max), strength, enhanced)
        return enhanced


class CudaEngine:
    """torch on the GPU, with the modules of `model`."""

    def __init__(self, weights: Weights, *, half: bool) -> None:
        import torch

        from sgllie.network import model

        if not torch.cuda.is_available():
            raise UsageError("--device cuda: this machine has no CUDA device that torch can use; take --device cpu")
        self.torch, self.model = torch, model
        self.dtype = torch.float16 if half else torch.float32
        network = model.network_from(weights).to("cuda", self.dtype)
        self.factor_network = network.to(memory_format=torch.channels_last)

    def network(self, small: NDArray[np.float32]) -> Factor:
        with self.torch.inference_mode():
            batch = self.torch.from_numpy(small).to("cuda", self.dtype)
            factor = self.factor_network(batch.contiguous(memory_format=self.torch.channels_last))
            return factor.permute(0, 2, 3, 1).float().cpu().numpy()

    def curve(self, image: Pixels, factor: NDArray[np.float32], scale: int, strength: float) -> Pixels:
        height, width, channels = image.shape
        maps, rows, samples = factor.shape
        peak = float(np.iinfo(image.dtype).max)
        with self.torch.inference_mode():
            original = self.torch.from_numpy(image).cuda().permute(2, 0, 1)[None].float() / peak
            steps = self.torch.from_numpy(factor).cuda().reshape(maps, rows, samples // channels, channels)
            stretched = self.model.upscale(steps.permute(0, 3, 1, 2), scale)[..., :height, :width]
            x = self.model.curve(original, stretched.reshape(1, maps * channels, height, width))
            x = self.torch.lerp(original, x, strength)
            return (x[0].permute(1, 2, 0) * peak + 0.5).cpu().numpy().astype(image.dtype)
