"""Limits of the settings of a training."""

import math
from dataclasses import replace

import pytest

from sgllie.errors import UsageError
from sgllie.settings import flat_fields, option
from sgllie.train.settings import (
    DarkeningSettings,
    ImageSettings,
    LossSettings,
    TrainSettings,
)
from trainings import settings

LIMITS = {
    name: (-math.inf if least is None else least, math.inf if most is None else most)
    for name, _, field in flat_fields(settings())
    for least, most in [field.metadata.get("limits", (None, None))]
    if least is not most
}


def test_every_number_of_the_settings_has_a_limit():
    numbers = {name for name, value, _ in flat_fields(settings()) if type(value) in (int, float)}
    assert numbers <= set(LIMITS)


@pytest.mark.parametrize("name", LIMITS)
def test_numbers_outside_their_limits_are_one_sentence(name):
    least, most = LIMITS[name]
    for value in (least - 1e-7 - abs(least), most * 2 + 1, math.nan):
        if abs(value) < math.inf or value != value:
            with pytest.raises(UsageError, match=f"{option(name)} is .*; it must"):
                changed(name, value)


def changed(name: str, value: float) -> TrainSettings:
    """Settings with another value of one option, named as in `flat_fields`."""
    group, _, field = name.rpartition(".")
    return settings(**({group: replace(getattr(settings(), group), **{field: value})} if group else {field: value}))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"loss": LossSettings(patch_size=65)}, r"--loss.patch-size is 65; it must fit into the images \(64 pixels\)"),
        ({"loss": LossSettings(0, 0, 0, 0, 0, 0)}, "the weight of another term must be above 0"),
        ({"darkening": DarkeningSettings(darkest=0.9)}, "must not be above the brightest"),
        ({"darkening": DarkeningSettings(bright_share=0.5, bracket_share=0.5)}, "must be below 1 with the other share"),
        ({"darkening": DarkeningSettings(least_gamma=2)}, "must not be above the greatest"),
        ({"images": ImageSettings(size=64, crop=96)}, r"must not be above --images.size \(64\)"),
        ({"images": ImageSettings(inference_scale=12)}, "--images.inference-scale is 12; it needs --images.crop"),
        ({"loss": LossSettings(reconstruction=1)}, "--darkening.stops is 0.0; it must be above 0"),
    ],
)
def test_settings_that_do_not_fit_together_are_one_sentence(changes, sentence):
    with pytest.raises(UsageError, match=sentence):
        settings(**changes)
