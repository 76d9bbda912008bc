"""The settings of `sgllie compare`: one frozen dataclass, from which the command line is made."""

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, cast

import tyro

from sgllie.evaluate.settings import MeasuringSettings
from sgllie.methods import METHODS, MethodName, MethodSettings
from sgllie.methods.settings import Device
from sgllie.network.architecture import SCALE_FACTOR
from sgllie.settings import check, setting, split_names

INPUT = "input"
"""What the images themselves are called among the methods."""


@dataclass(frozen=True, kw_only=True)
class CompareSettings(MeasuringSettings):
    """Run several methods on the same images, and measure what each makes of them and how long it takes.

    One row for each image and method, and one page to look at. The same command again goes on where it was stopped.
    """

    input: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="IN")]
    """Folder, s3://bucket/prefix, glob in quotes, one image, or a list."""
    output: Annotated[str, tyro.conf.arg(name="out", metavar="TABLE")] = setting(changes_output=False)
    """Folder or s3://bucket/prefix that becomes stats/, summary.csv, summary.json and compare.html."""
    methods: str = "sgz,lime,clahe,gamma"
    """Names as for --method of sgllie enhance, separated by commas; NAME=FILE for one with weights
    (zero-dce=zero_dce.pth, onnx=kind.onnx). The images themselves are measured too."""
    scale_factor: int = setting(SCALE_FACTOR, least=1)
    """The network of sgz and zero-dce looks at one sample for each block of this many pixels squared."""
    shown: int = setting(6, least=0)
    """How many images the page shows."""
    device: Device = setting("auto", changes_output=False)
    """auto takes the GPUs of the cluster, if it has any, where one of the networks is heavy: see sgllie enhance."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(split_names(self.methods)), "--methods", self.methods or "empty", "must name a method")
        for one in split_names(self.methods):
            name, has_weights, _ = one.partition("=")
            check(
                name in METHODS, "--methods", self.methods, f"may hold {', '.join(METHODS)}; {name!r} is none of them"
            )
            takes_weights = METHODS[cast(MethodName, name)].takes_weights
            check(
                takes_weights or not has_weights, "--methods", self.methods, f"names weights for {name}, which has none"
            )
        methods = self._methods()
        if "auto" not in {chosen.device for _, chosen in methods} and self.device == "auto":
            object.__setattr__(self, "device", "cpu")  # no method needs a GPU
        labels = [label for label, _ in methods]
        check(len(set(labels)) == len(labels), "--methods", self.methods, "must not name one twice")

    def _methods(self) -> list[tuple[str, MethodSettings]]:
        found = []
        for one in split_names(self.methods):
            name, _, weights = one.partition("=")
            method = cast(MethodName, name)
            device = self.device if METHODS[method].uses_gpu else "cpu"
            label = f"{name}:{PurePosixPath(weights).stem}" if weights else name
            settings = MethodSettings(
                method=method, weights=weights or None, scale_factor=self.scale_factor, device=device, s3=self.s3
            )
            found.append((label, settings))
        return found

    @property
    def method_settings(self) -> dict[str, MethodSettings]:
        """Return the settings of each method, by what it is called in the rows: name, and file of weights."""
        return dict(self._methods())
