"""The command line beyond the jobs: help, mistakes, weights."""

import os
import subprocess
from dataclasses import replace

import pytest

from clips import pan, write_clip
from commands import command, make_corpus
from sgllie.cli import COMMANDS, main
from sgllie.network import weights


def test_help_names_every_command(capsys):
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS)


@pytest.mark.parametrize("arguments", [[], ["brighten"]])
def test_an_unknown_command_is_wrong_usage(arguments, capsys):
    assert main(arguments) == 2
    assert "usage: sgllie COMMAND" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments", [["enhance"], ["enhance", "a", "b", "--no-such-option"], ["enhance", "a", "b", "--quality", "x"]]
)
def test_wrong_options_exit_with_two(arguments, capsys):
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2


def test_enhance_help_has_every_option(capsys):
    with pytest.raises(SystemExit) as error:
        main(["enhance", "--help"])
    assert error.value.code == 0
    out = capsys.readouterr().out
    for option in (
        "--weights",
        "--only-darker-than",
        "--exif-orientation",
        "--s3.endpoint-url",
        "--dry-run",
        "--address",
    ):
        assert option in out


@pytest.mark.jobs
def test_a_reader_who_has_seen_enough():
    process = subprocess.Popen(command("enhance", "--help"), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 1


def test_bundled_weights_are_shown(capsys):
    assert main(["weights", "show", weights.DEFAULT]) == 0
    out = capsys.readouterr().out
    assert "dead layers   none" in out
    assert weights.load(weights.DEFAULT).fingerprint in out


def test_their_origin_does_not_steer_the_terminal(tmp_path, capsys):
    weights.save(replace(weights.load(weights.DEFAULT), origin="\x1b[2Jhere"), str(tmp_path / "a.safetensors"))
    assert main(["weights", "show", str(tmp_path / "a.safetensors")]) == 0
    assert "origin        \\x1b[2Jhere\n" in capsys.readouterr().out


def test_published_weights_are_imported(shared, tmp_path, capsys):
    target = tmp_path / "z.safetensors"
    assert main(["weights", "import", str(shared / "reference/zero_dce_Epoch99.pth"), str(target)]) == 0
    assert "zero-dce (tc)" in capsys.readouterr().out
    assert weights.load(str(target)).parameter_count == 79_416


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "absent"],
        ["import", "absent.pth", "x.safetensors"],
        ["import", "x.pth", "y.pth"],
        ["import", "x.pth", "y.safetensors"],
        ["export", "x.pth", "y.onnx"],
    ],
)
def test_wrong_weights_are_one_sentence(arguments, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.pth").write_bytes(b"no checkpoint")
    assert main(["weights", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("sgllie weights: ")
    assert err.count("\n") == 1


BOUND = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]
"""Makes root obey the permissions of files, as others do."""


@pytest.mark.jobs
@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        (2, ["enhance", "in", "locked/out"]),
        (2, ["video", "in.mp4", "locked/out"]),
        (2, ["evaluate", "in", "--before", "in", "--metrics", "brightness", "--out", "locked/out"]),
        (2, ["compare", "in", "--out", "locked/out", "--methods", "gamma", "--metrics", "brightness"]),
        (2, ["train", "in", "locked/out"]),
        (1, ["weights", "export", "sgllie", "locked/out.onnx"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_output_that_may_not_be_written(code, arguments, tmp_path):
    make_corpus(tmp_path / "in", 2)
    write_clip(tmp_path / "in.mp4", pan(2, (48, 64)), sound=False)
    (tmp_path / "locked").mkdir(mode=0o500)
    line = [*(BOUND if os.geteuid() == 0 else []), *command(*arguments)]
    ended = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    assert (ended.returncode, ended.stderr.count("\n")) == (code, 1)
    assert ended.stderr.startswith(f"sgllie {arguments[0]}: ")
    assert ended.stderr.count("cannot be written: Permission denied") == 1
    assert not list((tmp_path / "locked").iterdir())
