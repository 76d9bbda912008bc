"""TIFF files: bytes to pixels and tags, and back.

No one library reads them all correctly. Pillow is right for samples of up to 8 bits (palettes, CMYK, YCbCr, every
compression of libtiff) but narrows 16-bit colour to 8; cv2 is right for 16-bit samples side by side, and multiplies
8-bit colour by alpha; tifffile is right for the other layouts, but knows few compressions by itself. Pillow also
serialises the directory, nested EXIF and GPS directories included.
"""

import logging
import warnings
import zlib
from dataclasses import dataclass
from io import BytesIO

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, TiffImagePlugin

from sgllie.errors import ImageError
from sgllie.images import cmyk, exif
from sgllie.images.metadata import EXIF_PREFIX, Header, Metadata, upright_xmp

IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC = 256, 257, 258, 259, 262
STRIP_OFFSETS, SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_BYTE_COUNTS, PLANAR_CONFIGURATION = 273, 277, 278, 279, 284
PREDICTOR, TILE_OFFSETS, TILE_BYTE_COUNTS, EXTRA_SAMPLES, SAMPLE_FORMAT = 317, 324, 325, 338, 339
NEW_SUBFILE_TYPE, XMP, IPTC, PHOTOSHOP, ICC = 254, 700, 33723, 34377, 34675
WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR = 0, 1, 2, 3, 5, 6
_STRUCTURE = frozenset(
    (NEW_SUBFILE_TYPE, 255, IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, COMPRESSION, PHOTOMETRIC, 263, 264, 265, 266)
).union(
    (
        STRIP_OFFSETS,
        SAMPLES_PER_PIXEL,
        ROWS_PER_STRIP,
        STRIP_BYTE_COUNTS,
        280,
        281,
        PLANAR_CONFIGURATION,
        290,
        291,
        292,
    ),
    (293, 301, PREDICTOR, 318, 319, 320, 321, 322, 323, TILE_OFFSETS, TILE_BYTE_COUNTS, 330, 332, 333, 334, 336),
    (EXTRA_SAMPLES, SAMPLE_FORMAT, 340, 341, 342, 347, *range(512, 522), 529, 530, 531, 532, 37724),
)
"""Tags that describe the old pixels or their encoding; 37724 holds the layers of Photoshop."""
_PACKETS = (XMP, IPTC, PHOTOSHOP, ICC)
"""Tags that other formats keep outside EXIF."""
_STRIP_BYTES = 1 << 20

# Pillow warns of damaged tags on stderr, once for each place in its code; failures arrive as exceptions all the same.
# tifffile logs them. What libtiff itself prints about damaged strips cannot be stopped from here.
logging.getLogger("tifffile").addHandler(logging.NullHandler())
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")


@dataclass(frozen=True, slots=True)
class Layout:
    """How the samples lie in the file."""

    bits: int
    samples: int
    photometric: int
    planar: bool
    extra: tuple[int, ...]


def read(data: bytes, *, upright: bool) -> tuple[Header, Layout]:
    """Read the directories and check that the pixels they point to are there."""
    first, *others = _directories(data)
    if any(not _number(directory, NEW_SUBFILE_TYPE, 0) & 1 for directory in others):
        raise ImageError("multi_frame", f"the TIFF has {1 + len(others)} pages; only single images are handled")
    layout = _layout(first)
    offsets = _numbers(first, STRIP_OFFSETS) or _numbers(first, TILE_OFFSETS)
    counts = _numbers(first, STRIP_BYTE_COUNTS) or _numbers(first, TILE_BYTE_COUNTS)
    if not offsets:
        raise ImageError("corrupt", "the TIFF does not say where its pixels are")
    if max(offsets) >= len(data) or any(a + b > len(data) for a, b in zip(offsets, counts, strict=False)):
        raise ImageError("truncated", "the TIFF ends before its pixels do")
    alpha = "A" if layout.extra else ""
    mode = {RGB: "RGB" + alpha, PALETTE: "P", CMYK: "CMYK", YCBCR: "YCbCr"}.get(layout.photometric, "L" + alpha)
    orientation = exif.orientation(data)
    metadata = _metadata(data, keep_icc=mode != "CMYK", upright=upright)
    width, height = _number(first, IMAGE_WIDTH, 0), _number(first, IMAGE_LENGTH, 0)
    return Header(width, height, mode, layout.bits, metadata, orientation), layout


def _directories(data: bytes) -> list[TiffImagePlugin.ImageFileDirectory_v2]:
    directories: list[TiffImagePlugin.ImageFileDirectory_v2] = []
    seen = set()
    offset = int.from_bytes(data[4:8], "little" if data[:2] == b"II" else "big")
    while offset and offset not in seen:
        if offset + 2 > len(data):
            if directories:
                break
            raise ImageError("truncated", "the TIFF ends before its directory")
        seen.add(offset)
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = BytesIO(data)
        file.seek(offset)
        directory.load(file)
        directories.append(directory)
        offset = directory.next
    if not directories:
        raise ImageError("corrupt", "the TIFF has no directory")
    return directories


def _numbers(directory: TiffImagePlugin.ImageFileDirectory_v2, tag: int) -> tuple[int, ...]:
    value = directory.get(tag, ())
    values = value if isinstance(value, tuple) else (value,)
    if not all(isinstance(value, int) for value in values):
        raise ImageError("corrupt", f"tag {tag} of the TIFF is not a number")
    return values


def _number(directory: TiffImagePlugin.ImageFileDirectory_v2, tag: int, default: int) -> int:
    return (_numbers(directory, tag) or (default,))[0]


def _layout(directory: TiffImagePlugin.ImageFileDirectory_v2) -> Layout:
    """The layout of the samples, or what about it is not handled."""
    samples = _number(directory, SAMPLES_PER_PIXEL, 1)
    bits = _numbers(directory, BITS_PER_SAMPLE)[:samples] or (1,)
    photometric = _number(directory, PHOTOMETRIC, BLACK_IS_ZERO)
    extra = _numbers(directory, EXTRA_SAMPLES)
    colours = {RGB: 3, CMYK: 4, YCBCR: 3}.get(photometric, 1)
    if samples > colours and not extra:
        extra = (0,) * (samples - colours)
    if any(value not in (1, 4) for value in _numbers(directory, SAMPLE_FORMAT)):
        raise ImageError("unsupported", "TIFF images of signed or floating-point samples are not handled")
    if len(set(bits)) != 1 or bits[0] not in (1, 2, 4, 8, 16):
        raise ImageError("unsupported", f"TIFF images of {bits[0]} bits are not handled, only those of 1, 2, 4, 8, 16")
    deep_or_plain = bits[0] != 16 or photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB)
    if photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR) or not deep_or_plain:
        raise ImageError("unsupported", f"TIFF images of colour model {photometric} at {bits[0]} bits are not handled")
    if len(extra) > 1 or samples != colours + len(extra) or (extra and colours + len(extra) not in (2, 4)):
        raise ImageError("unsupported", f"TIFF images of {samples} channels in this arrangement are not handled")
    return Layout(bits[0], samples, photometric, _number(directory, PLANAR_CONFIGURATION, 1) == 2, extra)


def _metadata(data: bytes, *, keep_icc: bool, upright: bool) -> Metadata:
    """What the first directory holds besides its structure."""
    tags = Image.Exif()
    try:
        tags.load(exif.refreshed(data, upright=upright))
        for tag in _STRUCTURE if keep_icc else _STRUCTURE | {ICC}:
            tags.pop(tag, None)
        icc, xmp = (value if isinstance(value := tags.get(tag), bytes) else None for tag in (ICC, XMP))
        if xmp and upright:
            tags[XMP] = xmp = upright_xmp(xmp)
        directory = _serialised(tags)
        for tag in _PACKETS:
            tags.pop(tag, None)
        return Metadata(icc, _serialised(tags) if len(tags) else None, xmp, exif.resolution(data), (directory,))
    except Exception:
        # Tags that cannot be read or written again are lost; the pixels are still worth having.
        return Metadata()


def _serialised(tags: Image.Exif) -> bytes:
    return tags.tobytes().removeprefix(EXIF_PREFIX)


def decode(data: bytes, header: Header, layout: Layout) -> tuple[NDArray, NDArray | None]:
    """Decode the first page, as it is stored: Orientation is not applied.

    Returns:
        Pixels, H x W x 3 or H x W, uint8 or uint16, and alpha, H x W, or None.
    """
    if header.orientation != 1:
        data = exif.upright(data)  # Pillow and cv2 would turn the pixels, and cannot be told otherwise
    has_known_alpha = bool(layout.extra) and layout.extra != (0,)
    if layout.bits <= 8 and (not layout.extra or (has_known_alpha and not layout.planar)):
        return _decode_with_pillow(data, header)
    if not layout.planar and layout.samples != 2:
        stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if stored is None:
            raise ImageError("corrupt", "the pixels of the TIFF cannot be decoded")
        if stored.ndim == 3:
            stored = cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    else:
        stored = _decode_with_tifffile(data, layout)
    if layout.photometric == WHITE_IS_ZERO:
        stored = np.bitwise_not(stored)
    if not layout.extra:
        return stored, None
    pixels, alpha = stored[..., :-1], np.ascontiguousarray(stored[..., -1])
    if layout.extra == (1,):
        pixels = _unpremultiplied(pixels, alpha)
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), alpha


def _decode_with_pillow(data: bytes, header: Header) -> tuple[NDArray, NDArray | None]:
    image = TiffImagePlugin.TiffImageFile(BytesIO(data))
    image.info.pop("xmp", None)  # Pillow would turn the pixels by the orientation in there
    if image.mode == "CMYK":
        # The directory that is carried no longer has the profile of the ink.
        return cmyk.to_rgb(image, image.info.get("icc_profile")), None
    if image.mode in ("LA", "La", "RGBA", "RGBa", "PA"):
        stored = np.array(image.convert("LA" if image.mode in ("LA", "La") else "RGBA"))
        pixels, alpha = stored[..., :-1], np.ascontiguousarray(stored[..., -1])
        return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), alpha
    return np.array(image.convert("L" if header.mode == "L" else "RGB")), None


def _decode_with_tifffile(data: bytes, layout: Layout) -> NDArray:
    """H x W x samples, with samples that were stored plane by plane put side by side."""
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            stored = file.pages.first.asarray()
    except (ValueError, KeyError) as error:
        if "imagecodecs" not in str(error):
            raise
        raise ImageError("unsupported", "a TIFF of this compression is not handled at this arrangement") from None
    return np.ascontiguousarray(np.moveaxis(stored, 0, -1)) if layout.planar and stored.ndim == 3 else stored


def _unpremultiplied(pixels: NDArray, alpha: NDArray) -> NDArray:
    """Colour as it was before it was multiplied by alpha; the light of a pixel is what gets enhanced."""
    levels = np.iinfo(pixels.dtype).max
    scale = np.divide(levels, alpha, out=np.zeros(alpha.shape, np.float32), where=alpha > 0, dtype=np.float32)
    return np.minimum(np.rint(pixels * scale[..., None]), levels).astype(pixels.dtype)


def encode(pixels: NDArray, alpha: NDArray | None, metadata: Metadata) -> bytes:
    """Write one page in strips, compressed without loss, with all tags that were carried.

    Args:
        pixels: H x W x 3 or H x W, uint8 or uint16.
        alpha: H x W of the same dtype, or None.
        metadata: of the TIFF that was decoded.
    """
    tags = Image.Exif()
    if metadata.verbatim:
        tags.load(metadata.verbatim[0])
    samples = np.dstack([pixels] if alpha is None else [pixels, alpha])
    height, width, channels = samples.shape
    # Horizontal differences compress better, and every reader knows them as predictor 2.
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    differences = differences.astype(differences.dtype.newbyteorder("<" if tags.endian == "<" else ">"), copy=False)
    rows = max(1, _STRIP_BYTES // (width * channels * samples.itemsize))
    strips = [zlib.compress(differences[start : start + rows].data, 1) for start in range(0, height, rows)]
    tags[IMAGE_WIDTH], tags[IMAGE_LENGTH] = width, height
    tags[BITS_PER_SAMPLE] = (samples.itemsize * 8,) * channels
    tags[COMPRESSION], tags[PREDICTOR], tags[PLANAR_CONFIGURATION] = 8, 2, 1
    tags[PHOTOMETRIC] = BLACK_IS_ZERO if pixels.ndim == 2 else RGB
    tags[SAMPLES_PER_PIXEL], tags[ROWS_PER_STRIP] = channels, rows
    if alpha is not None:
        tags[EXTRA_SAMPLES] = 2
    sizes = [len(strip) for strip in strips]
    tags[STRIP_BYTE_COUNTS] = tuple(sizes)
    # Pillow adds the length of the directory, behind which the pixels follow.
    tags[STRIP_OFFSETS] = tuple(np.cumsum([0, *sizes[:-1]]).tolist())
    return _serialised(tags) + b"".join(strips)
