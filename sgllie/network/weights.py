"""Weights of a network: load, save, inspect, and import from published checkpoints.

A weights file is safetensors with the metadata that is needed to rebuild the network: `architecture`, `conv_type`,
`origin`. Nothing here imports torch unless a `.pth` file is read, and those are read with `weights_only=True`.
"""

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as read_tensors
from safetensors.numpy import save as write_tensors

from sgllie.errors import StorageError, UsageError
from sgllie.network.architecture import ARCHITECTURES, CONV_TYPES, ConvType, parameter_shapes
from sgllie.storage import S3Options, read_file, write_file

BUNDLED = Path(__file__).parent / "pretrained"
DEFAULT = "sgllie"

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Weights:
    """The tensors of one network and what they are.

    Attributes:
        architecture: a key of `architecture.ARCHITECTURES`.
        conv_type: `dsc`, `tc` or `dc`.
        tensors: name -> float32 array, named as in `model`.
        origin: where they come from, in a few words.
    """

    architecture: str
    conv_type: ConvType
    tensors: Tensors = field(repr=False)
    origin: str = ""

    @property
    def fingerprint(self) -> str:
        """The first 16 hex digits of a SHA-256 over architecture, names, shapes and values."""
        digest = hashlib.sha256(f"{self.architecture} {self.conv_type}".encode())
        for name in sorted(self.tensors):
            digest.update(f"{name} {self.tensors[name].shape}".encode())
            digest.update(self.tensors[name].astype("<f4").tobytes())
        return digest.hexdigest()[:16]

    @property
    def parameter_count(self) -> int:
        """The number of values in all tensors."""
        return sum(tensor.size for tensor in self.tensors.values())

    @property
    def dead_layers(self) -> list[str]:
        """Layers whose output no longer depends on their input: all weights of one of their convolutions are zero."""
        return sorted(
            name.removesuffix(".weight")
            for name, tensor in self.tensors.items()
            if name.endswith(".weight") and not tensor.any()
        )


def load(name: str, s3: S3Options | None = None) -> Weights:
    """Load weights, denormal values flushed to zero.

    Args:
        name: the name of bundled weights (`sgllie`), a `.safetensors` or published `.pth` file, or the folder of a
            training run (its best weights are taken); files and folders may be local or `s3://`.
        s3: how to reach S3.

    Raises:
        UsageError: there is no such file, or it holds no weights of a known network.
    """
    bundled = BUNDLED / f"{name}.safetensors"
    if bundled.is_file():
        return from_bytes(bundled.read_bytes(), str(name))
    uri = name.rstrip("/")
    if not uri.endswith((".safetensors", ".pth")):
        uri += "/weights/best.safetensors"
    try:
        data = read_file(uri, s3)
    except (OSError, StorageError) as error:
        known = ", ".join(sorted(path.stem for path in BUNDLED.glob("*.safetensors")))
        raise UsageError(
            f"weights {name!r} cannot be read: {error}; give a bundled name ({known}), a .safetensors or .pth file, "
            "or the folder of a training run"
        ) from error
    return from_checkpoint(data, uri) if uri.endswith(".pth") else from_bytes(data, uri)


def from_bytes(data: bytes, source: str) -> Weights:
    """Read weights from the bytes of a safetensors file; UsageError, with `source` as its name, where it is another."""
    try:
        tensors = read_tensors(data)
        metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        architecture, conv_type = metadata["architecture"], metadata["conv_type"]
    except (SafetensorError, KeyError, ValueError) as error:
        raise UsageError(f"{source} is not a weights file of this project (safetensors with metadata)") from error
    return checked(Weights(architecture, conv_type, flushed(tensors), metadata.get("origin", "")), source)


def to_bytes(weights: Weights) -> bytes:
    """Return the safetensors file of these weights, with their metadata."""
    tensors = {name: np.ascontiguousarray(tensor) for name, tensor in weights.tensors.items()}
    metadata = {"architecture": weights.architecture, "conv_type": weights.conv_type, "origin": weights.origin}
    return write_tensors(tensors, metadata)


def save(weights: Weights, uri: str, s3: S3Options | None = None) -> None:
    """Write weights to a local or `s3://` safetensors file, atomically."""
    write_file(uri, to_bytes(weights), s3)


def from_checkpoint(data: bytes, source: str, conv_type: ConvType | None = None) -> Weights:
    """Read weights from the bytes of a published SGZ, Zero-DCE or Zero-DCE++ checkpoint (a pickled state dict).

    Args:
        data: the `.pth` file; only tensors are unpickled, never code.
        source: names the file in errors and as the origin.
        conv_type: needed only to tell `dc` from `tc`, whose tensors have equal shapes.
    """
    import torch

    try:
        refuse_inflated(data)
        state = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
        shapes = {name.removeprefix("module."): tuple(tensor.shape) for name, tensor in state.items()}
        separable = "e_conv1.depth_conv.weight" in shapes
        last = shapes["e_conv7.point_conv.weight" if separable else "e_conv7.weight"]
        architecture = "zero-dce" if last[0] == 24 else "sgz"
        conv_type = conv_type or ("dsc" if separable else "tc")
        # Before anything is copied: a tensor that is one value, repeated, may have more elements than there is memory.
        check_shapes(architecture, conv_type, shapes, source)
        tensors = {name.removeprefix("module."): tensor.float().numpy() for name, tensor in state.items()}
    except UsageError:
        raise
    except Exception as error:  # whatever torch raises for the bytes of something else
        raise UsageError(
            f"{source} is not a checkpoint of SGZ or Zero-DCE (a state dict of e_conv1 .. e_conv7)"
        ) from error
    return checked(Weights(architecture, conv_type, flushed(tensors), Path(source).name), source)


def refuse_inflated(data: bytes) -> None:
    """Raise ValueError for a zip archive whose files are larger than it: torch would unpack them, and packs none."""
    if zipfile.is_zipfile(io.BytesIO(data)):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(file.file_size for file in archive.infolist()) > len(data):
                raise ValueError("its files are compressed")


def flushed(tensors: Tensors) -> Tensors:
    """Return the tensors with denormal values set to zero: convolutions on them are 4 to 10 times slower on a CPU."""
    smallest = np.finfo(np.float32).tiny
    return {name: np.where(np.abs(tensor) < smallest, np.float32(0), tensor) for name, tensor in tensors.items()}


def check_shapes(architecture: str, conv_type: str, found: dict[str, tuple[int, ...]], source: str) -> None:
    """Raise UsageError unless these are the tensors, by name and shape, of a network that is known."""
    if architecture not in ARCHITECTURES or conv_type not in CONV_TYPES:
        raise UsageError(f"{source} is of an unknown architecture: {architecture} ({conv_type})")
    expected = parameter_shapes(architecture, conv_type)
    if expected != found:
        wrong = min(name for name, _ in expected.items() ^ found.items())
        raise UsageError(f"{source} does not fit {architecture} ({conv_type}): see tensor {wrong!r}")


def checked(weights: Weights, source: str) -> Weights:
    """Return the same weights, if every tensor of their network is there in its shape and every value is finite."""
    found = {name: tensor.shape for name, tensor in weights.tensors.items()}
    check_shapes(weights.architecture, weights.conv_type, found, source)
    if not all(np.isfinite(tensor).all() for tensor in weights.tensors.values()):
        raise UsageError(f"{source} holds values that are not finite: the training that made it has collapsed")
    return weights
