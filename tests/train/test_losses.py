"""The training terms against published values, and at the images where a careless formula gives NaN."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from golden import load, loss_inputs
from sgllie.train.losses import (
    ColourConstancy,
    ExposureControl,
    FocalLoss,
    Reconstruction,
    SpatialConsistency,
    TotalVariation,
)


@pytest.fixture(scope="module")
def golden():
    """Published values, and what they were computed of."""
    published = {name: torch.from_numpy(np.asarray(value)) for name, value in load("losses").items()}
    return published | loss_inputs()


@pytest.mark.parametrize("name", ["original", "enhanced", "factor", "logits"])
def test_the_inputs_are_those_of_the_published_values(golden, name):
    """They are drawn anew, and would not be if torch drew other numbers."""
    torch.testing.assert_close(golden[name].flatten()[:32], golden[f"first_{name}"], rtol=1e-5, atol=1e-6)


def close(found, expected):
    torch.testing.assert_close(found, expected.to(found.dtype), rtol=1e-5, atol=1e-9)


def test_total_variation(golden):
    close(TotalVariation()(golden["factor"]), golden["tv"])


@pytest.mark.parametrize("patch", [3, 4, 5])
def test_spatial_consistency_with_eight_neighbours(golden, patch):
    found = SpatialConsistency(patch).map(golden["enhanced"], golden["original"])
    close(found, golden[f"spatial8_patch{patch}_map"])
    close(
        SpatialConsistency(patch)(golden["enhanced"], golden["original"]), golden[f"spatial8_patch{patch}_map"].mean()
    )


def test_spatial_consistency_with_four_neighbours(golden):
    close(SpatialConsistency(4, neighbours=4).map(golden["enhanced"], golden["original"]), golden["spatial4_map"])


def test_colour_constancy(golden):
    close(ColourConstancy().per_image(golden["enhanced"]), golden["color_per_image"].flatten())


@pytest.mark.parametrize("level", [0.5, 0.6, 0.7])
def test_exposure_control(golden, level):
    close(ExposureControl()(golden["enhanced"], level), golden[f"exposure16_{level}"])


def test_exposure_control_with_a_level_for_each_image(golden):
    images = golden["enhanced"]
    levels = torch.tensor([0.3, 0.7]).reshape(2, 1, 1, 1)
    alone = [ExposureControl()(image[None], float(level)) for image, level in zip(images, levels, strict=True)]
    close(ExposureControl()(images, levels), torch.stack(alone).mean())


def test_reconstruction_is_a_tenth_of_the_decibels_above_the_floor():
    """An image that is right, one with 9 times the error of the floor, and one with 99 times: no, 9.5 and 20 dB."""
    targets = torch.zeros(3, 3, 16, 24)
    enhanced = torch.tensor([0, 9e-3, 99e-3]).sqrt().reshape(3, 1, 1, 1).expand_as(targets)
    close(Reconstruction()(enhanced, targets), torch.tensor((0 + 1 + 2) / 3))
    one = enhanced.clone()
    one[..., ::2] *= -1  # the error counts, not its sign, and the mean over all pixels of the image
    close(Reconstruction()(one, targets), torch.tensor(1.0))


def test_reconstruction_has_no_gradient_where_nothing_is_wrong():
    image = torch.rand(2, 3, 8, 8, requires_grad=True)
    Reconstruction()(image, image.detach()).backward()
    assert not image.grad.any()


def test_focal_loss_of_its_own_labels(golden):
    close(FocalLoss()(golden["logits"]), golden["focal_gamma2_selftarget"])


@pytest.mark.parametrize("level", [0.0, 0.25, 0.6, 1.0])
def test_terms_and_gradients_are_finite_on_flat_images(level):
    image = torch.full((2, 3, 32, 48), level, requires_grad=True)
    original = torch.full((2, 3, 32, 48), level / 2)
    total = (
        TotalVariation()(image)
        + SpatialConsistency()(image, original)
        + ColourConstancy()(image)
        + ExposureControl()(image, 0.6)
        + Reconstruction()(image, original)
    )
    total.backward()
    assert torch.isfinite(total)
    assert torch.isfinite(image.grad).all()


@pytest.mark.parametrize("scale", [0.0, 1.0, 1000.0])
def test_focal_loss_is_finite_from_undecided_to_certain(scale):
    logits = (torch.randn(2, 5, 4, 4, generator=torch.Generator().manual_seed(0)) * scale).requires_grad_()
    loss = FocalLoss()(logits)
    loss.backward()
    assert loss >= 0
    assert torch.isfinite(logits.grad).all()


@given(st.integers(1, 4), st.integers(17, 40), st.integers(17, 40), st.integers(0, 2**16))
def test_mean_over_two_halves_is_the_loss_of_the_batch(half, height, width, seed):
    """What lets two workers train as one does."""
    generator = torch.Generator().manual_seed(seed)
    original, enhanced = torch.rand(2, 2 * half, 3, height, width, generator=generator, dtype=torch.float64)
    terms = [
        lambda part: TotalVariation()(enhanced[part]),
        lambda part: SpatialConsistency()(enhanced[part], original[part]),
        lambda part: ColourConstancy()(enhanced[part]),
        lambda part: ExposureControl()(enhanced[part], 0.6),
        lambda part: Reconstruction()(enhanced[part], original[part]),
        lambda part: FocalLoss()(enhanced[part]),
    ]
    for term in terms:
        parts = (term(slice(0, None, 2)) + term(slice(1, None, 2))) / 2
        torch.testing.assert_close(parts, term(slice(None)))
