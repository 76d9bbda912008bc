"""TIFF files: bytes to pixels and tags, and back.

Pixels go through libtiff: in Pillow for samples of up to 8 bits, in cv2 for those of 16, which Pillow narrows. Both get
the file with a directory that holds what the pixels need and nothing else, so that no other tag can turn or multiply
the pixels, or cost memory. Arrangements that neither knows are told to them as grey pictures. Other tags are carried
byte for byte.
"""

import warnings
import zlib
from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.errors import ImageError
from sgllie.images import cmyk, exif, ifd, pillow, tiff_layout, tiff_pages, xmp
from sgllie.images.metadata import Header, Metadata
from sgllie.images.tiff_layout import (
    ALPHA,
    BITS_PER_SAMPLE,
    BLACK_IS_ZERO,
    CMYK,
    CODING,
    COMPRESSION,
    EXTRA_SAMPLES,
    HORIZONTAL,
    ICC,
    IMAGE_LENGTH,
    IMAGE_WIDTH,
    PALETTE,
    PHOTOMETRIC,
    PLANAR_CONFIGURATION,
    PREDICTOR,
    PREMULTIPLIED,
    RGB,
    ROWS_PER_STRIP,
    SAMPLE_FORMAT,
    SAMPLES_PER_PIXEL,
    STRIP_BYTE_COUNTS,
    STRIP_OFFSETS,
    WHITE_IS_ZERO,
    YCBCR,
    Layout,
)

XMP, IPTC, PHOTOSHOP = 700, 33723, 34377
_STRUCTURE = CODING.union(
    (254, 255, IMAGE_WIDTH, IMAGE_LENGTH, BITS_PER_SAMPLE, PHOTOMETRIC, 263, 264, 265, STRIP_OFFSETS),
    (SAMPLES_PER_PIXEL, ROWS_PER_STRIP, STRIP_BYTE_COUNTS, 280, 281, PLANAR_CONFIGURATION, 290, 291, 301, 318, 319),
    (*range(321, 326), 330, 333, 334, EXTRA_SAMPLES, SAMPLE_FORMAT, 340, 341, 342, 32997, 32998, 37724),
)
"""Tags that describe the old pixels or their encoding; 37724 holds the layers of Photoshop."""
_PACKETS = frozenset((XMP, IPTC, PHOTOSHOP, ICC))
"""Tags that other formats keep outside EXIF."""
_EXIF_PRIVATE = frozenset((33432, ifd.EXIF, ifd.GPS, *range(40091, 40096)))
"""Tags above 32767 that belong into EXIF blocks; others, such as those of maps, would only fill them."""
_DEFLATE = 8
_STRIP_BYTES = 1 << 20

# Pillow warns of damaged tags on stderr, once for each place in its code; failures arrive as exceptions all the same.
# What libtiff itself prints about damaged strips cannot be stopped from here.
warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")


def read(data: bytes, *, upright: bool) -> tuple[Header, Layout]:
    """Read the directories and check that the pixels they point to are there."""
    first = tiff_pages.read_first(data)
    width, height, layout = tiff_layout.read(first)
    alpha = "" if layout.extra is None else "A"
    mode = {RGB: "RGB" + alpha, PALETTE: "P", CMYK: "CMYK", YCBCR: "YCbCr"}.get(layout.photometric, "L" + alpha)
    metadata = _metadata(first, keep_icc=mode != "CMYK", upright=upright)
    return Header(width, height, mode, layout.bits, metadata, exif.orientation(data)), layout


def _metadata(first: ifd.Directory, *, keep_icc: bool, upright: bool) -> Metadata:
    """Return what the first directory holds besides its structure."""
    fields = ifd.fields(first, _STRUCTURE if keep_icc else _STRUCTURE | {ICC})
    packet, profile = (found.value if isinstance(found := fields.get(tag), ifd.Field) else None for tag in (XMP, ICC))
    if packet:
        packet = xmp.refreshed(packet, upright=upright)
        fields[XMP] = ifd.Field(1, len(packet), packet)
    elsewhere = {tag for tag in fields if tag in _PACKETS or (tag >= 32768 and tag not in _EXIF_PRIVATE)}
    shared = {tag: field for tag, field in fields.items() if tag not in elsewhere}
    directory, block = (
        exif.refreshed(ifd.block(first.order, part), upright=upright) if part else None for part in (fields, shared)
    )
    return Metadata(
        icc=profile,
        exif=block,
        xmp=packet,
        dpi=exif.resolution(first.data),
        verbatim=(directory,) if directory else (),
    )


def decode(data: bytes, header: Header, layout: Layout) -> tuple[NDArray, NDArray | None]:
    """Decode the first page, as it is stored: Orientation is not applied.

    Returns:
        Pixels, H x W x 3 or H x W, uint8 or uint16, and alpha, H x W, or None.
    """
    try:
        stored = _decode_samples(data, header, layout)
    except Exception:
        if layout.cut:
            raise ImageError("truncated", "the TIFF ends before its pixels do") from None
        raise
    if layout.extra is None:
        return np.bitwise_not(stored) if layout.photometric == WHITE_IS_ZERO else stored, None
    pixels, alpha = stored[..., :-1], np.ascontiguousarray(stored[..., -1])
    if layout.photometric == WHITE_IS_ZERO:
        pixels = np.bitwise_not(pixels)
    if layout.extra == PREMULTIPLIED:
        pixels = _unpremultiplied(pixels, alpha)
    return np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels), alpha


def _decode_samples(data: bytes, header: Header, layout: Layout) -> NDArray:
    """Return H x W or H x W x channels, alpha behind the colours; CMYK, YCbCr and palettes become RGB."""
    if layout.planar and layout.photometric not in (CMYK, YCBCR):
        planes = (tiff_layout.plane(layout, number) for number in range(layout.samples))
        return np.dstack([_decode_samples(data, header, plane) for plane in planes])
    if layout.bits == 16 and layout.samples == 2:
        return _decode_pairs(data, header, layout)
    if layout.photometric == WHITE_IS_ZERO:
        layout = replace(layout, photometric=BLACK_IS_ZERO)
    file = tiff_layout.file_of(data, header.width, header.height, layout)
    return _decode_with_cv2(file) if layout.bits == 16 else _decode_with_pillow(file, layout)


def _decode_pairs(data: bytes, header: Header, layout: Layout) -> NDArray:
    """Decode grey with alpha, 16 bits each, as a grey picture of twice the width; H x W x 2."""
    wide = tiff_layout.paired(layout)
    file = tiff_layout.file_of(data, 2 * header.width, header.height, wide)
    stored = _decode_with_cv2(file).reshape(header.height, header.width, 2)
    if layout.predictor == HORIZONTAL:
        for left in range(0, header.width, layout.across):
            columns = stored[:, left : left + layout.across]
            np.add.accumulate(columns, axis=1, out=columns)
    return stored


def _decode_with_cv2(file: bytes) -> NDArray:
    stored = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ImageError("corrupt", "the pixels of the TIFF cannot be decoded")
    if stored.ndim == 3:
        return cv2.cvtColor(stored, cv2.COLOR_BGRA2RGBA if stored.shape[2] == 4 else cv2.COLOR_BGR2RGB)
    return stored


def _decode_with_pillow(file: bytes, layout: Layout) -> NDArray[np.uint8]:
    image = pillow.open_tiff(file)
    if layout.photometric == CMYK:
        return cmyk.to_rgb(image, layout.icc)
    grey = layout.photometric == BLACK_IS_ZERO
    if layout.extra is None:
        return np.array(image.convert("L" if grey else "RGB"))
    return np.array(image.convert("LA" if grey else "RGBA"))


def _unpremultiplied(pixels: NDArray, alpha: NDArray) -> NDArray:
    """Return colour as it was before it was multiplied by alpha; the light of a pixel is what gets enhanced."""
    levels = np.iinfo(pixels.dtype).max
    scale = np.divide(levels, alpha, out=np.zeros(alpha.shape, np.float32), where=alpha > 0, dtype=np.float32)
    return np.minimum(np.rint(pixels * scale[..., None]), levels).astype(pixels.dtype)


def encode(pixels: NDArray, alpha: NDArray | None, metadata: Metadata) -> bytes:
    """Write one page in strips, compressed without loss, with all tags that were carried.

    Args:
        pixels: H x W x 3 or H x W, uint8 or uint16.
        alpha: H x W of the same dtype, or None.
        metadata: of the TIFF that was decoded.

    Raises:
        ImageError: `too_large` where the file would have more than the 4 GiB that a TIFF can address.
    """
    order, fields = "<", {}
    if metadata.verbatim:
        order, fields = ifd.byte_order(metadata.verbatim[0]), ifd.fields(ifd.read(metadata.verbatim[0], 8))
    samples = np.dstack([pixels] if alpha is None else [pixels, alpha])
    height, width, channels = samples.shape
    # Horizontal differences compress better, and every reader knows them as predictor 2.
    differences = samples.copy()
    differences[:, 1:] -= samples[:, :-1]
    differences = differences.astype(f"{order}u{samples.itemsize}", copy=False)
    rows = max(1, _STRIP_BYTES // (width * channels * samples.itemsize))
    strips = [zlib.compress(differences[start : start + rows].data, 1) for start in range(0, height, rows)]
    sizes = [len(strip) for strip in strips]
    numbers = {
        IMAGE_WIDTH: [width],
        IMAGE_LENGTH: [height],
        BITS_PER_SAMPLE: [samples.itemsize * 8] * channels,
        COMPRESSION: [_DEFLATE],
        PHOTOMETRIC: [BLACK_IS_ZERO if pixels.ndim == 2 else RGB],
        SAMPLES_PER_PIXEL: [channels],
        ROWS_PER_STRIP: [rows],
        STRIP_BYTE_COUNTS: sizes,
        PLANAR_CONFIGURATION: [1],
        PREDICTOR: [HORIZONTAL],
    }
    if alpha is not None:
        numbers[EXTRA_SAMPLES] = [ALPHA]
    fields |= {tag: ifd.integers(order, values) for tag, values in numbers.items()}
    offsets = np.cumsum([0, *sizes[:-1]])
    fields[STRIP_OFFSETS] = ifd.longs(order, offsets)
    start = len(ifd.block(order, fields))
    if start + sum(sizes) >= 1 << 32:
        raise ImageError("too_large", "the output is larger than the 4 GiB that a TIFF can hold")
    fields[STRIP_OFFSETS] = ifd.longs(order, offsets + start)
    return b"".join((ifd.block(order, fields), *strips))
