"""LPIPS with an AlexNet of random weights, which is where the real one is looked for; against its definition."""

import cv2
import numpy as np
import pytest
import torch
from torchvision.models import alexnet

from sgllie.errors import UsageError
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.metrics import METRICS
from sgllie.metrics.lpips import lpips, network

pytestmark = pytest.mark.jobs

SHIFT, SCALE = [-0.030, -0.088, -0.188], [0.458, 0.448, 0.450]


@pytest.fixture
def backbone(tmp_path, monkeypatch):
    """The network, its weights lying in the cache of torchvision."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.manual_seed(0)
    model = alexnet(weights=None)
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.save(model.state_dict(), tmp_path / "hub/checkpoints/alexnet-owt-7be5be79.pth")
    network.cache_clear()
    yield model.features.eval()
    network.cache_clear()


def pictures(height=96, width=130):
    random = np.random.default_rng(0)
    image = np.clip(cv2.GaussianBlur(random.normal(128, 90, (height, width, 3)), None, 1.5), 0, 255).astype(np.uint8)
    return image, np.clip(image * 0.4 + random.normal(0, 5, image.shape), 0, 255).astype(np.uint8)


def written_out(backbone, image, reference):
    """The sum over layers of the mean over places of the weighted squared differences."""
    total = 0.0
    for number, end in enumerate((2, 5, 8, 10, 12)):
        sides = []
        for pixels in (image, reference):
            x = (pixels / 255 * 2 - 1 - SHIFT) / SCALE
            with torch.no_grad():
                seen = backbone[:end](torch.tensor(x.transpose(2, 0, 1)[None], dtype=torch.float32))[0].double().numpy()
            sides.append(seen / (np.sqrt((seen**2).sum(axis=0)) + 1e-10))
        weights = network()[1][number].numpy()
        total += np.einsum("c,chw->hw", weights, (sides[0] - sides[1]) ** 2).mean()
    return total


def test_lpips_is_what_it_says(backbone):
    image, reference = pictures()
    value = lpips(image, reference)
    assert value > 0.001
    assert value == pytest.approx(written_out(backbone, image, reference), rel=1e-4)
    assert lpips(image, image) == 0
    deep = [pixels.astype(np.uint16) * 257 for pixels in (image, reference)]
    assert lpips(*deep) == pytest.approx(value, rel=1e-4)
    grey = [pixels[..., 0] for pixels in (image, reference)]
    assert lpips(*grey) == pytest.approx(lpips(*(np.dstack([side] * 3) for side in grey)))


def test_tiny_and_different_images_are_refused(backbone):
    with pytest.raises(ValueError, match="LPIPS needs at least 64x64 pixels, got an image of 130x63"):
        lpips(*pictures(63, 130))
    with pytest.raises(ValueError, match="the same shape and depth"):
        lpips(pictures()[0], pictures(97)[0])
    assert lpips(*pictures(64, 64)) > 0


def test_it_is_measured_only_where_it_is_named(backbone):
    assert "lpips" not in EvaluateSettings(images="a", reference="b").chosen_metrics(True)
    assert EvaluateSettings(images="a", reference="b", metrics="lpips").chosen_metrics(True) == ["lpips"]
    assert METRICS["lpips"].higher_is_better is False


def test_weights_that_cannot_be_had(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    network.cache_clear()
    with pytest.raises(UsageError, match=r"--metrics holds lpips, whose weights are not in .* \(no network\)"):
        EvaluateSettings(images="a", reference="b", metrics="lpips").chosen_metrics(True)
