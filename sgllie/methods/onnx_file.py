"""Any network from image to image, from an ONNX file."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from sgllie.enhancer import Enhanced, Factor, Level, Pixels
from sgllie.errors import DeviceMemoryError, ImageError, StorageError, UsageError, first_line, raise_device_fault
from sgllie.methods import MethodSettings
from sgllie.methods.blended import NOTHING, BlendedMethod, peak, unit
from sgllie.network.effect import EffectSettings
from sgllie.network.onnx_graph import ANY_SIZE
from sgllie.storage import read_file

MULTIPLES = (1, 2, 4, 8, 12, 16, 24, 32, 64, 128)
"""Sides may have to be multiples of one of these; the first one with which the network works is taken."""
SMALLEST = 64
"""Smaller images are padded to this, since networks may hold windows that are wider than a tiny image."""
CUDA = "CUDAExecutionProvider"
DTYPES: dict[str, Any] = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}


class Port(NamedTuple):
    """Where the image goes in: name and dtype of the input, whether it is N x H x W x 3, and the sides it fixes."""

    name: str
    dtype: Any
    channels_last: bool
    height: int | None
    width: int | None

    @property
    def white(self) -> np.float32:
        """Return what stands for white: 255 in bytes, else 1."""
        return np.float32(255 if self.dtype == np.uint8 else 1)


@dataclass(frozen=True)
class Network:
    """An opened file that was found to fit.

    Attributes:
        session: on one thread, as many of them run side by side.
        port: its input.
        output: the name of the first output that has the shape of the input.
        multiple: sides that are not fixed must be multiples of this.
        smallest: sides that are not fixed must not be shorter than this.
    """

    session: onnxruntime.InferenceSession
    port: Port
    output: str
    multiple: int
    smallest: int

    @property
    def device(self) -> str:
        """Where it runs: onnxruntime takes the CPU by itself where a GPU cannot be had."""
        return "cuda" if CUDA in self.session.get_providers() else "cpu"

    def __call__(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network: H x W x 3 in [0, 1] -> the same.

        Raises:
            ImageError: it refuses the image.
            DeviceMemoryError, DeviceError: the GPU has no memory for it, or does not work.
        """
        height, width, _ = image.shape
        rows = self._padded(height, self.port.height)
        columns = self._padded(width, self.port.width)
        whole = np.pad(image, ((0, rows - height), (0, columns - width), (0, 0)), mode="reflect")
        try:
            result = self.session.run([self.output], {self.port.name: batch(whole, self.port)})[0]
        except Exception as error:  # onnxruntime's have no common class below this
            if self.device == "cuda":
                raise_device_fault(error)
            raise ImageError("unsupported", f"the network cannot take it: {first_line(error)}") from error
        enhanced = (result[0] if self.port.channels_last else result[0].transpose(1, 2, 0)) / self.port.white
        if not np.isfinite(enhanced).all():
            raise ImageError("unsupported", "the network gives values for it that are not finite")
        return np.clip(enhanced[:height, :width].astype(np.float32), 0, 1)

    def _padded(self, side: int, fixed: int | None) -> int:
        """Return the length that a side is padded to; ImageError where it is longer than the network takes."""
        if fixed is None:
            return -(-max(side, self.smallest) // self.multiple) * self.multiple
        if side > fixed:
            raise ImageError("too_large", f"the network takes sides of {fixed} pixels at most, and one has {side}")
        return fixed


class OnnxFile(BlendedMethod):
    """The output of a network in an ONNX file.

    The file has one input, 1 x 3 x H x W or 1 x H x W x 3 (told by which axis has length 3), RGB, in
    float32 or float16 with white as 1, or in uint8; its first output of that shape is the enhanced image. Where H and W
    are free, images are padded at the bottom and at the right by reflection, to at least SMALLEST and to the multiple
    (1 to 128) that the network is found to need, and cropped back; a file whose metadata says ANY_SIZE needs no least
    size. Where they are fixed, smaller images are padded to them and larger ones refused: to scale them would lose
    detail. Grey images go in as three equal channels and come out as the mean of three. The factor map is empty.

    Args:
        network: what the file holds.
        strength: see `BlendedMethod`.
        spare: makes the same network on the CPU, for images that a GPU has no memory for.
    """

    def __init__(
        self,
        network: Network,
        strength: float = EffectSettings.strength,
        spare: Callable[[], Network] | None = None,
    ) -> None:
        super().__init__(strength)
        self.network, self._make_spare = network, spare

    @cached_property
    def _spare(self) -> "OnnxFile | None":
        return OnnxFile(self._make_spare(), self.strength) if self._make_spare else None

    def enhance(self, image: Pixels, level: Level | None = None) -> Enhanced:
        """Enhance one image; on the CPU, where the memory of the GPU is full. It has no level to share."""
        try:
            return Enhanced(super().apply(image, NOTHING), None, self.network.device)
        except DeviceMemoryError:
            if self._spare is None:
                raise
        return self._spare.enhance(image)

    def apply(self, image: Pixels, factor: Factor) -> Pixels:
        """Return the image enhanced; there is no factor map."""
        return self.enhance(image).pixels

    def factor_map(self, image: Pixels) -> Factor:
        """Return nothing: what the network sees in an image stays within it."""
        return NOTHING

    def levels(self, pixels: Pixels, factor: Factor) -> NDArray[np.float32]:
        """Send the image through the network, a grey one as three equal channels."""
        channels = pixels.shape[2]
        if self.network.port.dtype == np.uint8 != pixels.dtype:
            raise ImageError("unsupported", "the network takes 8 bits for each channel, and the image has 16")
        enhanced = self.network(np.broadcast_to(unit(pixels), (*pixels.shape[:2], 3)))
        return (enhanced if channels == 3 else enhanced.mean(axis=2, keepdims=True)) * peak(pixels)


def make(settings: MethodSettings) -> OnnxFile:
    """Make the method that the settings describe; UsageError if its file is missing or does not fit."""
    data, source = read(settings), str(settings.weights)
    return OnnxFile(
        open_network(data, source, settings.device), settings.strength, lambda: open_network(data, source, "cpu")
    )


def describe(settings: MethodSettings) -> dict[str, Any]:
    """Return name and SHA-256 of the file; UsageError if it is missing or does not fit."""
    data = read(settings)
    open_network(data, str(settings.weights))
    return {"name": settings.weights, "fingerprint": hashlib.sha256(data).hexdigest()}


def read(settings: MethodSettings) -> bytes:
    """Read the file that `--weights` names; UsageError where none is named, or it cannot be read."""
    if settings.weights is None:
        raise UsageError("--method onnx: --weights must name the .onnx file of a network, local or s3://")
    try:
        return read_file(settings.weights, settings.s3)
    except (OSError, StorageError) as error:
        raise UsageError(f"weights {settings.weights} cannot be read: {error}") from error


def has_cuda() -> bool:
    """Tell whether this onnxruntime can run networks on CUDA; the package of that name cannot, onnxruntime-gpu can."""
    return CUDA in onnxruntime.get_available_providers()


def open_network(data: bytes, source: str, device: str = "cpu") -> Network:
    """Open the network in these bytes.

    Args:
        data: the file.
        source: what it is called in errors.
        device: `cuda` runs it there if this onnxruntime can, and on the CPU if not.

    Raises:
        UsageError: it makes no image of an image.
        DeviceError, DeviceMemoryError: the GPU does not work, or is full.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what goes wrong is told in one sentence
    providers = [CUDA, "CPUExecutionProvider"] if device == "cuda" and has_cuda() else ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:
        if CUDA in providers:
            raise_device_fault(error)
        raise UsageError(f"{source} is no ONNX file that onnxruntime can open: {first_line(error)}") from error
    port = port_of(session, source)
    smallest = 1 if ANY_SIZE in session.get_modelmeta().custom_metadata_map else SMALLEST
    last: object = "none of its outputs has the shape and type of the input"
    for multiple in MULTIPLES:
        shape = trial_shape(port, multiple)
        try:
            results = session.run(None, {port.name: batch(np.full((*shape, 3), 0.5, np.float32), port)})
        except Exception as error:
            if CUDA in session.get_providers():
                raise_device_fault(error)
            last = first_line(error)
            continue
        expected = (1, *shape, 3) if port.channels_last else (1, 3, *shape)
        for output, result in zip(session.get_outputs(), results, strict=True):
            if np.shape(result) == expected and (result.dtype == np.uint8) == (port.dtype == np.uint8):
                return Network(session, port, output.name, multiple, smallest)
    raise UsageError(f"{source} returns no image of the size of its input, at any size that was tried: {last}")


def port_of(session: onnxruntime.InferenceSession, source: str) -> Port:
    """Return the input; UsageError where it cannot take an image."""
    inputs = session.get_inputs()
    if len(inputs) == 1 and len(inputs[0].shape) == 4 and inputs[0].type in DTYPES:
        count, *sides = (side if isinstance(side, int) and side > 0 else None for side in inputs[0].shape)
        channels_last = sides[0] != 3
        height, width = sides[:2] if channels_last else sides[1:]
        if count in (None, 1) and (sides[0] == 3) != (sides[2] == 3):  # of both nobody knows which are the channels
            return Port(inputs[0].name, DTYPES[inputs[0].type], channels_last, height, width)
    found = "; ".join(f"{one.name}: {one.type} of shape {one.shape}" for one in inputs)
    raise UsageError(
        f"{source} must have one input, 1 x 3 x height x width or 1 x height x width x 3, float or uint8; "
        f"it has {found}"
    )


def trial_shape(port: Port, multiple: int) -> tuple[int, int]:
    """Return sides that are no multiples of more than `multiple` (times an odd number), and not equal."""
    odd = SMALLEST // multiple | 1
    return port.height or multiple * odd, port.width or multiple * (odd + 2)


def batch(image: NDArray[np.float32], port: Port) -> NDArray[Any]:
    """Return the image in the layout and dtype of the input."""
    ordered = image if port.channels_last else image.transpose(2, 0, 1)
    levels = np.rint(ordered * port.white) if port.dtype == np.uint8 else ordered
    return np.ascontiguousarray(levels[None], port.dtype)
