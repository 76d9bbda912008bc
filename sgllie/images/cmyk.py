"""CMYK to RGB, as printing profiles define it."""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms


def to_rgb(cmyk: Image.Image, icc: bytes | None) -> NDArray[np.uint8]:
    """Convert to sRGB through the embedded profile; without a usable one by the plain formula (1 - ink)(1 - black).

    Args:
        cmyk: Pillow image of mode CMYK, 255 being full ink.
        icc: the ICC profile of the file.

    Returns:
        H x W x 3, uint8.
    """
    if icc:
        try:
            profile = ImageCms.ImageCmsProfile(BytesIO(icc))
            converted = ImageCms.profileToProfile(cmyk, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            converted = None
        if converted is not None:
            return np.array(converted)
    return np.array(cmyk.convert("RGB"))
