"""Network and curve in torch, on a GPU; the same code runs on a CPU, where it is tested and not used.

Over the bus go pixels in their own type, both ways. Each call has a stream for itself, so that the copies of one run
beside the computing of another. Images are cut into tiles of rows, so that the memory on the device has a bound.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sgllie.errors import DeviceError, NoDeviceError, SlowCurveWarning, first_line, raise_device_fault
from sgllie.network import torch_curve
from sgllie.network.architecture import ARCHITECTURES
from sgllie.network.factor import Factor, FactorStatistics, Level
from sgllie.network.model import network_from
from sgllie.network.weights import Weights

Image = NDArray[Any]
"""H x W x C, uint8 or uint16."""
CurveRows = Callable[[Tensor, Tensor, int, int, float], Tensor]

TILE_SAMPLES = 1 << 19
"""Samples that the network looks at together: each needs up to 1,300 bytes, for feature maps of 32 channels."""
TILE_PIXELS = 1 << 20
"""Pixels that the curve is applied to together: in plain torch each needs up to 200 bytes."""


class TorchEngine:
    """An `Engine` in torch. Thread-safe: threads may share one.

    Args:
        weights: of the factor network.
        device: `cuda`, or `cpu`.
        half: run the network in half precision.

    Raises:
        NoDeviceError: there is no such device.
        DeviceError, DeviceMemoryError: it does not work, or is full.
    """

    def __init__(self, weights: Weights, device: str, *, half: bool = False) -> None:
        if device == "cuda" and not torch.cuda.is_available():
            why = "" if torch.backends.cuda.is_built() else ", since it was built without CUDA"
            raise NoDeviceError(
                f"--device cuda: this machine has no CUDA device that torch can use{why}; take --device cpu"
            )
        self.device = torch.device(device)
        self.dtype = torch.float16 if half else torch.float32
        self.maps = ARCHITECTURES[weights.architecture].maps
        # TF32, what torch takes for convolutions, multiplies with 10 bits. This is a setting of the whole process.
        torch.backends.cudnn.allow_tf32 = False
        with device_faults():
            network = network_from(weights).to(self.device, self.dtype)
            self.network: Any = network.to(memory_format=torch.channels_last)
            self.curve_rows = curve_for(self.device)
            if device == "cuda":
                torch.cuda.synchronize()  # no other stream waits for this one, in which the weights are on their way
        self._free_lanes: list[Lane] = []

    def factors(self, images: Sequence[Image], scale: int, level: Level | None = None) -> Tensor:
        """Compute the factor maps of images of one shape: N x h x w x (3 * maps), on the device."""
        height, width, _ = images[0].shape
        rows, columns = -(-height // scale), -(-width // scale)
        tiles = tiles_of(rows, len(images) * columns, TILE_SAMPLES)
        halo = self.network.halo
        with self._lane() as lane:
            factors = torch.empty((len(images), rows, columns, 3 * self.maps), device=self.device)
            pooled = None
            if level:
                pooled = torch.tensor(level, dtype=self.dtype, device=self.device).view(1, -1, 1, 1)
            elif self.network.has_global_term and len(tiles) > 1:
                pooled = self._pooled(lane, images, scale, tiles).to(self.dtype)
            for first, last in tiles:
                found = self.network(self._samples(lane, images, scale, first - halo, last + halo), pooled)
                top = min(first, halo)
                factors[:, first:last] = found[:, :, top : top + last - first].permute(0, 2, 3, 1)
            return factors

    def level(self, image: Image, scale: int) -> Level:
        """Return the mean of the fourth feature map of one image."""
        rows, columns = (-(-side // scale) for side in image.shape[:2])
        with self._lane() as lane:
            pooled = self._pooled(lane, [image], scale, tiles_of(rows, columns, TILE_SAMPLES))
            return [float(value) for value in pooled.flatten().cpu()]

    def _pooled(self, lane: "Lane", images: Sequence[Image], scale: int, tiles: list[tuple[int, int]]) -> Tensor:
        """Return the means of the fourth feature maps of images of one shape: N x C x 1 x 1, in float32."""
        rows, columns = (-(-side // scale) for side in images[0].shape[:2])
        halo, sums = self.network.halo, []
        for first, last in tiles:
            f4 = self.network.encode(self._samples(lane, images, scale, first - halo, last + halo))[-1]
            top = min(first, halo)
            sums.append(f4[:, :, top : top + last - first].sum(dim=(2, 3), keepdim=True, dtype=torch.float32))
        return torch.stack(sums).sum(0) / (rows * columns)

    def _samples(self, lane: "Lane", images: Sequence[Image], scale: int, first: int, last: int) -> Tensor:
        """Take the bilinear samples that the network looks at, of some of their rows: N x 3 x r x w, in [0, 1]."""
        height, width, channels = images[0].shape
        across = sampled(width, scale, 0, -(-width // scale))
        along = sampled(height, scale, max(first, 0), min(last, -(-height // scale)))
        pixels = lane.upload(images, along.ravel()).float()
        picked = pixels.index_select(2, torch.from_numpy(across.ravel()).to(self.device))
        means = picked.view(len(images), *along.shape, *across.shape, channels).mean(dim=(2, 4))
        unit = (means / np.iinfo(images[0].dtype).max).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
        return unit.to(self.dtype).contiguous(memory_format=torch.channels_last)

    def curve(self, images: Sequence[Image], factors: Any, scale: int, strength: float) -> list[Image]:
        """Brighten images of one shape with their factor maps, on the device or not; grey ones take the mean factor."""
        height, width, channels = images[0].shape
        enhanced = [np.empty_like(image) for image in images]
        with self._lane() as lane:
            factor = torch.as_tensor(factors, device=self.device)
            if channels == 1:
                factor = factor.unflatten(3, (self.maps, 3)).mean(dim=4)
            factor = factor.contiguous()
            for first, last in tiles_of(height, len(images) * width, TILE_PIXELS):
                pixels = lane.upload(images, np.arange(first, last))
                bright = self.curve_rows(pixels, factor, first, scale, strength)
                lane.download(bright, [image[first:last] for image in enhanced])
        return enhanced

    def statistics(self, factors: Tensor) -> FactorStatistics:
        """Return mean, lowest and highest value of the maps."""
        with self._lane():
            return FactorStatistics(float(factors.mean()), float(factors.min()), float(factors.max()))

    def to_array(self, factors: Tensor) -> Factor:
        """Return factor maps as an array."""
        with self._lane():
            return factors.cpu().numpy()

    @contextmanager
    def _lane(self) -> Iterator["Lane"]:
        """Work on the device, in a lane that was left free, and wait for the end: what is made may be used in another.

        A thread keeps none, since many may come that compute one after another, and torch keeps what is freed in a
        stream for that stream.
        """
        with device_faults(), torch.inference_mode():
            try:
                lane = self._free_lanes.pop()
            except IndexError:
                lane = Lane(self.device)
            try:
                with torch.cuda.stream(lane.stream):
                    yield lane
                    lane.wait()
            finally:
                self._free_lanes.append(lane)


class Lane:
    """What one call moves pixels with: a stream, and page-locked buffers, without which no copy runs beside others.

    On a CPU there is no stream, and the buffers are ordinary ones.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._buffers: dict[str, Tensor] = {}

    def upload(self, images: Sequence[Image], rows: NDArray[np.int64]) -> Tensor:
        """Copy some rows of each image to the device: N x R x W x C."""
        shape = (len(images), len(rows), *images[0].shape[1:])
        staged = self._buffer("up", shape, torch.from_numpy(images[0][:0]).dtype)
        for place, image in zip(staged.numpy(), images, strict=True):
            np.take(image, rows, axis=0, out=place, mode="clip")  # any other mode makes a copy first
        return staged.to(self.device, non_blocking=True, copy=True)

    def download(self, tensor: Tensor, targets: Sequence[Image]) -> None:
        """Copy a tensor from the device into arrays, one for each of its first axis."""
        staged = self._buffer("down", tuple(tensor.shape), tensor.dtype)
        staged.copy_(tensor, non_blocking=True)
        self.wait()
        for place, target in zip(staged.numpy(), targets, strict=True):
            np.copyto(target, place)

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """Return a buffer of that shape, once nothing on the device reads or writes it any more."""
        self.wait()
        size = prod(shape) * dtype.itemsize
        if name not in self._buffers or self._buffers[name].numel() < size:
            self._buffers[name] = torch.empty(size, dtype=torch.uint8, pin_memory=self.stream is not None)
        return self._buffers[name][:size].view(dtype).view(shape)

    def wait(self) -> None:
        """Wait until all that was begun here is done."""
        if self.stream is not None:
            self.stream.synchronize()


def tiles_of(rows: int, row_length: int, most: int) -> list[tuple[int, int]]:
    """Cut rows into tiles of at most `most` elements, or of one row; return where each begins and ends."""
    step = max(most // row_length, 1)
    return [(first, min(first + step, rows)) for first in range(0, rows, step)]


def sampled(length: int, scale: int, first: int, last: int) -> NDArray[np.int64]:
    """Return the places that samples `first` to `last` of an axis are the mean of: one for each, or two (even `scale`).

    They are those of bilinear samples, `align_corners=False`, of an image padded by its edge to multiples of `scale`.
    """
    corner = np.arange(first, last) * scale + (scale - 1) // 2
    return np.minimum(corner[:, None] + np.arange(2 - scale % 2), length - 1)


def curve_for(device: torch.device) -> CurveRows:
    """Return the fused curve where it runs, else the plain one.

    Raises:
        DeviceMemoryError, RuntimeError: Triton is not to blame, but the GPU, which is full or does not work.
    """
    if device.type == "cuda":
        try:
            from sgllie.network import triton_curve

            pixels = torch.zeros((1, 1, 1, 3), dtype=torch.uint8, device=device)
            triton_curve.curve_rows(pixels, torch.zeros((1, 1, 1, 3), device=device), 0, 1, 1.0)
        except Exception as error:  # no Triton, nothing that it compiles with, or a GPU that it does not know
            with suppress(DeviceError):  # Triton says CUDA, too, where a GPU that works cannot load the kernel
                raise_device_fault(error)
            torch.cuda.synchronize()  # one that does not work says so in every call
            triton = "Triton, which needs a C compiler and Python's headers"
            reason = f"{triton}, does not work ({type(error).__name__}: {first_line(error)})"
            warnings.warn(f"the curve runs in plain torch, for {reason}", SlowCurveWarning, stacklevel=2)
        else:
            return triton_curve.curve_rows
    return torch_curve.curve_rows


@contextmanager
def device_faults() -> Iterator[None]:
    """Tell the faults of a GPU from those of the program.

    Raises:
        DeviceMemoryError: its memory is full.
        DeviceError: anything else that CUDA or its libraries report; they all fail from then on in this process.
    """
    try:
        yield
    except RuntimeError as error:  # the base of all that torch raises
        kinds = {torch.OutOfMemoryError: "out of memory", getattr(torch, "AcceleratorError", ()): "CUDA"}  # torch 2.8
        raise_device_fault(error, " ".join(told for kind, told in kinds.items() if isinstance(error, kind)))
        raise
