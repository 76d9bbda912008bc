"""`sgllie weights import FILE.pth OUT.safetensors` and `sgllie weights show FILE`."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import tyro

from sgllie.errors import StorageError, UsageError
from sgllie.network import weights
from sgllie.network.architecture import ConvType
from sgllie.storage import S3Options, open_storage, split_uri


@dataclass(frozen=True)
class Show:
    """Show architecture, parameter count, dead layers, origin and fingerprint."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """Bundled name, .safetensors or .pth file, or folder of a training run; local or s3://."""
    s3: S3Options = field(default_factory=S3Options)
    """How to reach S3."""


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


def run(arguments: Sequence[str]) -> int:
    """Carry out the command and return its exit code, 0; UsageError where it cannot be carried out."""
    commands: dict[str, Callable[..., Import | Show]] = {"import": Import, "show": Show}
    command = tyro.extras.subcommand_cli_from_dict(commands, args=arguments, prog="sgllie weights")
    if isinstance(command, Import):
        if not command.target.endswith(".safetensors"):
            raise UsageError(f"{command.target}: the target must end in .safetensors")
        folder, name = split_uri(command.source)
        try:
            data = open_storage(folder, command.s3).read(name)
        except (OSError, StorageError) as error:
            raise UsageError(f"{command.source} cannot be read: {getattr(error, 'strerror', None) or error}") from error
        found = weights.from_checkpoint(data, command.source, command.conv_type)
        weights.save(found, command.target, command.s3)
    else:
        found = weights.load(command.file, command.s3)
    sys.stdout.write(describe(found))
    return 0


def describe(found: weights.Weights) -> str:
    """Say what these weights are, a line for each fact."""
    return (
        f"architecture  {found.architecture} ({found.conv_type})\n"
        f"parameters    {found.parameter_count:,}\n"
        f"dead layers   {', '.join(found.dead_layers) or 'none'}\n"
        f"origin        {found.origin or 'unknown'}\n"
        f"fingerprint   {found.fingerprint}\n"
    )
