"""The settings of a method: which one enhances, with which weights, how strongly, and where."""

from dataclasses import dataclass
from typing import Literal

from sgllie.methods.registry import METHODS, MethodName
from sgllie.network.device import pays_on_gpu
from sgllie.network.effect import EffectSettings
from sgllie.settings import check, check_limits, setting
from sgllie.storage import S3Options

Device = Literal["auto", "cpu", "cuda"]


@dataclass(frozen=True, kw_only=True)
class MethodSettings(EffectSettings):
    """Which method enhances, and how."""

    method: MethodName = "sgz"
    """sgz is ours; zero-dce and onnx need --weights; the others need none. docs/methods.md says what each one does."""
    # What they hold changes the output, not where they lie: run.json has their fingerprint.
    weights: str | None = setting(None, changes_output=False)
    """Bundled name, .safetensors or published .pth file, or folder of a training run; local or s3://. onnx: .onnx."""
    device: Device = setting("auto", changes_output=False)
    """auto takes the GPUs of the cluster, if it has any, where the network is heavy: sgz with a scale factor of 3 or
    less, zero-dce with one of 8 or less. Everything else runs faster on the CPUs that would otherwise feed the GPUs.
    How heavy the network of onnx is cannot be known: it runs on GPUs only with cuda."""
    denoise: bool = False
    """Keep the noise of the input from being amplified (sgz and zero-dce). Images without noise come out nearly the
    same."""
    half: bool = False
    """Run the network in half precision (CUDA only)."""
    s3: S3Options = setting(factory=S3Options, changes_output=False)
    """How to reach S3."""

    def __post_init__(self) -> None:
        check_limits(self)
        method = METHODS[self.method]
        rule = f"must be left out, since --method {self.method} has no weights"
        check(self.weights is None or method.takes_weights, "--weights", self.weights, rule)
        rule = f"must be left out with --method {self.method}; sgz and zero-dce have it"
        check(not self.denoise or method.module == "learned", "--denoise", "on", rule)
        if not method.uses_gpu:
            check(self.device != "cuda", "--device", self.device, f"must be cpu with --method {self.method}")
        if self.half:
            check(self.device != "cpu", "--half", "on", "needs --device cuda")
            check(method.parameters > 0, "--half", "on", f"must be left out with --method {self.method}")
            object.__setattr__(self, "device", "cuda")
        if self.device == "auto" and not pays_on_gpu(method.parameters, self.scale_factor):
            object.__setattr__(self, "device", "cpu")  # no GPU is to be asked of the cluster

    @property
    def loads_torch(self) -> bool:
        """Whether a process that enhances imports torch: on a GPU, and to read published weights."""
        return self.device == "cuda" or (self.weights or "").endswith(".pth")
