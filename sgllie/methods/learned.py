"""The methods with a network for the factor map: SGZ, and Zero-DCE, of which SGZ is a descendant."""

from typing import TYPE_CHECKING, Any

from sgllie.errors import UsageError
from sgllie.methods import MethodSettings
from sgllie.network import weights
from sgllie.network.architecture import ARCHITECTURES
from sgllie.network.weights import Weights

if TYPE_CHECKING:
    from sgllie.enhancer import Enhancer


def make(settings: MethodSettings) -> "Enhancer":
    """Make the enhancer that the settings describe.

    Raises:
        UsageError: the weights are missing, cannot be read or are of another method, or the device is not there.
    """
    from sgllie.enhancer import Enhancer

    enhancer = Enhancer.load(
        weights_name(settings),
        scale_factor=settings.scale_factor,
        strength=settings.strength,
        denoise=settings.denoise,
        device=settings.device,
        half=settings.half,
        s3=settings.s3,
    )
    refuse_others(settings, enhancer.weights)
    return enhancer


def describe(settings: MethodSettings) -> dict[str, Any]:
    """Return name, fingerprint and kind of the weights; UsageError if they are not those of the method."""
    name = weights_name(settings)
    found = weights.load(name, settings.s3)
    refuse_others(settings, found)
    return {
        "name": name,
        "fingerprint": found.fingerprint,
        "architecture": found.architecture,
        "conv_type": found.conv_type,
    }


def weights_name(settings: MethodSettings) -> str:
    """Return what names the weights; UsageError where they must be given: only SGZ has bundled ones."""
    if settings.weights is not None:
        return settings.weights
    if settings.method != "sgz":
        raise UsageError(
            f"--method {settings.method} comes without weights: --weights must name a Zero-DCE checkpoint, .pth as "
            "published or imported by `sgllie weights import`"
        )
    return weights.DEFAULT


def refuse_others(settings: MethodSettings, found: Weights) -> None:
    """Raise UsageError for weights of another method."""
    method = "sgz" if ARCHITECTURES[found.architecture].maps == 1 else "zero-dce"
    if method != settings.method:
        raise UsageError(
            f"weights {settings.weights} are of the architecture {found.architecture}, which --method "
            f"{settings.method} cannot take; choose --method {method}"
        )
