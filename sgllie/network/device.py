"""Where a network is best run, and what is to be made of what a GPU reports."""

from sgllie.errors import DeviceError, DeviceMemoryError

HEAVY = 1000
"""Multiplications for each pixel from which on a core spends more than twice as long on the network as on the codecs.

Zero-DCE at full size was measured to take 1.9 s for a megapixel of one core, some 40 million multiplications for a
millisecond; a JPEG of a megapixel is decoded and encoded in 10 ms.
"""


def pays_on_gpu(parameters: int, scale_factor: int) -> bool:
    """Tell whether a network is so heavy that a GPU pays: else the cores that feed it do the work in passing.

    Args:
        parameters: of the network, each of which is a multiplication for each of its samples.
        scale_factor: there is a sample for so many pixels squared.
    """
    return parameters >= HEAVY * scale_factor**2


def fault_of(report: str) -> DeviceError | DeviceMemoryError | None:
    """Tell what an error of torch or onnxruntime says of the GPU; None where it says nothing.

    DeviceMemoryError means that its memory is full, DeviceError that nothing works on it any more in this process.
    """
    if any(said in report for said in ("out of memory", "ALLOC_FAILED", "Failed to allocate memory")):
        return DeviceMemoryError("the memory of the GPU is full")
    if "CUDA" in report or any(name in report.upper() for name in ("CUDNN", "CUBLAS")):
        return DeviceError(f"the GPU does not work: {report.strip().partition(chr(10))[0]}")
    return None
