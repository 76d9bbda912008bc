"""What the page is told: by its settings, and by its controls."""

import shlex

import pytest
import tyro

from sgllie.demo.choice import Choice
from sgllie.demo.settings import DemoSettings
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.video.settings import VideoSettings


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org", ""])
def test_other_machines_need_a_password(host):
    with pytest.raises(UsageError, match=r"--host .* needs --auth-file") as caught:
        DemoSettings(host=host)
    assert "other machines" in str(caught.value), "it says why"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1", "[::1]"])
def test_this_machine_needs_none(host):
    assert DemoSettings(host=host).passwords() == []


def test_passwords_may_hold_colons(tmp_path):
    file = tmp_path / "people"
    file.write_text("ada:a:b\n\nbert:geheim\n")
    settings = DemoSettings(host="0.0.0.0", auth_file=file)
    assert settings.passwords() == [("ada", "a:b"), ("bert", "geheim")]


@pytest.mark.parametrize("text", [None, "", "\n", "ada\n", ":secret\n", "ada:\n", "ada:x\nbert\n"])
def test_a_wrong_password_file_is_one_sentence(tmp_path, text):
    file = tmp_path / "people"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=r"^--auth-file "):
        DemoSettings(auth_file=file).passwords()


CHOICES = {
    "": Choice(),
    "--strength 0.7": Choice(strength=0.7),
    "--method lime": Choice(method="lime", weights="a b.pth", scale_factor=3),
    "--weights 'a b.safetensors' --scale-factor 3": Choice(weights="a b.safetensors", scale_factor=3),
    "--only-darker-than 0.3": Choice(only_darker_than=0.3),
    "--method onnx --weights x.onnx": Choice(method="onnx", weights="x.onnx", scale_factor=2, denoise=True),
    "--strength 0.7 --denoise": Choice(strength=0.7, denoise=True),
    "--method zero-dce --weights z.pth --scale-factor 1": Choice("zero-dce", "z.pth", 1),
}


@pytest.mark.parametrize("options", CHOICES)
def test_the_command_says_what_the_controls_say(options):
    choice = CHOICES[options]
    command = choice.command(clips=False)
    assert command == f"sgllie enhance PHOTOGRAPHS BRIGHT {options}".strip()
    parsed = tyro.cli(EnhanceSettings, args=shlex.split(command)[2:])
    made = choice.settings()
    for name in ("method", "weights", "scale_factor", "strength", "only_darker_than", "denoise"):
        assert getattr(parsed, name) == getattr(made, name)


def test_the_command_for_clips_has_no_option_that_it_does_not_know():
    command = Choice(strength=0.5, only_darker_than=0.3, denoise=True).command(clips=True)
    assert command == "sgllie video PHOTOGRAPHS BRIGHT --strength 0.5 --denoise"
    tyro.cli(VideoSettings, args=shlex.split(command)[2:])
