"""`sgllie weights show FILE`, `import FILE.pth OUT.safetensors` and `export WEIGHTS OUT.onnx`."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from sgllie.errors import StorageError, UsageError
from sgllie.network import weights
from sgllie.network.architecture import ConvType
from sgllie.network.effect import EffectSettings
from sgllie.network.weights import Weights
from sgllie.runs.words import say
from sgllie.settings import check, check_limits, setting
from sgllie.storage import S3Options, read_file, write_file


@dataclass(frozen=True)
class Show:
    """Show architecture, parameter count, dead layers, origin and fingerprint."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Bundled name, .safetensors or .pth file, or folder of a training run; local or s3://."""
    s3: S3Options = field(default_factory=S3Options)
    """How to reach S3."""

    def carry_out(self) -> Weights:
        """Load the weights."""
        return weights.load(self.file, self.s3)


@dataclass(frozen=True)
class Import:
    """Turn a published SGZ, Zero-DCE or Zero-DCE++ checkpoint into safetensors."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.pth")]
    """The published checkpoint."""
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.safetensors")]
    """Where to write; local or s3://."""
    conv_type: ConvType | None = None
    """Needed only for a checkpoint with dilated convolutions, which look like plain ones."""
    s3: S3Options = field(default_factory=S3Options)
    """How to reach S3."""

    def carry_out(self) -> Weights:
        """Read the checkpoint and write its weights."""
        check(self.target.endswith(".safetensors"), "OUT.safetensors", self.target, "must end in .safetensors")
        try:
            data = read_file(self.source, self.s3)
        except (OSError, StorageError) as error:
            raise UsageError(f"{self.source} cannot be read: {getattr(error, 'strerror', None) or error}") from error
        found = weights.from_checkpoint(data, self.source, self.conv_type)
        weights.save(found, self.target, self.s3)
        return found


@dataclass(frozen=True)
class Export(EffectSettings):
    """Write the whole enhancer, from pixels to pixels, as one ONNX file."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WEIGHTS")]
    """Bundled name, .safetensors or .pth file, or folder of a training run; local or s3://."""
    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUT.onnx")]
    """Where to write; local or s3://."""
    size: str | None = None
    """Height x width of the images, such as 480x640, for what runs only files with fixed sizes; free without it."""
    s3: S3Options = setting(factory=S3Options, changes_output=False)
    """How to reach S3."""

    def __post_init__(self) -> None:
        check_limits(self)
        is_size = self.size is None or re.fullmatch(r"[1-9]\d{0,5}x[1-9]\d{0,5}", self.size)
        check(bool(is_size), "--size", self.size, "must be height x width, such as 480x640")

    def carry_out(self) -> Weights:
        """Load the weights and write the graph around them."""
        from sgllie.network.onnx_enhancer import enhancer_graph

        check(self.target.endswith(".onnx"), "OUT.onnx", self.target, "must end in .onnx")
        found = weights.load(self.source, self.s3)
        height, _, width = (self.size or "").partition("x")
        size = (int(height), int(width)) if self.size else None
        write_file(self.target, enhancer_graph(found, self, size).SerializeToString(), self.s3)
        return found


COMMANDS: dict[str, Callable[..., Show | Import | Export]] = {"show": Show, "import": Import, "export": Export}


def run(arguments: Sequence[str]) -> int:
    """Carry out the command and return its exit code, 0; UsageError where it cannot be carried out."""
    command = tyro.extras.subcommand_cli_from_dict(COMMANDS, args=arguments, prog="sgllie weights")
    say(describe(command.carry_out()))
    return 0


def describe(found: Weights) -> str:
    """Say what these weights are, a line for each fact."""
    return (
        f"architecture  {found.architecture} ({found.conv_type})\n"
        f"parameters    {found.parameter_count:,}\n"
        f"dead layers   {', '.join(found.dead_layers) or 'none'}\n"
        f"origin        {found.origin or 'unknown'}\n"
        f"fingerprint   {found.fingerprint}"
    )
