"""Which methods there are. To add one: a file of this folder with `make(settings)`, and a line here."""

from dataclasses import dataclass
from typing import Literal

MethodName = Literal["sgz", "zero-dce", "lime", "pie", "msrcr", "clahe", "gamma", "onnx"]


@dataclass(frozen=True)
class MethodInfo:
    """What must be known of a method before it is made.

    Attributes:
        module: the file of this folder that makes it. It is imported then and not before, since the driver of a job
            makes none, and would wait for the libraries that it needs.
        takes_weights: whether it has weights, in a file that `--weights` may name.
        uses_gpu: whether it can run on CUDA.
        parameters: of its network, which tell what it costs (see `network.device`); 0 where it has none of ours.
        pixel_bytes: of memory that it was measured to need for each pixel, beyond what `sgz` needs.
        sample_bytes: the same for each sample that a network looks at. What an `onnx` file needs is not known; it is
            taken to be as much as for sgz with a sample for each pixel.
        has_level: whether it finds a level in all of an image, by which images that share it come out alike; a network
            only if its architecture has a global term. Not msrcr: its wide blurs matter more than its stretch.
    """

    module: str
    takes_weights: bool = False
    uses_gpu: bool = False
    parameters: int = 0
    pixel_bytes: float = 0
    sample_bytes: float = 0
    has_level: bool = False


METHODS: dict[MethodName, MethodInfo] = {
    "sgz": MethodInfo(
        "learned", takes_weights=True, uses_gpu=True, parameters=10_561, sample_bytes=560, has_level=True
    ),
    "zero-dce": MethodInfo("learned", takes_weights=True, uses_gpu=True, parameters=79_416, sample_bytes=910),
    "lime": MethodInfo("lime", pixel_bytes=30),
    "pie": MethodInfo("pie", pixel_bytes=37),
    "msrcr": MethodInfo("msrcr", pixel_bytes=57),
    "clahe": MethodInfo("clahe", pixel_bytes=26),
    "gamma": MethodInfo("gamma", pixel_bytes=24, has_level=True),
    "onnx": MethodInfo("onnx_file", takes_weights=True, uses_gpu=True, pixel_bytes=560),
}
