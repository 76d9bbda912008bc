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
        uses_gpu: whether it can run on CUDA; the others run on the CPU.
    """

    module: str
    takes_weights: bool = False
    uses_gpu: bool = False


METHODS: dict[MethodName, MethodInfo] = {
    "sgz": MethodInfo("learned", takes_weights=True, uses_gpu=True),
    "zero-dce": MethodInfo("learned", takes_weights=True, uses_gpu=True),
    "lime": MethodInfo("lime"),
    "pie": MethodInfo("pie"),
    "msrcr": MethodInfo("msrcr"),
    "clahe": MethodInfo("clahe"),
    "gamma": MethodInfo("gamma"),
    "onnx": MethodInfo("onnx_file", takes_weights=True),
}
