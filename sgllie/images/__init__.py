"""Bytes of image files to arrays and back; one file for each format, `codec` is what they share."""

from sgllie.images.codec import EXTENSIONS, DecodedImage, decode, encode, output_name
from sgllie.images.error import ERROR_TYPES, ImageError

__all__ = ["ERROR_TYPES", "EXTENSIONS", "DecodedImage", "ImageError", "decode", "encode", "output_name"]
