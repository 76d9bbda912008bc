"""JPEG encoding by nvImageCodec, on a GPU; the same code runs its CPU backend, where it is tested."""

from contextlib import suppress
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import DeviceMemoryError, UsageError, raise_device_fault
from sgllie.images.jpeg import libjpeg


class NvImageEncoder:
    """A `JpegEncoder`. Thread-safe: each call has an encoder of the library's for itself.

    What the library does not encode, for want of memory or for any other reason, is encoded by libjpeg.

    Args:
        device: `cuda`, or `cpu`.

    Raises:
        UsageError: the library is not installed, or finds nothing here that encodes JPEGs.
        DeviceError, DeviceMemoryError: the GPU does not work, or is full.
    """

    def __init__(self, device: Literal["cpu", "cuda"]) -> None:
        try:
            from nvidia import nvimgcodec
        except ImportError:
            raise UsageError("--gpu-jpeg needs the package nvidia-nvimgcodec-cu12; install sgllie[gpu]") from None
        self._library: Any = nvimgcodec
        self._device = device
        self._free: list[Any] = []
        if self._encoded(np.zeros((16, 16, 3), np.uint8), 90, "420") is None:
            raise UsageError(f"--gpu-jpeg: nvImageCodec finds nothing that encodes JPEGs on {device}")

    def __call__(self, pixels: NDArray[np.uint8], quality: int, subsampling: str) -> bytes:
        """Encode H x W x 3 (RGB) or H x W (grey).

        Raises:
            DeviceError: the GPU does not work.
        """
        encoded = None
        with suppress(DeviceMemoryError):
            encoded = self._encoded(pixels, quality, subsampling)
        return libjpeg(pixels, quality, subsampling) if encoded is None else encoded

    def _encoded(self, pixels: NDArray[np.uint8], quality: int, subsampling: str) -> bytes | None:
        """Return what the library makes of the pixels, None where it makes nothing."""
        library, is_grey = self._library, pixels.ndim == 2
        params = library.EncodeParams(
            quality_type=library.QualityType.QUALITY,
            quality_value=quality,
            chroma_subsampling=getattr(library.ChromaSubsampling, "CSS_GRAY" if is_grey else f"CSS_{subsampling}"),
        )
        try:
            encoder = self._free_encoder()
            stream = encoder.encode(pixels[:, :, None] if is_grey else pixels, "jpeg", params=params)
            encoded = None if stream is None else bytes(stream)
        except RuntimeError as error:
            raise_device_fault(error)
            return None
        self._free.append(encoder)
        return encoded

    def _free_encoder(self) -> Any:
        """Take an encoder that no call has now, or make one, which works on one thread."""
        with suppress(IndexError):
            return self._free.pop()
        library = self._library
        if self._device == "cpu":
            kind, device = library.CPU_ONLY, library.NVIMGCODEC_DEVICE_CPU_ONLY
        else:
            kind, device = library.HYBRID_CPU_GPU, -1  # how it calls its encoder, and the GPU that this process has
        return library.Encoder(device_id=device, max_num_cpu_threads=1, backends=[library.Backend(kind)])
