"""The networks and the curve: exact cases, and the published networks."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from golden import NETWORKS, dark_image, golden_weights, load
from golden.make import PARITY, TESTS
from sgllie.network import model, weights
from sgllie.network.architecture import CONV_TYPES, parameter_shapes


@pytest.mark.parametrize(
    ("factor", "expected"),
    [(0.0, lambda x: x), (-1.0, lambda x: 1 - (1 - x) ** 256), (1.0, lambda x: x**256)],
)
def test_curve_has_closed_forms(factor, expected):
    x = torch.linspace(0, 1, 101, dtype=torch.float64).expand(1, 3, 1, 101)
    assert_close(model.curve(x, torch.full_like(x, factor)), expected(x))


def test_curve_takes_one_map_for_each_step():
    x = torch.rand(1, 3, 4, 5)
    maps = torch.rand(1, 24, 4, 5) - 0.5
    expected = x
    for step in range(8):
        expected = expected + maps[:, 3 * step : 3 * step + 3] * (expected**2 - expected)
    assert_close(model.curve(x, maps), expected)


@pytest.mark.parametrize(("conv_type", "count"), [("dsc", 10_561), ("tc", 79_416 - 21 * (64 * 9 + 1)), ("dc", 67_299)])
def test_parameter_counts(conv_type, count):
    network = model.FactorNetwork("sgz", conv_type)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    assert {name: tuple(p.shape) for name, p in network.named_parameters()} == parameter_shapes("sgz", conv_type)


def test_zero_dce_has_its_published_size():
    assert sum(p.numel() for p in model.FactorNetwork("zero-dce", "tc").parameters()) == 79_416


@pytest.mark.parametrize("conv_type", CONV_TYPES)
@pytest.mark.parametrize("scale_factor", [1, 4, 12])
@pytest.mark.parametrize("size", [(1, 1), (13, 11), (24, 36), (37, 2)])
def test_any_size_keeps_its_shape(conv_type, scale_factor, size):
    x = torch.rand(2, 3, *size)
    enhanced, factor = model.EnhancementModel(model.FactorNetwork("sgz", conv_type), scale_factor)(x)
    assert enhanced.shape == factor.shape == x.shape
    assert 0 <= enhanced.min() <= enhanced.max() <= 1


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="conv_type is 'x'; choose one of dsc, tc, dc"):
        model.FactorNetwork("sgz", "x")
    with pytest.raises(ValueError, match="architecture is 'x'"):
        model.FactorNetwork("x")


@pytest.mark.parametrize(("architecture", "conv_type", "scale_factor"), NETWORKS)
def test_networks_give_their_golden_values(architecture, conv_type, scale_factor):
    golden = load("network")
    network = model.network_from(golden_weights(architecture, conv_type))
    name = f"{architecture}_{conv_type}_{scale_factor}"
    height, width, _ = golden[f"{name}_enhanced"].shape
    x = torch.from_numpy(dark_image(height, width)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        both = model.EnhancementModel(network, scale_factor)(x)
    for found, kind in zip(both, ("enhanced", "factor"), strict=True):
        assert_close(found[0].permute(1, 2, 0), torch.from_numpy(golden[f"{name}_{kind}"]), atol=2e-5, rtol=0)


@pytest.mark.parametrize("scale_factor", [1, 4, 12])
def test_published_sgz(shared, scale_factor):
    golden = np.load(shared / "reference/golden_model.npz")
    network = model.network_from(weights.load(str(shared / "reference/sgz_Epoch99.pth")))
    x = torch.from_numpy(golden["input_u8"]).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        enhanced, factor = model.EnhancementModel(network, scale_factor)(x)
    for found, name in ((enhanced, "enhanced"), (factor, "factor")):
        expected = torch.from_numpy(golden[f"scale{scale_factor}_{name}"])
        assert_close(found[0].permute(1, 2, 0), expected, atol=1e-6, rtol=0)


def test_published_zero_dce(shared):
    golden = np.load(shared / "reference/golden_zero_dce.npz")
    network = model.network_from(weights.load(str(shared / "reference/zero_dce_Epoch99.pth")))
    x = torch.from_numpy(golden["input_u8"]).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        enhanced, curves = model.EnhancementModel(network)(x)
    assert_close(enhanced[0].permute(1, 2, 0), torch.from_numpy(golden["enhanced"]), atol=1e-6, rtol=0)
    assert_close(curves[0].permute(1, 2, 0), torch.from_numpy(golden["curves"]), atol=1e-6, rtol=0)


@pytest.mark.parametrize("place", PARITY)
def test_golden_files_are_made_after_tests_that_exist(place):
    file, name = place.split("::")
    assert f"def {name}(" in (TESTS / file).read_text()
