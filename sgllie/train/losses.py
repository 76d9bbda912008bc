"""The terms of the training objective, each a small module without parameters.

Four of them look at images alone (Guo et al., "Zero-Reference Deep Curve Estimation", CVPR 2020, with the changes of
Zheng and Gupta, WACV 2022 workshops), another looks at what a segmentation network sees (see `guide`), and our own at
the photograph before it was darkened. Every one gives a scalar that is a mean over the batch, so that the mean over
workers with equal batches is that of the whole.

Images are N x 3 x H x W, float RGB in [0, 1]; factor maps N x C x H x W in (-1, 1).
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

AXIAL = {(-1, 0): 1.0, (1, 0): 1.0, (0, -1): 1.0, (0, 1): 1.0}
DIAGONAL = {(-1, -1): 0.5, (-1, 1): 0.5, (1, -1): 0.5, (1, 1): 0.5}
LIT_PATCH = 16
"""Pixels a side of a patch whose brightness is controlled."""
FLOOR = 1e-3
"""Mean squared error of 30 dB of PSNR."""
GAMMA = 2.0
"""Of the focal loss: how little those pixels count that are nearly certain."""


class TotalVariation(nn.Module):
    """Smoothness of the factor map: 2 (sum dh^2 / count_h + sum dw^2 / count_w) / N.

    dh, dw are differences of vertical and horizontal neighbours, summed over the batch and all channels; count_h =
    (H - 1) W and count_w = H (W - 1), so three channels count three times, as in the published code.
    """

    def forward(self, factor: Tensor) -> Tensor:
        """Compute the term of a factor map: N x C x H x W -> scalar."""
        height, width = factor.shape[-2:]
        vertical = factor.diff(dim=-2).square().sum() / max(1, (height - 1) * width)
        horizontal = factor.diff(dim=-1).square().sum() / max(1, height * (width - 1))
        return 2 * (vertical + horizontal) / len(factor)


class SpatialConsistency(nn.Module):
    """How much the differences between neighbouring patches change by the enhancement.

    Patches are `patch_size` squared means of the three channels. For each patch the sum over neighbours of
    w (d_enhanced - d_original)^2, where d is the patch minus its neighbour (zero outside the image), and w is 1 for the
    four axial and 0.5 for the four diagonal neighbours (SGZ). `neighbours=4` leaves the diagonal ones out (Zero-DCE).
    """

    def __init__(self, patch_size: int = 4, neighbours: int = 8) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weights = AXIAL if neighbours == 4 else AXIAL | DIAGONAL

    def map(self, enhanced: Tensor, original: Tensor) -> Tensor:
        """Compute the sum for each patch: two N x 3 x H x W -> N x 1 x H/patch x W/patch."""
        # Differences are linear, so those of the two images are subtracted once instead of for each neighbour.
        change = (enhanced - original).mean(dim=1, keepdim=True)
        change = functional.avg_pool2d(change, self.patch_size)
        height, width = change.shape[-2:]
        padded = functional.pad(change, (1, 1, 1, 1))
        total = torch.zeros_like(change)
        for (down, right), weight in self.weights.items():
            neighbour = padded[..., 1 + down : 1 + down + height, 1 + right : 1 + right + width]
            total = total + weight * (change - neighbour).square()
        return total

    def forward(self, enhanced: Tensor, original: Tensor) -> Tensor:
        """Compute the mean over all patches: two N x 3 x H x W -> scalar."""
        return self.map(enhanced, original).mean()


class ColourConstancy(nn.Module):
    """Distance of the channel means from grey: sqrt((r - g)^4 + (r - b)^4 + (g - b)^4) for each image."""

    def per_image(self, enhanced: Tensor) -> Tensor:
        """Compute the distance of each image: N x 3 x H x W -> N."""
        red, green, blue = enhanced.mean(dim=(2, 3)).unbind(dim=1)
        squares = torch.stack([red - green, red - blue, green - blue]).square()
        # torch defines the gradient of this norm at zero (a grey image) as zero; that of a square root is NaN there.
        return torch.linalg.vector_norm(squares, dim=0)

    def forward(self, enhanced: Tensor) -> Tensor:
        """Compute the mean over the images: N x 3 x H x W -> scalar."""
        return self.per_image(enhanced).mean()


class ExposureControl(nn.Module):
    """Mean squared distance of the brightness of 16 x 16 patches (mean of the channels) from a level.

    One level for all photographs is the published term (0.6). With the mean of the wanted photograph in its place the
    light of an image is evened out, while its exposure stays what it is.
    """

    def forward(self, enhanced: Tensor, level: float | Tensor) -> Tensor:
        """Compute the term: N x 3 x H x W and a number, or N x 1 x 1 x 1 of them -> scalar."""
        patches = functional.avg_pool2d(enhanced.mean(dim=1, keepdim=True), LIT_PATCH)
        return (patches - level).square().mean()


class Reconstruction(nn.Module):
    """Mean over the images of log10(1 + e / FLOOR), where e is the mean squared error of an image.

    That is a tenth of the decibels of PSNR by which an image misses 30 dB, softly: an image that is nearly
    right weighs as much as one that is far off, and above those nothing is left to gain.
    """

    def forward(self, enhanced: Tensor, targets: Tensor) -> Tensor:
        """Compute the term: two N x 3 x H x W -> scalar."""
        errors = (enhanced - targets).square().mean(dim=(1, 2, 3))
        return torch.log1p(errors / FLOOR).mean() / math.log(10)


class FocalLoss(nn.Module):
    """-(1 - p)^GAMMA log p, mean over pixels, where p is the probability of a pixel's most probable class.

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, over a softmax. Without
    labels, as published for SGZ, it asks for confidence, whatever the class.
    """

    def forward(self, logits: Tensor) -> Tensor:
        """Compute the loss: N x K x H x W -> scalar."""
        cross_entropy = functional.cross_entropy(logits, logits.argmax(dim=1), reduction="none")
        # expm1 keeps 1 - p exact, and never negative, where p is close to one.
        return ((-torch.expm1(-cross_entropy)) ** GAMMA * cross_entropy).mean()
