"""The devices that tests of torch run on: the CPU, and a GPU where there is one."""

import pytest
import torch

from places import HOOKS

CUDA = pytest.param(
    "cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")]
)
on_each_device = pytest.mark.parametrize("device", ["cpu", CUDA])


def taken_for_gpu(device: str) -> dict[str, str]:
    """The environment in which `--device cuda` of a command is this device: the CPU only pretends to be a GPU."""
    pretended = {"PYTHONPATH": HOOKS, "PRETEND_CUDA": "yes", "RAY_OVERRIDE_RESOURCES": '{"GPU": 1}'}
    return {} if device == "cuda" else pretended
