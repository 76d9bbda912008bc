"""Every setting of every job: whether it changes the output, and its limits.

A new setting fails here until it is listed, so that somebody has thought about resuming a run with another value.
"""

import dataclasses
from dataclasses import dataclass

import pytest

from sgllie.compare.settings import CompareSettings
from sgllie.demo.settings import DemoSettings
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.settings import changes_output, check_limits, flat_fields, output_settings, setting
from sgllie.train.settings import TrainSettings
from sgllie.video.settings import VideoSettings

POOL = "price num_actors worker_memory max_failures retry_failed check_input overwrite dry_run address s3"
METHOD = "method scale_factor strength denoise half"

CASES = {
    "enhance": (
        EnhanceSettings("in", "out"),
        f"{METHOD} limit include exclude others columns rig only_darker_than format quality gpu_jpeg exif_orientation "
        "max_pixels on_failure image_column",
        f"{POOL} weights input output device threads workers_per_gpu shard_images deadline update",
    ),
    "video": (
        VideoSettings("in", "out"),
        f"{METHOD} limit codec crf preset threads temporal_smoothing force_sdr segment_seconds",
        f"{POOL} weights input output device workers_per_gpu",
    ),
    "evaluate": (
        EvaluateSettings(images="out"),
        "limit metrics reference name_endings image_column max_pixels images before task predictions "
        "predictions_before labels classes ignore_label rename image_sizes",
        f"{POOL} output threads shard_images deadline",
    ),
    "compare": (
        CompareSettings(input="in", output="out"),
        "limit metrics reference name_endings image_column max_pixels input methods scale_factor shown",
        f"{POOL} output threads shard_images deadline device",
    ),
    "demo": (DemoSettings(), "max_pixels", "host port auth_file weights max_seconds max_files max_megabytes"),
    "train": (
        TrainSettings("data", "run"),
        "image_column epochs batch_size seed dead_layers network.architecture network.conv_type network.scale_factor "
        "network.initialisation network.initial_weights loss.total_variation loss.spatial loss.colour loss.exposure "
        "loss.semantic loss.reconstruction loss.patch_size loss.exposure_level guide.name guide.weights guide.classes "
        "optimiser.learning_rate optimiser.weight_decay optimiser.decoupled_decay optimiser.gradient_norm "
        "optimiser.schedule optimiser.warmup_steps optimiser.ema_decay images.size images.crop images.smallest_crop "
        "images.inference_scale images.flip images.repeats darkening.stops darkening.identity_share "
        "darkening.unevenness darkening.shoulder darkening.least_gamma darkening.greatest_gamma darkening.contrast "
        "darkening.shot_noise darkening.read_noise darkening.darkest darkening.brightest darkening.clipped "
        "darkening.bright_share darkening.bracket_share validation.images validation.held_back validation.batch_size "
        "validation.size validation.scale_factor",
        "data run preset display_every snapshot_every num_workers min_workers use_gpu cpus_per_worker loaders cache "
        "max_failures address s3",
    ),
}


@pytest.mark.parametrize("job", CASES)
def test_each_setting_is_known_to_change_the_output_or_not(job):
    settings, changing, others = CASES[job]
    assert output_settings(settings).keys() == set(changing.split())
    found = {name for name, _, field in flat_fields(settings) if not changes_output(field)}
    assert found == set(others.split())


def numbers():
    """Each number of each job that has limits, and one value on either side of them."""
    for job, (settings, _, _) in CASES.items():
        for name, _, field in flat_fields(settings):
            least, most = field.metadata.get("limits", (None, None))
            if least is not None:
                yield pytest.param(settings, name, least - 1e-9 * max(abs(least), 1), id=f"{job}-{name}-low")
            if most is not None:
                yield pytest.param(settings, name, most + 1, id=f"{job}-{name}-high")


@pytest.mark.parametrize(("settings", "name", "value"), list(numbers()))
def test_a_number_beyond_its_limits_is_one_sentence(settings, name, value):
    group, _, inner = name.rpartition(".")
    changed = {group: dataclasses.replace(getattr(settings, group), **{inner: value})} if group else {name: value}
    with pytest.raises(UsageError, match=f"^--{name.replace('_', '-')} is "):
        dataclasses.replace(settings, **changed)


def test_what_no_number_is_lies_in_no_limits():
    with pytest.raises(UsageError, match="--strength is nan"):
        EnhanceSettings("in", "out", strength=float("nan"))


def test_a_setting_changes_the_output_unless_it_says_otherwise():
    @dataclass(frozen=True)
    class Inner:
        depth: int = 1

    @dataclass(frozen=True)
    class Outer:
        plain: int = 0
        declared: int = setting(5, least=1, most=9)
        quiet: int = setting(0, changes_output=False)
        inner: Inner = setting(factory=Inner)
        hidden: Inner = setting(factory=Inner, changes_output=False)

    assert output_settings(Outer()) == {"plain": 0, "declared": 5, "inner.depth": 1}
    check_limits(Outer(declared=9))
    with pytest.raises(UsageError, match="--declared is 10; it must lie between 1 and 9"):
        check_limits(Outer(declared=10))
