"""Measures of what enhancement did: to images, to video, and to what is computed from them.

`METRICS` lists those of one image; each takes H x W x 3 or H x W, uint8 or uint16, RGB, and gives a float. The exact
definition of each is the docstring of its function. For videos see `flicker`; for predictions and labels see
`segmentation` and `detection`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from sgllie.metrics.brightness import black_share, brightness, clipped_share, colourfulness, contrast, entropy
from sgllie.metrics.brisque import brisque
from sgllie.metrics.fidelity import psnr, ssim
from sgllie.metrics.loe import loe
from sgllie.metrics.lpips import lpips, network
from sgllie.metrics.niqe import niqe


@dataclass(frozen=True)
class Metric:
    """One measure of an image.

    `function` takes (image), or (image, reference) where `reference` is not "none": the same picture well lit ("truth")
    or before enhancement ("input"). `higher_is_better` is None where neither is. `load` loads the weights of a metric
    that do not come with it; it raises OSError where they cannot be had. `pixel_bytes` of memory were measured for each
    pixel at its peak, beside the images themselves.
    """

    name: str
    function: Callable[..., float]
    reference: Literal["none", "truth", "input"]
    higher_is_better: bool | None
    definition: str
    pixel_bytes: int
    load: Callable[[], object] | None = None

    @property
    def needs_reference(self) -> bool:
        """Tell whether `function` takes a second image."""
        return self.reference != "none"


METRICS = {
    metric.name: metric
    for metric in (
        Metric("psnr", psnr, "truth", True, "peak signal-to-noise ratio over RGB, dB", 24),
        Metric("ssim", ssim, "truth", True, "structural similarity of luma, 11x11 Gaussian, no downsampling", 80),
        Metric(
            "lpips", lpips, "truth", False, "learned perceptual similarity 0.1, AlexNet, 0 is equal", 142, load=network
        ),
        Metric("niqe", niqe, "none", False, "distance from the statistics of good photographs, luma 0..255", 46),
        Metric("brisque", brisque, "none", False, "quality predicted from statistics, LIVE regression, 0 is best", 57),
        Metric("loe", loe, "input", False, "lightness order changed, mean count over samples, short side 50", 2),
        Metric("brightness", brightness, "none", None, "mean luma, 0..1", 16),
        Metric("contrast", contrast, "none", None, "standard deviation of luma, 0..0.5", 33),
        Metric("entropy", entropy, "none", True, "entropy of the luma histogram, bits", 33),
        Metric("colourfulness", colourfulness, "none", None, "Hasler and Süsstrunk, 0 is grey", 40),
        Metric("clipped", clipped_share, "none", False, "share of pixels with a channel at its highest value", 6),
        Metric("black", black_share, "none", None, "share of pixels that are pure black", 6),
    )
}
