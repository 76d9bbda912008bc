"""The settings of a method and of the enhancement job: frozen dataclasses, from which the command line is made."""

import dataclasses
import json
import math
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import tyro

from sgllie.methods import METHODS, MethodName
from sgllie.storage import S3Options, UsageError

OutputFormat = Literal["same", "jpeg", "png", "webp"]
Orientation = Literal["keep", "apply"]


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """Which method enhances, and how: what the jobs have in common."""

    method: MethodName = "sgz"
    """sgz is ours; zero-dce and onnx need --weights; the others need none. The README says what each one does."""
    weights: str | None = None
    """Bundled name, .safetensors or published .pth file, or folder of a training run; local or s3://. onnx: .onnx."""
    scale_factor: int = 12
    """The network looks at one sample for each block of this many pixels squared. Zero-DCE was published with 1."""
    strength: float = 1.0
    """0 leaves images as they are, 1 is the full effect."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """auto takes the GPUs of the cluster if it has any, and if the method can use them (sgz, zero-dce)."""
    half: bool = False
    """Run the network in half precision (CUDA only)."""
    s3: S3Options = field(default_factory=S3Options)
    """How to reach S3."""

    def __post_init__(self) -> None:
        check(self.scale_factor >= 1, "--scale-factor", self.scale_factor, "must be 1 or more")
        check(0 <= self.strength <= 1, "--strength", self.strength, "must lie between 0 and 1")
        method = METHODS[self.method]
        rule = f"must be left out, since --method {self.method} has no weights"
        check(self.weights is None or method.takes_weights, "--weights", self.weights, rule)
        if not method.uses_gpu:
            check(self.device != "cuda", "--device", self.device, f"must be cpu with --method {self.method}")
            object.__setattr__(self, "device", "cpu")  # what `auto` means here; no GPU is to be asked of the cluster
        if self.half:
            check(self.device != "cpu", "--half", "on", "needs --device cuda")
            object.__setattr__(self, "device", "cuda")


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """How a job runs over the cluster: what all have in common that work through a manifest."""

    limit: int | None = None
    """Take only the first so many files of the input."""
    num_actors: int | None = None
    """Worker processes; by default one for each CPU, or for each GPU."""
    max_failures: str | None = None
    """Stop when more than this have failed: a count (100) or a share (2%)."""
    overwrite: bool = False
    """Remove an earlier result first."""
    dry_run: bool = False
    """Say what would be done, write nothing."""
    address: str | None = None
    """Address of a Ray cluster (auto: the one this machine belongs to); by default a local one is started."""

    def __post_init__(self) -> None:
        check_counts(self, "num_actors", "limit")
        failures_allowed(self.max_failures, 1)


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(JobSettings, MethodSettings):
    """What the jobs that enhance have in common."""

    input: str
    output: str
    threads: int = 2
    retry_failed: bool = False
    """Run only what a row says has failed, and replace these rows."""

    def __post_init__(self) -> None:
        MethodSettings.__post_init__(self)
        JobSettings.__post_init__(self)
        check(bool(self.input), "IN", "empty", "must name a folder or s3://bucket/prefix")
        check(bool(self.output), "OUT", "empty", "must name a folder or s3://bucket/prefix")
        check_counts(self, "threads")

    @property
    def outcome(self) -> dict[str, Any]:
        """The settings that change what is written; a run can be resumed only with the same ones."""
        names = "method weights scale_factor strength half limit"
        return {name: getattr(self, name) for name in names.split()}


@dataclass(frozen=True)
class EnhanceSettings(CorpusSettings):
    """Brighten every image of a folder, bucket or list, and write one row of statistics for each.

    The same command again goes on where it was stopped.
    """

    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """Folder, s3://bucket/prefix, glob in quotes, one image, or a list (.txt, or .csv, .jsonl, .parquet with a
    column `path`)."""
    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """Folder or s3://bucket/prefix that becomes images/, stats/, manifest/, run.json and _SUCCESS."""

    only_darker_than: float | None = None
    """Copy images whose mean luminance (0 black, 1 white) is this or more, byte for byte."""
    format: OutputFormat = "same"
    """Format of the output images."""
    quality: int = 95
    """JPEG and WebP quality, 1 to 100."""
    exif_orientation: Orientation = "keep"
    """keep: pixels and orientation tag stay as they are, so that labels still fit; apply: rotate the pixels."""
    max_pixels: int = 178_000_000
    """Larger images are recorded as failed instead of decoded."""
    threads: int = 2
    """Images that one worker decodes, enhances and encodes at the same time."""
    shard_images: int = 1000
    """Images that are committed together, at most."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(1 <= self.quality <= 100, "--quality", self.quality, "must lie between 1 and 100")
        check_counts(self, "shard_images", "max_pixels")
        if self.only_darker_than is not None:
            value = self.only_darker_than
            check(0 <= value <= 1, "--only-darker-than", value, "must lie between 0 (black) and 1 (white)")

    @property
    def outcome(self) -> dict[str, Any]:
        """The settings that change what is written."""
        names = "only_darker_than format quality exif_orientation max_pixels"
        return super().outcome | {name: getattr(self, name) for name in names.split()}


def check(fine: bool, option: str, value: object, rule: str) -> None:
    """Raise the sentence for a bad option."""
    if not fine:
        raise UsageError(f"{option} is {value}; it {rule}")


def option(name: str) -> str:
    """The setting `loss.patch_size` as it stands on the command line: `--loss.patch-size`."""
    return "--" + name.replace("_", "-")


def check_counts(settings: object, *names: str) -> None:
    """Raise the sentence for the first of these settings that is below 1; None is no number, and fine."""
    for name in names:
        value = getattr(settings, name)
        check(value is None or value >= 1, option(name), value, "must be 1 or more")


def failures_allowed(limit: str | None, images: int) -> float:
    """How many of `images` may fail: all without a limit, a count such as `100`, or a share such as `2%`."""
    if limit is None:
        return float("inf")
    try:
        allowed = float(limit[:-1]) / 100 * images if limit.endswith("%") else float(int(limit))
    except ValueError:
        allowed = -1
    check(0 <= allowed < math.inf, "--max-failures", limit, "must be a count such as 100 or a share such as 2%")
    return allowed


def as_json(settings: EnhanceSettings) -> str:
    """The settings as an indented JSON object."""
    return json.dumps(dataclasses.asdict(settings), indent=2)
