"""Steps, schedule and validation of a training, in one process and without Ray."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from devices import on_each_device
from golden import golden_weights, load, training_batch
from sgllie.errors import CollapseError, UsageError
from sgllie.network import weights as weights_module
from sgllie.network.model import EnhancementModel, FactorNetwork, network_from
from sgllie.train.settings import (
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    TrainSettings,
)
from sgllie.train.train_step import Batch, Objective, TrainStep, learning_rate, set_up_torch
from sgllie.train.validation import collapse, examine, merge
from trainings import batches, settings


@pytest.fixture
def as_in_training():
    """Have torch compute as in a training process."""
    threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
    set_up_torch(threads=1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.allow_tf32 = tf32


def on(device, batch):
    """The batch on a device."""
    return Batch(batch.images.to(device))


@on_each_device
def test_five_steps_follow_the_golden_training(as_in_training, device):
    """From weights and images that are drawn: what the published recipe came to when it was last held against SGZ's."""
    golden = load("training")
    train_step = TrainStep(settings(), 5, device)
    of_terms, of_one, of_all = {"cpu": (1e-4, 1e-3, 5e-6), "cuda": (1e-3, 1e-2, 1e-4)}[device]
    drawn = golden_weights("sgz", "dsc").tensors
    train_step.network.load_state_dict({name: torch.from_numpy(value) for name, value in drawn.items()})
    for step in range(5):
        terms = train_step.step(on(device, Batch(torch.from_numpy(training_batch()))))
        np.testing.assert_allclose(list(terms.values()), golden["terms"][step], rtol=of_terms)
    after = train_step.weights().tensors
    away = np.concatenate([np.abs(value - golden[f"after/{name}"]).ravel() for name, value in after.items()])
    # Adam makes a whole step, 1e-3, of a gradient that is hardly more than rounding; few weights have one.
    assert away.max() < of_one
    assert away.mean() < of_all


@pytest.mark.jobs
def test_five_steps_follow_the_published_training(shared):
    golden = np.load(shared / "reference/golden_training.npz")
    train_step = TrainStep(settings(), total_steps=5)
    initial = {name[5:]: torch.from_numpy(golden[name]) for name in golden if name.startswith("init/")}
    train_step.network.load_state_dict(initial)
    for step in range(5):
        terms = train_step.step(Batch(torch.from_numpy(golden["batch"])))
        assert list(terms) == ["total_variation", "spatial", "colour", "exposure"]
        np.testing.assert_allclose(list(terms.values()), golden["loss_tv_spatial_color_exposure"][step], rtol=1e-4)
        np.testing.assert_allclose(sum(terms.values()), golden["loss_total"][step], rtol=1e-4)
    for name, value in train_step.network.state_dict().items():
        np.testing.assert_allclose(value.numpy(), golden[f"after5/{name}"], atol=2e-4)


@on_each_device
def test_a_restored_train_step_takes_the_same_steps(as_in_training, device):
    options = settings(
        optimiser=OptimiserSettings(schedule="cosine", warmup_steps=2, ema_decay=0.9, decoupled_decay=True)
    )
    data = [on(device, batch) for batch in batches(6)]
    first = TrainStep(options, 6, device)
    for batch in data[:3]:
        first.step(batch)
    second = TrainStep(replace(options, seed=7), 6, device)
    second.load_state(first.state(), first.steps)
    away = {"cpu": 0, "cuda": 1e-3}[device]  # the sums of a GPU may come in another order each time
    for batch in data[3:]:
        assert first.step(batch) == pytest.approx(second.step(batch), rel=away, abs=0)
    for name, value in first.state().items():
        np.testing.assert_allclose(value, second.state()[name], rtol=0, atol=10 * away)


def test_halves_of_a_batch_give_the_gradient_of_the_whole():
    """What makes two workers one: the mean of their gradients."""
    whole = batches(1, size=4)[0]
    gradients = []
    for parts in ([slice(None)], [slice(0, None, 2), slice(1, None, 2)]):
        train_step = TrainStep(settings(), total_steps=1)
        total = torch.zeros(())
        for part in parts:
            batch = Batch(whole.images[part])
            total = total + sum(train_step.objective(batch, *train_step.model(batch.images)).values()) / len(parts)
        total.backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in train_step.network.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_the_seed_alone_decides_the_initial_weights():
    first, again, other = (TrainStep(settings(seed=seed), 1).weights().fingerprint for seed in (1, 1, 2))
    assert first == again != other


def test_training_goes_on_from_given_weights(tmp_path):
    trained = TrainStep(settings(), 1)
    trained.step(batches(1)[0])
    weights_module.save(trained.weights(), str(tmp_path / "w.safetensors"))
    network = NetworkSettings(initial_weights=str(tmp_path / "w.safetensors"))
    assert TrainStep(settings(network=network, seed=3), 1).weights().fingerprint == trained.weights().fingerprint


def test_average_follows_the_weights():
    train_step = TrainStep(settings(optimiser=OptimiserSettings(ema_decay=0.5)), 3)
    start = train_step.network.e_conv1.depth_conv.bias.detach().clone()
    train_step.step(batches(1)[0])
    # The first decay is 1 / 10: 0.1 of the start and 0.9 of what came of it.
    expected = 0.1 * start + 0.9 * train_step.network.e_conv1.depth_conv.bias.detach()
    torch.testing.assert_close(train_step.average["e_conv1.depth_conv.bias"], expected)


def test_learning_rate():
    constant = OptimiserSettings(learning_rate=1.0)
    assert [learning_rate(step, 10, constant) for step in (0, 9)] == [1.0, 1.0]
    cosine = OptimiserSettings(learning_rate=1.0, schedule="cosine", warmup_steps=3)
    rates = [learning_rate(step, 100, cosine) for step in range(100)]
    assert rates[0] == pytest.approx(0.25)
    assert max(rates) == rates[3]
    assert rates[50] == pytest.approx(0.5)
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] < 1e-3


def test_without_a_level_the_exposure_term_asks_for_that_of_each_photograph():
    options = LossSettings(total_variation=0, spatial=0, colour=0, exposure=2, exposure_level=None, semantic=0)
    flat = torch.tensor([0.25, 0.5]).reshape(2, 1, 1, 1).expand(2, 3, 32, 32)
    terms = Objective(options, None)(Batch(flat / 2, flat), flat + 0.1, torch.zeros_like(flat))
    assert {name: float(term) for name, term in terms.items()} == pytest.approx({"exposure": 2 * 0.1**2}, rel=1e-4)
    with pytest.raises(UsageError, match=r"--loss\.exposure-level None"):
        TrainSettings("in", "run", loss=options)


def test_a_loss_that_is_not_finite_stops_the_training():
    train_step = TrainStep(settings(), 1)
    with pytest.raises(CollapseError, match="not a finite number at step 1"):
        train_step.step(Batch(torch.full((1, 3, 64, 64), float("nan"))))


def row_of(network: torch.nn.Module) -> dict:
    objective = Objective(LossSettings(semantic=0), None)
    return merge([examine(EnhancementModel(network).eval(), objective, batch)[0] for batch in batches(2)])


def test_a_fresh_network_lives():
    row = row_of(FactorNetwork())
    assert collapse(row) is None
    assert row["loss"] == pytest.approx(row["total_variation"] + row["spatial"] + row["colour"] + row["exposure"])


def test_a_constant_factor_map_is_a_collapse():
    network = FactorNetwork()
    torch.nn.init.zeros_(network.e_conv7.point_conv.weight)
    assert "same factor" in collapse(row_of(network))


def test_weight_decay_has_killed_three_layers_of_the_published_network(shared):
    published = weights_module.load(str(shared / "reference/sgz_Epoch99.pth"))
    row = row_of(network_from(published))
    assert row["dead_layers"] == ["e_conv3", "e_conv4", "e_conv5"]
    assert "layers e_conv3, e_conv4, e_conv5 are dead" in collapse(row)


@on_each_device
def test_validation_finds_the_same_on_each_device(as_in_training, device):
    rows = []
    for place in ("cpu", device):
        train_step = TrainStep(settings(), 1, place)
        finding, _ = examine(train_step.validated_model(), train_step.objective, on(place, batches(1)[0]))
        rows.append(merge([finding]))
    expected, found = rows
    assert found.pop("dead_layers") == expected.pop("dead_layers")
    assert found == pytest.approx(expected, rel=1e-3, nan_ok=True)


def test_findings_of_any_split_merge_to_the_same_row():
    model, objective = EnhancementModel(FactorNetwork()).eval(), Objective(LossSettings(semantic=0), None)
    images = batches(1, size=5)[0].images
    together = merge([examine(model, objective, Batch(images))[0]])
    apart = merge([examine(model, objective, Batch(images[part]))[0] for part in (slice(0, 2), slice(2, 5))])
    assert apart["dead_layers"] == together["dead_layers"]
    for name in ("loss", "brightness", "clipped", "factor", "factor_deviation"):
        assert apart[name] == pytest.approx(together[name], rel=1e-4)
