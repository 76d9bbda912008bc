"""Images: bytes to arrays and back, with everything around the pixels kept.

    image = decode(data)                        what the file holds
    data = encode(image, enhanced, format="same")   the same file with other pixels

What is kept: size, bit depth, grey or colour, alpha, ICC profile, EXIF, XMP, resolution; in a file of the same format
also IPTC, comments and text. What is not: palettes and images of fewer than 8 bits become 8-bit grey or RGB; CMYK
becomes sRGB; thumbnails inside EXIF are unlinked, since they show the old picture; a JPEG loses gain maps, videos and
further pictures behind the first (MPO), with what points to them in XMP, and signatures of origin; a PNG loses
ancillary chunks whose checksum is wrong. A colour profile that does not fit the output (grey to WebP) is left out.

All codecs release the GIL.
"""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sgllie.errors import ImageError, first_line
from sgllie.images import bmp, hdr, jpeg, png, webp
from sgllie.images.formats import MAX_PIXELS, QUALITY, ExifOrientation, OutputFormat
from sgllie.images.metadata import Header, Metadata, resolution_exif

_LARGEST_SIDE = {"jpeg": 65500, "webp": 16383}
_DECODABLE_SIDE = 1 << 20  # cv2's own limit
_OTHER_FORMATS: dict[bytes, str] = {
    rb"GIF8": "a GIF",
    rb".{4}ftyp(heic|heix|hevc|mif1|msf1)": "a HEIC",
    rb".{4}ftypavi[fs]": "an AVIF",
    rb".{4}ftyp|\x1aE\xdf\xa3": "a video",
    rb"\x00\x00\x00\x0cjP  |\xff\x4f\xff\x51": "a JPEG 2000",
    rb"\x00\x00\x00\x0cJXL |\xff\x0a": "a JPEG XL",
    rb"II\+\x00|MM\x00\+": "a BigTIFF",
    rb"8BPS": "a Photoshop",
    rb"v/1\x01": "an OpenEXR",
    rb"P[1-7]\s": "a PNM",
    rb"#\?(RADIANCE|RGBE)": "a Radiance HDR",
    rb"\x00\x00\x01\x00": "an icon",
    rb"DDS ": "a DDS",
}
_Planes = tuple[NDArray, NDArray | None]
_Pixels = Callable[[int], _Planes]
_Read = tuple[Header, _Pixels]
# cv2 would report every damaged file on stderr; failures reach the caller as ImageError.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


@dataclass(frozen=True, slots=True)
class DecodedImage:
    """An image and all that its output must carry.

    Attributes:
        pixels: H x W x 3 (RGB) or H x W (grey), uint8 or uint16, C-contiguous.
        alpha: H x W of the same dtype, or None.
        format: jpeg, png, webp, bmp or tiff: as the bytes say, not the name.
        mode: channels as in the file: L, LA, RGB, RGBA, P (palette), CMYK, YCbCr (TIFF).
        bit_depth: bits of each channel in the file: 1, 2, 4, 8 or 16.
        metadata: what `encode` carries over.
    """

    pixels: NDArray
    alpha: NDArray | None
    format: str
    mode: str
    bit_depth: int
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class OpenedImage:
    """An image of which the header has been read, and no pixel been decoded.

    Attributes:
        format: as the bytes say, not the name.
        header: with the size that its pixels will have before they are turned.
    """

    format: str
    header: Header
    _pixels: _Pixels
    _upright: bool

    def decode(self, least: int = 0) -> DecodedImage:
        """Decode the pixels; ImageError as `open_image`.

        Args:
            least: if above 0, a JPEG may come at a reduced scale, which takes less time and memory, as long as no side
                is shorter than this.
        """
        with _image_errors(self.format):
            pixels, alpha = self._pixels(least)
            found, stated = pixels.shape[:2], (self.header.height, self.header.width)
            if found != stated and not (least and least <= min(found) and max(found) <= max(stated)):
                raise ImageError("corrupt", "the header and the picture inside the file differ in size")
            return _finished(self.format, self.header, pixels, alpha, self._upright)


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS, exif_orientation: ExifOrientation = "keep") -> OpenedImage:
    """Read the header of a JPEG, PNG, WebP, BMP or TIFF, recognised by its first bytes.

    Args:
        data: the file.
        max_pixels: larger images are refused.
        exif_orientation: `keep` leaves pixels and the Orientation tag as they are; `apply` turns the pixels as the
            tag says and sets it to 1.

    Raises:
        ImageError: the bytes are not a whole image of a kind that is handled; nothing else is raised but MemoryError.
    """
    format, upright = recognised(data), exif_orientation == "apply"
    with _image_errors(format):
        header, pixels = _READERS[format](data, upright)
        _check(header, max_pixels)
    return OpenedImage(format, header, pixels, upright)


def decode(data: bytes, *, max_pixels: int = MAX_PIXELS, exif_orientation: ExifOrientation = "keep") -> DecodedImage:
    """Decode an image; arguments and errors are those of `open_image`."""
    return open_image(data, max_pixels=max_pixels, exif_orientation=exif_orientation).decode()


@contextmanager
def _image_errors(format: str) -> Iterator[None]:
    """Let whatever a decoder raises become an ImageError, but MemoryError."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except (IndexError, struct.error):
        raise ImageError("truncated", f"the {format.upper()} ends inside its header") from None
    except Exception as error:
        # Decoders raise many types for damaged data, and no promise says which.
        raise ImageError("corrupt", f"the {format.upper()} cannot be decoded: {first_line(error)}") from error


def recognised(data: bytes) -> str:
    """Return the format that the first bytes of a file tell; ImageError where it is none that is handled."""
    if data[:2] == b"\xff\xd8":
        return "jpeg"
    if data[:8] == png.MAGIC:
        return "png"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    if data[:4] in (b"II*\0", b"MM\0*"):
        return "tiff"
    if data[:2] == b"BM":
        return "bmp"
    if not data:
        raise ImageError("empty", "the file is empty")
    for pattern, name in _OTHER_FORMATS.items():
        if re.match(pattern, data, re.DOTALL):
            raise ImageError("unsupported", f"the file is {name} file, which is not handled")
    raise ImageError("not_an_image", "the bytes are not those of an image")


def _check(header: Header, max_pixels: int) -> None:
    """Refuse what must not be decoded: no pixels, too many, or pixels in high dynamic range."""
    width, height = header.width, header.height
    if width < 1 or height < 1:
        raise ImageError("corrupt", f"the image declares a size of {width} x {height}")
    if width * height > max_pixels:
        raise ImageError("too_large", f"the image has {width} x {height} pixels; at most {max_pixels} are allowed")
    if max(width, height) > _DECODABLE_SIDE:
        raise ImageError("too_large", f"the image has {width} x {height} pixels; a side may have {_DECODABLE_SIDE}")
    hdr.check_profile(header.metadata.icc)


def _finished(format: str, header: Header, pixels: NDArray, alpha: NDArray | None, upright: bool) -> DecodedImage:
    """Turn the pixels if asked to, and put everything together."""
    if upright and header.orientation != 1:
        pixels = turned(pixels, header.orientation)
        alpha = None if alpha is None else turned(alpha, header.orientation)
    mode = "RGBA" if format == "bmp" and alpha is not None else header.mode  # only its pixels tell
    return DecodedImage(pixels, alpha, format, mode, header.bit_depth, header.metadata)


def turned(pixels: NDArray, orientation: int) -> NDArray:
    """Turn pixels so that an image with this Orientation is upright (EXIF 2.32, section 4.6.4)."""
    if orientation in (5, 7):
        pixels = cv2.transpose(pixels)
    if orientation in (2, 4):
        return cv2.flip(pixels, {2: 1, 4: 0}[orientation])
    rotation = {3: cv2.ROTATE_180, 6: cv2.ROTATE_90_CLOCKWISE, 7: cv2.ROTATE_180, 8: cv2.ROTATE_90_COUNTERCLOCKWISE}
    return cv2.rotate(pixels, rotation[orientation]) if orientation in rotation else pixels


def _read_jpeg(data: bytes, upright: bool) -> _Read:
    header = jpeg.read(data, upright=upright)
    return header, lambda least: (jpeg.decode(data, header, least), None)


def _read_png(data: bytes, upright: bool) -> _Read:
    header, essential = png.read(data, upright=upright)
    return header, lambda _: _decode_png(essential, header)


def _decode_png(essential: bytes, header: Header) -> _Planes:
    pixels, alpha = _decode_with_cv2(essential, "PNG")
    if header.mode in ("L", "LA") and pixels.ndim == 3:
        pixels = cv2.extractChannel(pixels, 0)
    if header.transparent is not None:
        opaque = np.iinfo(pixels.dtype).max
        alpha = np.where(pixels == header.transparent, 0, opaque).astype(pixels.dtype)
    return pixels, alpha


def _read_webp(data: bytes, upright: bool) -> _Read:
    return webp.read(data, upright=upright), lambda _: _decode_with_cv2(data, "WebP")


def _read_bmp(data: bytes, upright: bool) -> _Read:
    header, layout = bmp.read(data)
    return header, lambda _: bmp.decode(data, header, layout)


def _read_tiff(data: bytes, upright: bool) -> _Read:
    from sgllie.images import tiff  # its libraries take a while to load, and most corpora have no TIFF

    header, layout = tiff.read(data, upright=upright)
    return header, lambda _: tiff.decode(data, header, layout)


_READERS: dict[str, Callable[[bytes, bool], _Read]] = {
    "jpeg": _read_jpeg,
    "png": _read_png,
    "webp": _read_webp,
    "bmp": _read_bmp,
    "tiff": _read_tiff,
}


def _decode_with_cv2(data: bytes, name: str) -> _Planes:
    """Return pixels (RGB or grey) and alpha as they are stored, without turning them."""
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if stored is None:
        raise ImageError("corrupt", f"the pixels of the {name} cannot be decoded")
    if stored.ndim == 2:
        return stored, None
    if stored.shape[2] == 4:
        return cv2.cvtColor(stored, cv2.COLOR_BGRA2RGB), cv2.extractChannel(stored, 3)
    return cv2.cvtColor(stored, cv2.COLOR_BGR2RGB, dst=stored), None


def encode(
    image: DecodedImage,
    pixels: NDArray,
    *,
    format: OutputFormat = "same",
    quality: int = QUALITY,
    jpeg_encoder: jpeg.JpegEncoder = jpeg.libjpeg,
) -> bytes:
    """Encode new pixels with the alpha and metadata of an image.

    A format of 8 bits takes 16-bit pixels rounded to 8. JPEG keeps the chroma subsampling of a JPEG, otherwise it is
    4:2:0; WebP stays lossless if it was; PNG, BMP and TIFF are lossless.

    Args:
        image: what `decode` returned.
        pixels: of the same shape and dtype as `image.pixels`.
        format: `same` is the format that the bytes were in, whatever the name.
        quality: of JPEG and lossy WebP, 1 to 100.
        jpeg_encoder: compresses the pixels of a JPEG.

    Raises:
        ImageError: `unsupported` where JPEG would lose transparency, `too_large` for the output format.
    """
    if pixels.shape != image.pixels.shape or pixels.dtype != image.pixels.dtype:
        raise ValueError(
            f"pixels are {pixels.shape} {pixels.dtype}, the image is {image.pixels.shape} {image.pixels.dtype}"
        )
    target = image.format if format == "same" else format
    height, width = pixels.shape[:2]
    limit = _LARGEST_SIDE.get(target, _DECODABLE_SIDE)
    if max(height, width) > limit:
        raise ImageError("too_large", f"{target.upper()} holds at most {limit} pixels a side, not {width} x {height}")
    pixels = np.ascontiguousarray(pixels)
    if target == "jpeg":
        return _encode_jpeg(image, pixels, quality, jpeg_encoder)
    if target == "png":
        return _encode_png(image, pixels)
    if target == "webp":
        return _encode_webp(image, pixels, quality)
    if target == "bmp":
        return bmp.insert(_encode_with_cv2(".bmp", pixels, image.alpha), image.metadata)
    from sgllie.images import tiff

    return tiff.encode(pixels, image.alpha, image.metadata)


def eight_bits(samples: NDArray) -> NDArray:
    """Round samples of 16 bits to 8."""
    return cv2.convertScaleAbs(samples, alpha=1 / 257) if samples.dtype == np.uint16 else samples


def over_grey(pixels: NDArray, alpha: NDArray | None = None) -> NDArray[np.uint8]:
    """Return pixels in 8 bits, over grey where they are transparent."""
    pixels = eight_bits(pixels)
    if alpha is None:
        return pixels
    share = eight_bits(alpha).astype(np.float32) / 255
    share = share if pixels.ndim == 2 else share[..., None]
    return (pixels * share + 128 * (1 - share) + 0.5).astype(np.uint8)


def _fitting(image: DecodedImage, *, grey: bool) -> Metadata:
    """Return metadata for another format, without a profile that is for other channels than the output has."""
    metadata = image.metadata
    if metadata.icc and (image.mode == "CMYK" or metadata.icc[16:20] != (b"GRAY" if grey else b"RGB ")):
        return replace(metadata, icc=None)
    return metadata


def _encode_jpeg(image: DecodedImage, pixels: NDArray, quality: int, encoder: jpeg.JpegEncoder) -> bytes:
    if image.alpha is not None and image.alpha.min() != np.iinfo(image.alpha.dtype).max:
        raise ImageError("unsupported", "the image has transparent parts, which JPEG cannot hold; choose png or webp")
    if image.format == "jpeg":
        segments = image.metadata.verbatim
    else:
        segments = tuple(jpeg.segments_of(_fitting(image, grey=pixels.ndim == 2)))
    return jpeg.encode(eight_bits(pixels), quality, image.metadata.subsampling, segments, encoder)


def _encode_png(image: DecodedImage, pixels: NDArray) -> bytes:
    if pixels.ndim == 2 and image.alpha is not None:
        encoded = png.grey_with_alpha(pixels, image.alpha)
    else:
        encoded = _encode_with_cv2(".png", pixels, image.alpha)
    if image.format == "png":
        return png.insert(encoded, image.metadata.verbatim)
    return png.insert(encoded, tuple(png.chunks_of(_fitting(image, grey=pixels.ndim == 2))))


def _encode_with_cv2(extension: str, pixels: NDArray, alpha: NDArray | None) -> bytes:
    if alpha is not None:
        colour = cv2.COLOR_GRAY2BGRA if pixels.ndim == 2 else cv2.COLOR_RGB2BGRA
        pixels = cv2.cvtColor(pixels, colour)
        cv2.insertChannel(alpha, pixels, 3)
    elif pixels.ndim == 3:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    return cv2.imencode(extension, pixels)[1].tobytes()


def _encode_webp(image: DecodedImage, pixels: NDArray, quality: int) -> bytes:
    metadata = image.metadata if image.format == "webp" else _fitting(image, grey=False)
    pixels = eight_bits(pixels)
    if pixels.ndim == 2:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_GRAY2RGB)
    if image.alpha is not None:
        pixels = np.dstack((pixels, eight_bits(image.alpha)))
    file = BytesIO()
    Image.fromarray(pixels).save(
        file,
        "WEBP",
        lossless=metadata.lossless,
        exact=True,
        quality=quality,
        icc_profile=metadata.icc or b"",
        exif=metadata.exif or resolution_exif(metadata.dpi),
        xmp=metadata.xmp or b"",
    )
    return file.getvalue()
