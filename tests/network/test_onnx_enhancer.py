"""The enhancer as one ONNX file, as `sgllie weights export` writes it, against `Enhancer`."""

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_enhancer import SGZ, difference, random_image, random_weights

from sgllie import Enhancer
from sgllie.cli import main
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import ImageError
from sgllie.methods import MethodSettings, make_method
from sgllie.network.architecture import ARCHITECTURES
from sgllie.network.effect import EffectSettings
from sgllie.network.onnx_enhancer import enhancer_graph
from sgllie.runs.job import InProcess, run_job


def session_of(found, size=None, **effect):
    """Run by onnxruntime as it is, with none of our code around it."""
    model = enhancer_graph(found, EffectSettings(**effect), size).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["enhanced"], {"image": image[None]})[0][0]


WHOLE = {scale: (session_of(SGZ, scale_factor=scale), Enhancer(SGZ, scale_factor=scale)) for scale in (1, 5, 12)}


@settings(max_examples=60)
@given(
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    scale_factor=st.sampled_from([1, 5, 12]),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_size_equals_the_enhancer(height, width, scale_factor, seed):
    image = random_image(height, width, seed=seed)
    graph, enhancer = WHOLE[scale_factor]
    assert difference(graph(image), enhancer(image)) <= 1


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("size", [None, (37, 41)])
@pytest.mark.parametrize(("scale_factor", "strength"), [(1, 1.0), (12, 0.3), (3, 1e-7), (2, 0.0)])
def test_every_network_at_free_and_fixed_size(architecture, size, scale_factor, strength):
    found, image = random_weights(architecture, spread=0.1), random_image(37, 41)
    effect = {"scale_factor": scale_factor, "strength": strength}
    assert difference(session_of(found, size, **effect)(image), Enhancer(found, **effect)(image)) <= 1


def test_a_fixed_size_leaves_nothing_to_compute_about_shapes():
    graph = enhancer_graph(SGZ, EffectSettings(), (37, 41)).graph
    assert "Shape" not in {node.op_type for node in graph.node}
    sides = [[side.dim_value for side in port.type.tensor_type.shape.dim] for port in (*graph.input, *graph.output)]
    assert sides == [[1, 37, 41, 3]] * 2


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "whole.onnx"
    assert main(["weights", "export", "sgllie", str(path)]) == 0
    return path


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (63, 65), (480, 640)])
def test_the_method_onnx_reads_it_back(exported, enhancer, size):
    method = make_method(MethodSettings(method="onnx", weights=str(exported)))
    image = random_image(*size)
    assert difference(method(image), enhancer(image)) <= 1
    assert difference(method(image[..., 0]), enhancer(image[..., 0])) <= 2  # there the factors are averaged, not pixels
    with pytest.raises(ImageError, match="takes 8 bits for each channel, and the image has 16"):
        method(random_image(*size, np.uint16))


def test_the_method_onnx_reads_a_file_of_one_size_back(enhancer, tmp_path):
    path = tmp_path / "whole.onnx"
    assert main(["weights", "export", "sgllie", str(path), "--size", "63x65"]) == 0
    image = random_image(63, 65)
    method = make_method(MethodSettings(method="onnx", weights=str(path)))
    assert difference(method(image), enhancer(image)) <= 1


def test_a_job_writes_the_same_images_with_it(exported, enhancer, tmp_path):
    (tmp_path / "in").mkdir()
    image = random_image(50, 75)
    cv2.imwrite(str(tmp_path / "in/a.png"), image[..., ::-1])
    chosen = EnhanceSettings(str(tmp_path / "in"), str(tmp_path / "out"), method="onnx", weights=str(exported))
    assert run_job(prepare, chosen, InProcess()) == 0
    found = cv2.imread(str(tmp_path / "out/images/a.png"))[..., ::-1]
    assert difference(found, enhancer(image)) <= 1


def test_what_was_exported_says_what_it_is(exported, capsys):
    assert main(["weights", "show", "sgllie"]) == 0
    said = capsys.readouterr().out
    facts = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert facts.pop("weights") in said
    assert facts == {"scale_factor": "12", "strength": "1", "any_size": "yes"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("sgllie", "out.pt"), "OUT.onnx is out.pt; it must end in .onnx"),
        (("sgllie", "out.onnx", "--size", "480"), "--size is 480; it must be height x width, such as 480x640"),
        (("sgllie", "out.onnx", "--size", "0x640"), "--size is 0x640; it must be height x width"),
        (("sgllie", "out.onnx", "--strength", "2"), "--strength is 2.0; it must lie between 0 and 1"),
        (("absent.pth", "out.onnx"), "weights 'absent.pth' cannot be read"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["weights", "export", *arguments]) == 2
    assert sentence in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
