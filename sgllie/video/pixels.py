"""Between decoded frames of any pixel format and RGB pictures: own code for 4:2:0 (`yuv`), swscale for the rest."""

from typing import NamedTuple

import av
import numpy as np
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from numpy.typing import NDArray

from sgllie.enhancer import Pixels
from sgllie.errors import VideoError
from sgllie.video import yuv
from sgllie.video.formats import reason
from sgllie.video.info import VideoInfo

# swscale's fast path to 8-bit RGB is one to two levels too dark, which is a fifth of the brightness of a dark pixel. Of
# the exact ways this is the quickest; with 16 bits the last of these flags gives wrong colours, and is not needed.
TO_8_BITS = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT)
TO_16_BITS = FROM_RGB = int(Interpolation.BILINEAR | Interpolation.ACCURATE_RND)


RGB = {(False, False): "rgb24", (True, False): "rgb48le", (False, True): "rgba", (True, True): "rgba64le"}
"""Formats of RGB pictures, by whether they have more than 8 bits, and whether they have an alpha channel."""


class Decoded(NamedTuple):
    """H x W x 3 pixels, uint8 or uint16, full range; and H x W alpha of the same type where the video has it."""

    pixels: Pixels
    alpha: Pixels | None


class PixelReader:
    """Turns the frames of one video into RGB, all to the size of its first one."""

    def __init__(self, info: VideoInfo) -> None:
        self.info = info
        self.reformatter = VideoReformatter()

    def read(self, frame: av.VideoFrame) -> Decoded:
        """Return the pixels of a frame; VideoError where they cannot be turned into RGB."""
        info = self.info
        if frame.format.name in yuv.FORMATS and (frame.width, frame.height) == (info.width, info.height):
            return Decoded(yuv.to_rgb(frame), None)
        is_deep, has_alpha = info.depth > 8, any(component.is_alpha for component in frame.format.components)
        try:
            converted = self.reformatter.reformat(
                frame,
                width=info.width,
                height=info.height,
                format=RGB[is_deep, has_alpha],
                dst_color_range=ColorRange.JPEG,
                interpolation=TO_16_BITS if is_deep else TO_8_BITS,
                threads=1,
            )
        except (av.FFmpegError, ValueError) as error:
            sentence = f"its pixels ({frame.format.name}) cannot be turned into RGB: {reason(error)}"
            raise VideoError("unsupported", sentence) from error
        samples = converted.to_ndarray()
        alpha = np.ascontiguousarray(samples[..., 3]) if has_alpha else None
        return Decoded(np.ascontiguousarray(samples[..., :3]), alpha)


class FrameMaker:
    """Turns RGB pictures into frames of one pixel format.

    Args:
        pixel_format: of the frames: one of 4:2:0, 4:2:2 or 4:4:4, or of RGB.
        matrix: of ITU-T H.273.
        colour_range: 1 for limited, 2 for full.
        interlaced: whether even and odd rows come from two moments.
    """

    def __init__(self, pixel_format: str, matrix: int, colour_range: int, interlaced: bool) -> None:
        self.pixel_format, self.matrix, self.colour_range = pixel_format, matrix, colour_range
        self.interlaced = interlaced
        format = av.VideoFormat(pixel_format)
        self.is_rgb, self.has_alpha = format.is_rgb, any(component.is_alpha for component in format.components)
        self.reformatter = VideoReformatter()

    def make(self, pixels: Pixels, alpha: Pixels | None = None, carrier: av.VideoFrame | None = None) -> av.VideoFrame:
        """Return the frame of a picture.

        Args:
            pixels: H x W x 3, uint8 or uint16.
            alpha: H x W, of the same type; only formats of RGB hold it.
            carrier: a frame whose captions and the like it takes over.
        """
        frame = self._make(pixels, alpha)
        return frame if carrier is None else self._carried(frame, carrier)

    def _make(self, pixels: Pixels, alpha: Pixels | None) -> av.VideoFrame:
        if self.pixel_format in yuv.FORMATS:
            return yuv.to_frame(pixels, self.pixel_format, self.matrix, self.colour_range, interlaced=self.interlaced)
        samples = np.dstack([pixels, alpha]) if self.has_alpha and alpha is not None else pixels
        frame = av.VideoFrame.from_numpy_buffer(samples, RGB[pixels.itemsize > 1, samples.shape[2] == 4])
        frame.colorspace, frame.color_range = self.matrix, ColorRange.JPEG
        if self.is_rgb:
            return frame  # the encoder takes it as it is
        return self.reformatter.reformat(
            frame,
            format=self.pixel_format,
            dst_colorspace=self.matrix,
            dst_color_range=self.colour_range,
            interpolation=FROM_RGB,
            threads=1,
        )

    def _carried(self, frame: av.VideoFrame, carrier: av.VideoFrame) -> av.VideoFrame:
        """Return the pixels of one frame in another, which keeps what it carries beside them."""
        taken = carrier.reformat(frame.width, frame.height, frame.format.name)
        taken.make_writable()
        for target, source in zip(plane_rows(taken), plane_rows(frame), strict=True):
            columns = min(target.shape[1], source.shape[1])
            target[:, :columns] = source[:, :columns]
        taken.colorspace, taken.color_range = self.matrix, self.colour_range
        taken.pict_type = av.video.frame.PictureType.NONE  # the encoder is free to choose
        return taken


def plane_rows(frame: av.VideoFrame) -> list[NDArray[np.uint8]]:
    """Return the rows of each plane of a frame as bytes of its own memory, padding included."""
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height]  # type: ignore[call-overload]
        for plane in frame.planes
    ]
