"""Weights files: what is saved is loaded, what is wrong is refused in one sentence."""

import csv
import io
import pickle
import re
import tomllib
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from places import ROOT
from sgllie.cli import main
from sgllie.errors import UsageError
from sgllie.network import model, weights


def some_weights(architecture="sgz", conv_type="dsc"):
    torch.manual_seed(0)
    network = model.FactorNetwork(architecture, conv_type)
    tensors = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return weights.Weights(architecture, conv_type, tensors, "a test")


def checkpoint_bytes(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(("architecture", "conv_type"), [("sgz", "dsc"), ("sgz", "dc"), ("zero-dce", "tc")])
def test_saved_weights_are_loaded_again(tmp_path, architecture, conv_type):
    original = some_weights(architecture, conv_type)
    weights.save(original, str(tmp_path / "a.safetensors"))
    found = weights.load(str(tmp_path / "a.safetensors"))
    assert (found.architecture, found.conv_type, found.origin) == (architecture, conv_type, "a test")
    assert found.fingerprint == original.fingerprint
    assert found.parameter_count == original.parameter_count


def test_a_run_folder_names_its_best_weights(tmp_path):
    weights.save(some_weights(), str(tmp_path / "weights/best.safetensors"))
    assert weights.load(str(tmp_path)).fingerprint == some_weights().fingerprint


def test_fingerprint_depends_on_values_and_architecture():
    first = some_weights()
    changed = {name: tensor.copy() for name, tensor in first.tensors.items()}
    changed["e_conv1.depth_conv.bias"][0] += 1e-6
    assert weights.Weights("sgz", "dsc", changed).fingerprint != first.fingerprint
    assert weights.Weights("sgz", "tc", first.tensors).fingerprint != first.fingerprint


def test_denormals_are_flushed():
    tensors = dict(some_weights().tensors)
    tensors["e_conv3.depth_conv.weight"] = np.full((32, 1, 3, 3), 1e-40, np.float32)
    found = weights.from_bytes(weights.to_bytes(weights.Weights("sgz", "dsc", tensors)), "test")
    assert not found.tensors["e_conv3.depth_conv.weight"].any()
    assert found.dead_layers == ["e_conv3.depth_conv"]


def test_published_checkpoint(shared):
    found = weights.load(str(shared / "reference/sgz_Epoch99.pth"))
    assert (found.architecture, found.conv_type, found.parameter_count) == ("sgz", "dsc", 10_561)
    assert sum(int((tensor == 0).sum()) for tensor in found.tensors.values()) == 6_127
    assert {name.split(".")[0] for name in found.dead_layers} == {"e_conv3", "e_conv4", "e_conv5"}


def test_checkpoint_of_a_data_parallel_model():
    state = {
        f"module.{name}": torch.from_numpy(tensor) for name, tensor in some_weights("zero-dce", "tc").tensors.items()
    }
    found = weights.from_checkpoint(checkpoint_bytes(state), "x.pth")
    assert found.fingerprint == some_weights("zero-dce", "tc").fingerprint


class Malicious:
    def __reduce__(self):
        return (print, ("code has run",))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"junk",
        b"no checkpoint",
        pickle.dumps(Malicious()),
        checkpoint_bytes({"a": torch.zeros(1)}),
        checkpoint_bytes([1]),
    ],
)
def test_other_files_are_no_checkpoint(data, capsys):
    with pytest.raises(UsageError, match=r"^x\.pth is not a checkpoint of SGZ or Zero-DCE"):
        weights.from_checkpoint(data, "x.pth")
    assert "code has run" not in capsys.readouterr().out


REPEATED = torch.zeros(1).expand(10**6, 10**6)


@pytest.mark.parametrize(
    "tensor",
    [
        REPEATED,
        REPEATED.as_strided((32, 10**6, 10**6), (0, 0, 0)),
        torch.zeros(1, dtype=torch.float16).expand(10**12),
    ],
)
@pytest.mark.parametrize("name", ["e_conv1.depth_conv.weight", "e_conv7.point_conv.weight", "another"])
def test_a_value_repeated_beyond_all_memory_is_refused(name, tensor):
    state = {known: torch.from_numpy(value) for known, value in some_weights().tensors.items()} | {name: tensor}
    with pytest.raises(UsageError, match=r"^x\.pth does not fit sgz \(dsc\): see tensor"):
        weights.from_checkpoint(checkpoint_bytes(state), "x.pth")


def test_a_checkpoint_that_grows_when_it_is_read_is_refused():
    plain = io.BytesIO(checkpoint_bytes({name: torch.from_numpy(x) for name, x in some_weights().tensors.items()}))
    assert weights.from_checkpoint(plain.getvalue(), "x.pth").architecture == "sgz"
    packed = io.BytesIO()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
        target.writestr("archive/data/more", bytes(100 << 20))
    with pytest.raises(UsageError, match=r"^x\.pth is not a checkpoint"):
        weights.from_checkpoint(packed.getvalue(), "x.pth")


def test_wrong_files_are_named(tmp_path):
    with pytest.raises(UsageError, match=r"cannot be read.*give a bundled name"):
        weights.load(str(tmp_path / "absent.safetensors"))
    with pytest.raises(UsageError, match="is not a weights file"):
        weights.from_bytes(b"\x10\0\0\0\0\0\0\0nonsense", "x.safetensors")
    tensors = dict(some_weights().tensors)
    del tensors["e_conv2.depth_conv.bias"]
    with pytest.raises(UsageError, match=r"see tensor 'e_conv2\.depth_conv\.bias'"):
        weights.from_bytes(weights.to_bytes(weights.Weights("sgz", "dsc", tensors)), "x")
    tensors = dict(some_weights().tensors) | {"e_conv1.depth_conv.bias": np.full(3, np.nan, np.float32)}
    with pytest.raises(UsageError, match="not finite"):
        weights.from_bytes(weights.to_bytes(weights.Weights("sgz", "dsc", tensors)), "x")


@pytest.mark.parametrize("source", ["absent.pth", "nowhere/absent.pth", "folder.pth"])
def test_a_checkpoint_that_cannot_be_read_is_named(tmp_path, capsys, source):
    (tmp_path / "folder.pth").mkdir()
    assert main(["weights", "import", f"{tmp_path}/{source}", f"{tmp_path}/out.safetensors"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"sgllie weights: {tmp_path}/{source} cannot be read: ")
    assert err.count("\n") == 1


def test_the_bundled_weights_come_with_the_credits_of_photographs_that_anyone_may_use():
    rows = list(csv.DictReader((weights.BUNDLED / "CREDITS.csv").open(encoding="utf-8", newline="")))
    assert {row["part"] for row in rows} == {"training", "validation", "test"}
    assert len({row["file"] for row in rows}) == len(rows)
    for row in rows:
        assert all(value and value == value.strip() for value in row.values())
        assert not re.search(r"\b(NC|ND|non-?commercial|all rights)\b", row["licence"], re.IGNORECASE)
    parts = {}
    for row in rows:  # what is measured was not trained on, in no other cut either
        parts.setdefault(Path(row["file"]).stem.partition("__c")[0], set()).add(row["part"])
    assert all(len(found) == 1 for found in parts.values())


def test_what_lies_beside_the_bundled_weights_is_part_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["sgllie"]
    for path in weights.BUNDLED.iterdir():
        assert any(path.match(pattern) for pattern in patterns), f"{path.name} would not be installed"


def test_the_page_of_the_bundled_weights_is_about_these():
    page, bundled = (weights.BUNDLED / "README.md").read_text(), weights.load(weights.DEFAULT)
    assert f"fingerprint `{bundled.fingerprint}`" in page
    assert f"{bundled.parameter_count:,} parameters" in page
    assert not bundled.dead_layers
    alternative = weights.load("sgllie-without-sa")
    assert f"`{alternative.fingerprint}`" in page
    assert (alternative.architecture, alternative.dead_layers) == (bundled.architecture, [])
    rows = list(csv.DictReader((weights.BUNDLED / "CREDITS.csv").open(encoding="utf-8", newline="")))
    licences = page.partition("## Licences")[2].partition("\n## ")[0]
    assert sum(map(int, re.findall(r"^\| [^|]+ \| (\d+) \|", licences, re.MULTILINE))) == len(rows)
