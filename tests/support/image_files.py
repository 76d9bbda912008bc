"""Image files for the tests, made from photographs that scikit-image ships."""

import io
import struct
import zlib

import cv2
import numpy as np
import tifffile
from PIL import Image
from skimage import data

from sgllie.images.png import chunk as png_chunk

RGB = np.ascontiguousarray(data.astronaut()[100:161, 150:233])
GREY = np.ascontiguousarray(data.camera()[100:161, 150:233])
ALPHA = np.add.outer(np.arange(61), np.arange(83)).astype(np.uint8) * 3


def deep(array):
    """16 bits in which the low byte matters."""
    noise = np.random.default_rng(0).integers(0, 256, array.shape)
    return (array.astype(np.uint16) << 8) | noise.astype(np.uint16)


def pillow(array, format, mode=None, **options):
    file = io.BytesIO()
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, format, **options)
    return file.getvalue()


def tiff(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


def png(array, colour, depth, extra=b""):
    """A PNG written by hand, for what Pillow cannot write."""
    array = array.astype(">u2") if depth == 16 else array
    rows = b"".join(b"\0" + row.tobytes() for row in array)
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], depth, colour, 0, 0, 0)
    chunks = png_chunk(b"IHDR", header) + extra + png_chunk(b"IDAT", zlib.compress(rows)) + png_chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def planes(array):
    return np.moveaxis(array, -1, 0)


def with_alpha(array):
    alpha = ALPHA if array.dtype == np.uint8 else deep(ALPHA)
    return np.dstack((array, alpha))


PALETTE = Image.fromarray(RGB).quantize(64)
BILEVEL = Image.fromarray(GREY).convert("1")
BILEVEL_GREY = np.array(BILEVEL).astype(np.uint8) * 255
PALETTE_RGB = np.array(PALETTE.convert("RGB"))
RGBA, LA = with_alpha(RGB), with_alpha(GREY)
WHITE_IS_ZERO = {"photometric": "miniswhite"}
SIDE_BY_SIDE, APART = {"photometric": "rgb"}, {"photometric": "rgb", "planarconfig": "separate"}

# name -> file, format, mode, bits, pixels (with alpha as last channel); only files that hold their pixels exactly
LOSSLESS = {
    "png L": (pillow(GREY, "PNG"), "png", "L", 8, GREY),
    "png RGB": (pillow(RGB, "PNG"), "png", "RGB", 8, RGB),
    "png LA": (pillow(LA, "PNG"), "png", "LA", 8, LA),
    "png RGBA": (pillow(RGBA, "PNG"), "png", "RGBA", 8, RGBA),
    "png 1": (pillow(BILEVEL, "PNG"), "png", "L", 1, BILEVEL_GREY),
    "png P": (pillow(PALETTE, "PNG"), "png", "P", 8, PALETTE_RGB),
    "png L16": (pillow(deep(GREY), "PNG"), "png", "L", 16, deep(GREY)),
    "png RGB16": (png(deep(RGB), 2, 16), "png", "RGB", 16, deep(RGB)),
    "png LA16": (png(deep(LA), 4, 16), "png", "LA", 16, deep(LA)),
    "png RGBA16": (png(deep(RGBA), 6, 16), "png", "RGBA", 16, deep(RGBA)),
    "webp RGB": (pillow(RGB, "WEBP", lossless=True), "webp", "RGB", 8, RGB),
    "webp RGBA": (pillow(RGBA, "WEBP", lossless=True, exact=True), "webp", "RGBA", 8, RGBA),
    "bmp L": (pillow(GREY, "BMP"), "bmp", "L", 8, GREY),
    "bmp RGB": (pillow(RGB, "BMP"), "bmp", "RGB", 8, RGB),
    "bmp P": (pillow(PALETTE, "BMP"), "bmp", "P", 8, PALETTE_RGB),
    "bmp 1": (pillow(BILEVEL, "BMP"), "bmp", "L", 1, BILEVEL_GREY),
    "bmp RGBA": (
        cv2.imencode(".bmp", cv2.cvtColor(RGBA, cv2.COLOR_RGBA2BGRA))[1].tobytes(),
        *("bmp", "RGBA", 8, RGBA),
    ),
    "tiff L": (pillow(GREY, "TIFF"), "tiff", "L", 8, GREY),
    "tiff RGB": (pillow(RGB, "TIFF"), "tiff", "RGB", 8, RGB),
    "tiff RGB lzw": (pillow(RGB, "TIFF", compression="tiff_lzw"), "tiff", "RGB", 8, RGB),
    "tiff RGB deflate": (pillow(RGB, "TIFF", compression="tiff_adobe_deflate"), "tiff", "RGB", 8, RGB),
    "tiff RGB planes": (tiff(planes(RGB), **APART), "tiff", "RGB", 8, RGB),
    "tiff RGB tiles": (tiff(RGB, **SIDE_BY_SIDE, tile=(16, 32)), "tiff", "RGB", 8, RGB),
    "tiff LA": (pillow(LA, "TIFF"), "tiff", "LA", 8, LA),
    "tiff RGBA": (pillow(RGBA, "TIFF"), "tiff", "RGBA", 8, RGBA),
    "tiff RGBA lzw": (pillow(RGBA, "TIFF", compression="tiff_lzw"), "tiff", "RGBA", 8, RGBA),
    "tiff RGB+channel": (tiff(RGBA, **SIDE_BY_SIDE, extrasamples=["unspecified"]), "tiff", "RGBA", 8, RGBA),
    "tiff RGBA planes": (tiff(planes(RGBA), **APART, extrasamples=["unassalpha"]), "tiff", "RGBA", 8, RGBA),
    "tiff P": (pillow(PALETTE, "TIFF"), "tiff", "P", 8, PALETTE_RGB),
    "tiff 1": (pillow(BILEVEL, "TIFF"), "tiff", "L", 1, BILEVEL_GREY),
    "tiff fax": (pillow(BILEVEL, "TIFF", compression="group4"), "tiff", "L", 1, BILEVEL_GREY),
    "tiff L white is zero": (tiff(255 - GREY, **WHITE_IS_ZERO), "tiff", "L", 8, GREY),
    "tiff L16": (pillow(deep(GREY), "TIFF"), "tiff", "L", 16, deep(GREY)),
    "tiff L16 big-endian": (tiff(deep(GREY), byteorder=">"), "tiff", "L", 16, deep(GREY)),
    "tiff L16 white is zero": (tiff(65535 - deep(GREY), **WHITE_IS_ZERO), "tiff", "L", 16, deep(GREY)),
    "tiff LA16": (tiff(deep(LA), extrasamples=["unassalpha"], planarconfig="contig"), "tiff", "LA", 16, deep(LA)),
    "tiff RGB16": (tiff(deep(RGB), **SIDE_BY_SIDE), "tiff", "RGB", 16, deep(RGB)),
    "tiff RGB16 big-endian": (tiff(deep(RGB), byteorder=">", **SIDE_BY_SIDE), "tiff", "RGB", 16, deep(RGB)),
    "tiff RGB16 lzw": (cv2.imencode(".tiff", deep(RGB)[..., ::-1])[1].tobytes(), "tiff", "RGB", 16, deep(RGB)),
    "tiff RGB16 deflate": (
        tiff(deep(RGB), **SIDE_BY_SIDE, compression="zlib", predictor=True),
        *("tiff", "RGB", 16, deep(RGB)),
    ),
    "tiff RGB16 planes": (tiff(planes(deep(RGB)), **APART), "tiff", "RGB", 16, deep(RGB)),
    "tiff RGBA16": (tiff(deep(RGBA), **SIDE_BY_SIDE, extrasamples=["unassalpha"]), "tiff", "RGBA", 16, deep(RGBA)),
    "tiff RGBA16 planes": (
        tiff(planes(deep(RGBA)), **APART, extrasamples=["unassalpha"]),
        *("tiff", "RGBA", 16, deep(RGBA)),
    ),
}
JPEG = pillow(RGB, "JPEG", quality=90)
GREY_JPEG = pillow(GREY, "JPEG", quality=90)
WEBP = pillow(RGB, "WEBP", quality=90)
ONE_OF_EACH = {
    "jpeg": JPEG,
    "progressive jpeg": pillow(RGB, "JPEG", progressive=True),
    "webp": WEBP,
    **{name: LOSSLESS[name][0] for name in ("png RGB", "webp RGBA", "bmp RGB", "tiff RGB", "tiff RGB16 lzw")},
}


def regions(count=5, size=(96, 128), seed=0):
    """A map of ids, the cells of a Voronoi diagram."""
    generator = np.random.default_rng(seed)
    centres = generator.uniform(0, 1, (2 * count, 2)) * size
    rows, columns = np.mgrid[: size[0], : size[1]]
    nearest = np.argmin([(rows - y) ** 2 + (columns - x) ** 2 for y, x in centres], axis=0)
    return (nearest % count).astype(np.uint8)
