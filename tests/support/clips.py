"""Short video clips for the tests, made with PyAV from photographs and noise."""

import math
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from places import SAMPLES
from sgllie.video.reader import VideoReader

TICKS = Fraction(1, 15360)
RATE = 30


def photograph(name: str = "coffee.jpg", size: tuple[int, int] = (96, 160)) -> np.ndarray:
    """A dark photograph of the samples as floats 0..255, cut to the shape of `size` and scaled."""
    picture = cv2.imread(str(SAMPLES / name))[..., ::-1].astype(np.float32)
    height, width = size
    scale = max(height / picture.shape[0], width / picture.shape[1])
    picture = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])


def noisy(picture: np.ndarray, generator: np.random.Generator, sigma: float = 3.0) -> np.ndarray:
    """The picture with sensor noise, as uint8."""
    return np.clip(picture + generator.normal(0, sigma, picture.shape) + 0.5, 0, 255).astype(np.uint8)


def static(count: int = 60, size: tuple[int, int] = (96, 160), name: str = "coffee.jpg", seed: int = 0):
    """A scene that does not move, with noise."""
    generator, still = np.random.default_rng(seed), photograph(name, size)
    return [noisy(still, generator) for _ in range(count)]


def pan(count: int = 60, size: tuple[int, int] = (96, 160), name: str = "rocket.jpg", seed: int = 1):
    """A window that moves over a photograph by a pixel a frame, with noise."""
    height, width = size
    generator, wide = np.random.default_rng(seed), photograph(name, (height, width + count))
    return [noisy(wide[:, shift : shift + width], generator) for shift in range(count)]


def steady(count: int, rate: int = RATE) -> list[int]:
    """Timestamps of a constant frame rate."""
    return [round(number / rate / TICKS) for number in range(count)]


def varying(count: int, seed: int = 2, start: int = 0) -> list[int]:
    """Timestamps of a variable frame rate."""
    steps = np.random.default_rng(seed).integers(200, 1500, count)
    return [start, *(start + np.cumsum(steps)[:-1]).tolist()]


def sine(seconds: float, rate: int = 48000) -> np.ndarray:
    """A tone, mono, as 1 x N floats."""
    return (0.4 * np.sin(2 * math.pi * 440 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)[None]


def write_clip(
    path: Path,
    frames: list[np.ndarray],
    times: list[int] | None = None,
    *,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    options: dict[str, str] | None = None,
    sound: bool = True,
    rotation: int = 0,
    colour: tuple[int, int, int, int] = (1, 1, 1, 1),
    metadata: dict[str, str] | None = None,
    subtitles: list[str] | None = None,
) -> Path:
    """Write a clip; `colour` is range, matrix, primaries, transfer."""
    times = times if times is not None else steady(len(frames))
    exact = {"video_track_timescale": str(TICKS.denominator), "movie_timescale": str(TICKS.denominator)}
    with av.open(str(path), "w", container_options=exact if path.suffix in (".mp4", ".mov") else {}) as output:
        output.metadata.update(metadata or {})
        video = output.add_stream(codec, rate=RATE, options=options or {"crf": "10", "g": "24"})
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pixels
        context = video.codec_context
        context.time_base = video.time_base = TICKS
        context.thread_count = 1
        context.color_range, context.colorspace, context.color_primaries, context.color_trc = colour
        if rotation:
            video.set_display_rotation(rotation)
        audio = output.add_stream("aac", rate=48000, layout="mono") if sound else None
        text = output.add_mux_stream("mov_text" if path.suffix == ".mp4" else "subrip") if subtitles else None
        for frame in video_frames(frames, times, pixels, colour):
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        if audio is not None:
            write_sound(output, audio, float(times[-1] * TICKS))
        if text is not None:
            write_subtitles(output, text, subtitles)
    return path


def video_frames(frames, times, pixels, colour):
    """The frames in the pixel format of the encoder."""
    for picture, pts in zip(frames, times, strict=True):
        frame = av.VideoFrame.from_ndarray(picture, "rgb24" if picture.dtype == np.uint8 else "rgb48le")
        frame = frame.reformat(format=pixels, dst_colorspace=colour[1], dst_color_range=colour[0])
        frame.pts, frame.time_base = pts, TICKS
        yield frame


def write_sound(output, audio, seconds):
    """A sine of this length."""
    samples = sine(seconds)
    for start in range(0, samples.shape[1], 1024):
        frame = av.AudioFrame.from_ndarray(samples[:, start : start + 1024], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        output.mux(audio.encode(frame))
    output.mux(audio.encode(None))


def write_subtitles(output, stream, lines):
    """A line each half second."""
    for number, line in enumerate(lines):
        text = line.encode()
        packet = av.Packet(len(text).to_bytes(2, "big") + text if output.format.name == "mp4" else text)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = 500 * number
        packet.duration = 400
        output.mux(packet)


def timestamps(path: Path) -> list[Fraction]:
    """When each decoded frame is shown, in seconds."""
    with av.open(str(path)) as container:
        return [frame.pts * frame.time_base for frame in container.decode(video=0)]


def pictures(path: Path) -> list[np.ndarray]:
    """All frames as RGB."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def decoded(path: Path) -> list[np.ndarray]:
    """All frames as the network gets them."""
    with VideoReader(str(path)) as reader:
        return [picture.pixels for picture in reader.pictures()]


def packets(path: Path, kind: str) -> list[tuple[Fraction, Fraction | None, bytes]]:
    """Time, duration and bytes of all packets of audio or subtitles."""
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == kind]
        found = [packet for packet in container.demux(streams) if packet.size] if streams else []
        return [
            (packet.pts * packet.time_base, (packet.duration or 0) * packet.time_base, bytes(packet))
            for packet in found
        ]
