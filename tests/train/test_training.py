"""Steps, schedule, validation and loop of the training, in one process and without Ray."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from golden import golden_weights, load, training_batch
from sgllie.errors import CollapseError, StorageError, UsageError
from sgllie.network import weights as weights_module
from sgllie.network.model import EnhancementModel, FactorNetwork, network_from
from sgllie.runs.run_file import header
from sgllie.settings import flat_fields, option
from sgllie.train.loop import TrainingLoop
from sgllie.train.run import Checkpoint, RunFolder, begin_or_resume, best_epoch
from sgllie.train.settings import (
    DarkeningSettings,
    GuideSettings,
    ImageSettings,
    LossSettings,
    NetworkSettings,
    OptimiserSettings,
    TrainSettings,
    ValidationSettings,
)
from sgllie.train.train_step import Batch, Objective, TrainStep, learning_rate
from sgllie.train.validation import collapse, examine, merge


def settings(**changes) -> TrainSettings:
    """The published recipe without its guide, small."""
    small = {
        "loss": LossSettings(semantic=0),
        "guide": GuideSettings(name="none"),
        "optimiser": OptimiserSettings(),
        "epochs": 4,
        "validation": ValidationSettings(size=64),
    }
    return TrainSettings(**({"data": "photographs", "run": "run"} | small | changes))


def batches(count: int, size: int = 2, seed: int = 0) -> list[Batch]:
    """Dark noise."""
    generator = torch.Generator().manual_seed(seed)
    return [Batch(torch.rand(size, 3, 64, 64, generator=generator) * 0.3) for _ in range(count)]


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


def test_a_run_without_a_finished_epoch_takes_other_settings(tmp_path):
    data = {"photographs": 3, "digest": "a"}
    for epochs in (4, 5):
        wanted = settings(run=str(tmp_path / "run"), epochs=epochs)
        run = RunFolder(wanted)
        assert not begin_or_resume(run, wanted, data)
        assert run.describe()["output_settings"]["epochs"] == epochs


def run_json(**changes) -> str:
    """What run.json of a training says, or would say if it were another's."""
    return json.dumps(header(settings(), ()) | {"data": {}} | changes)


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("mine.txt", "mine", "holds other files"),
        ("run.json", '{"outcome": {}}', "was written by something else"),
        ("run.json", "[]", "no JSON object"),
        ("run.json", '{"schema_version": 4, "com', "is no JSON"),
        ("run.json", run_json(schema_version=1), r"\(schema 1 there, 4 here\); use that version, or another folder$"),
        ("run.json", run_json(schema_version=5), "by another version of sgllie"),
        ("run.json", run_json(command="enhance", shards=[1]), "belongs to a run of sgllie enhance; choose another"),
        ("run.json", run_json(data=None), "is damaged: 'data' is missing"),
        ("run.json", run_json(output_settings=[]), "is damaged: 'output_settings' is missing or of the wrong type"),
    ],
)
def test_a_folder_that_is_no_run(tmp_path, name, content, sentence):
    (tmp_path / name).write_text(content)
    run = RunFolder(settings(run=str(tmp_path)))
    with pytest.raises(UsageError, match=sentence):
        run.describe() or run.claim(is_new=True)
    assert (tmp_path / name).read_text() == content


@pytest.mark.parametrize("file", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff"])
def test_a_damaged_checkpoint_is_one_sentence(tmp_path, file, content):
    run = RunFolder(settings(run=str(tmp_path)))
    run.claim(is_new=True)
    run.save(Checkpoint(1, 4, [{"validation_loss": 0.5}], {"a": np.zeros(2)}), weights_module.load("sgllie"))
    assert run.load().steps == 4
    (tmp_path / "checkpoints/epoch-00001" / file).write_bytes(content)
    with pytest.raises(UsageError, match=r"epoch-00001 is damaged .* begins anew"):
        run.load()


@pytest.mark.parametrize("content", ["{}", '{"epochs": 2}', '{"epochs": 2, "best": [1]}'])
def test_a_damaged_result_is_no_end(tmp_path, content):
    (tmp_path / "_SUCCESS").write_text(content)
    assert RunFolder(settings(run=str(tmp_path))).finished() is None


def test_of_two_commands_that_train_in_one_folder_the_later_goes_on(tmp_path):
    earlier, later = (RunFolder(settings(run=str(tmp_path))) for _ in range(2))
    earlier.claim(is_new=True)
    earlier.check_owner()
    later.claim(is_new=True)
    later.check_owner()
    with pytest.raises(StorageError, match="another command has begun to train in"):
        earlier.save(Checkpoint(1, 4, [], {}), weights_module.load("sgllie"))
    assert earlier.epochs_done() == 0


def test_five_steps_follow_the_golden_training():
    """From weights and images that are drawn: what the published recipe came to when it was last held against SGZ's."""
    golden = load("training")
    train_step = TrainStep(settings(), total_steps=5)
    drawn = golden_weights("sgz", "dsc").tensors
    train_step.network.load_state_dict({name: torch.from_numpy(value) for name, value in drawn.items()})
    for step in range(5):
        terms = train_step.step(Batch(torch.from_numpy(training_batch())))
        np.testing.assert_allclose(list(terms.values()), golden["terms"][step], rtol=1e-4)
    state = train_step.network.state_dict()
    away = np.concatenate([np.abs(value.numpy() - golden[f"after/{name}"]).ravel() for name, value in state.items()])
    # Adam makes a whole step, 1e-3, of a gradient that is hardly more than rounding; few weights have one.
    assert away.max() < 1e-3
    assert away.mean() < 5e-6


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


def test_a_restored_learner_takes_the_same_steps():
    options = settings(
        optimiser=OptimiserSettings(schedule="cosine", warmup_steps=2, ema_decay=0.9, decoupled_decay=True)
    )
    data = batches(6)
    first = TrainStep(options, total_steps=6)
    for batch in data[:3]:
        first.step(batch)
    second = TrainStep(replace(options, seed=7), total_steps=6)
    second.load_state(first.state(), first.steps)
    for batch in data[3:]:
        assert first.step(batch) == second.step(batch)
    for name, value in first.state().items():
        np.testing.assert_array_equal(value, second.state()[name])


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


def test_findings_of_any_split_merge_to_the_same_row():
    model, objective = EnhancementModel(FactorNetwork()).eval(), Objective(LossSettings(semantic=0), None)
    images = batches(1, size=5)[0].images
    together = merge([examine(model, objective, Batch(images))[0]])
    apart = merge([examine(model, objective, Batch(images[part]))[0] for part in (slice(0, 2), slice(2, 5))])
    assert apart["dead_layers"] == together["dead_layers"]
    for name in ("loss", "brightness", "clipped", "factor", "factor_deviation"):
        assert apart[name] == pytest.approx(together[name], rel=1e-4)


def loop(folder, epochs: int = 4, **changes) -> TrainingLoop:
    options = replace(settings(epochs=epochs, **changes), run=str(folder))
    return TrainingLoop(TrainStep(options, total_steps=4 * epochs), RunFolder(options), batches(2, seed=9))


@pytest.mark.jobs
def test_an_interrupted_loop_ends_as_an_undisturbed_one(tmp_path):
    data = batches(16)
    rows = list(loop(tmp_path / "whole").epochs(iter(data)))
    half = loop(tmp_path / "halves")
    taken = half.epochs(iter(data))
    next(taken)
    next(taken)
    for batch in data[8:10]:
        half.train_step.step(batch)  # in the middle of the third epoch it is killed
    rest = loop(tmp_path / "halves")
    assert rest.epoch == 2
    list(rest.epochs(iter(data[8:])))
    for name in ("last", "best"):
        one, other = (
            weights_module.load(str(tmp_path / run / f"weights/{name}.safetensors")) for run in ("whole", "halves")
        )
        assert one.fingerprint == other.fingerprint
    for row in (*rows, *rest.history):
        del row["seconds"], row["images_per_second"]
    # NaN (no NIQE of pictures that small) equals itself in text only.
    assert json.dumps(rest.history) == json.dumps(rows)


@pytest.mark.jobs
def test_what_a_loop_leaves_behind(tmp_path):
    list(loop(tmp_path, epochs=2).epochs(iter(batches(8))))
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {
        "checkpoints/epoch-00002/state.json",
        "checkpoints/epoch-00002/state.safetensors",
        "checkpoints/epoch-00002/weights.safetensors",
        "weights/best.safetensors",
        "weights/last.safetensors",
        "metrics.csv",
        "curves.png",
        "samples/epoch-00001.png",
        "samples/epoch-00002.png",
        "events/events.out.tfevents.0000000001.sgllie",
        "events/events.out.tfevents.0000000002.sgllie",
    }
    table = (tmp_path / "metrics.csv").read_text().splitlines()
    assert len(table) == 3
    assert {"training_loss", "validation_brightness", "validation_clipped", "validation_niqe"} <= set(
        table[0].split(",")
    )


@pytest.mark.jobs
def test_a_checkpoint_without_its_state_does_not_count(tmp_path):
    first = loop(tmp_path)
    next(first.epochs(iter(batches(4))))
    half_written = tmp_path / "checkpoints/epoch-00002"
    half_written.mkdir()
    (half_written / "state.safetensors").write_bytes(b"cut off")
    assert loop(tmp_path).epoch == 1


@pytest.mark.jobs
@pytest.mark.parametrize("refused", ["metrics.csv", "weights/last.safetensors", "checkpoints/epoch-00002/state.json"])
def test_a_checkpoint_that_cannot_be_written_stops_the_loop_and_leaves_the_one_before(tmp_path, monkeypatch, refused):
    training = loop(tmp_path)
    rows = training.epochs(iter(batches(16)))
    next(rows)
    write = training.run.storage.write

    def write_or_refuse(path: str, data: bytes) -> None:
        if path == refused:
            raise StorageError("the disk is full")
        write(path, data)

    monkeypatch.setattr(training.run.storage, "write", write_or_refuse)
    with pytest.raises(StorageError, match="the disk is full"):
        next(rows)
    assert loop(tmp_path).epoch == 1


@pytest.mark.jobs
@pytest.mark.parametrize("action", ["stop", "warn"])
def test_dead_layers_stop_the_loop_unless_told_otherwise(tmp_path, action):
    training = loop(tmp_path, epochs=1, dead_layers=action)
    torch.nn.init.constant_(training.train_step.network.e_conv3.point_conv.bias, -1e3)
    rows = training.epochs(iter(batches(4)))
    if action == "warn":
        assert "e_conv3" in next(rows)["validation_dead_layers"]
    else:
        with pytest.raises(CollapseError, match=r"layers e_conv3.* are dead"):
            next(rows)
        assert RunFolder(training.settings).epochs_done() == 0


def test_best_epoch_is_the_first_with_the_lowest_loss():
    assert best_epoch([{"validation_loss": value} for value in (3.0, 1.0, 2.0, 1.0)]) == 2
