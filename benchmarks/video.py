"""Compare enhancing a video with decoding and encoding alone, and with enhancing it through image files.

    python benchmarks/video.py [--seconds 8] [--width 1280 --height 720] [--threads 2] [--preset veryfast]
        [--published-weights sgz_Epoch99.pth]

The clip is a pan over a synthetic dark photograph with sensor noise, in H.264 with sound. Printed are frames per second
and, since machines differ, the ratios within this one run:

    a  decode + encode only, the clip as it is
    b  decode + encode only, the clip in and its enhanced pictures out, which lie ready in memory
    c  through image files, step by step as the published scripts do it, in a process of its own
    d  sgllie.video.clip.enhance_video

What enhancement adds is told by b: the same is decoded and the same is encoded as in d. Against a, d is charged for the
noise, too, that was invisible in the dark, and is most of what is encoded in the bright.
"""

import argparse
import math
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import av
import cv2
import numpy as np
import torch
from PIL import Image
from published import published_network
from torchvision.utils import save_image

from sgllie import Enhancer
from sgllie.network import model
from sgllie.runs.allocator import keep_freed_memory
from sgllie.runs.isolation import Isolated
from sgllie.video import yuv
from sgllie.video.ahead import ahead
from sgllie.video.clip import BATCH, Encoding, batches, enhance_pictures, enhance_video
from sgllie.video.reader import VideoReader
from sgllie.video.smoothing import Smoother

RATE = 30
SCALE = 12
FRAMES_OF_C = 30
TURNS = 3


def make_clip(path: Path, width: int, height: int, seconds: float) -> int:
    """Write the clip; return the number of its frames."""
    generator = np.random.default_rng(0)
    count = round(seconds * RATE)
    wide = np.zeros((height, width + 2 * count, 3), np.float32)
    for octave in range(3, 9):
        coarse = generator.normal(0, 1, (2**octave * 3 // 4, 2**octave, 3)).astype(np.float32)
        wide += cv2.resize(coarse, wide.shape[1::-1], interpolation=cv2.INTER_CUBIC) * 2.0 ** (3 - octave)
    noises = [generator.normal(0, 1.5, (height, width, 3)).astype(np.float32) for _ in range(7)]
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=RATE, options={"crf": "20"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        audio = output.add_stream("aac", rate=48000, layout="mono")
        for number in range(count):
            window = wide[:, 2 * number : 2 * number + width] * 12 + 25 + noises[number % 7]
            frame = av.VideoFrame.from_ndarray(np.clip(window, 0, 255).astype(np.uint8), "rgb24")
            output.mux(video.encode(frame))
        output.mux(video.encode(None))
        for start in range(0, int(seconds * 48000), 1024):
            tone = np.sin(np.arange(start, start + 1024) * 0.06, dtype=np.float32)[None] * np.float32(0.3)
            sound = av.AudioFrame.from_ndarray(tone, "fltp", "mono")
            sound.sample_rate, sound.pts, sound.time_base = 48000, start, Fraction(1, 48000)
            output.mux(audio.encode(sound))
        output.mux(audio.encode(None))
    return count


def enhanced_pictures(source: Path, enhancer: Enhancer) -> list[av.VideoFrame]:
    """Return the pictures that d encodes."""
    frames = []
    with VideoReader(str(source)) as reader:
        info = reader.info
        for picture, _ in enhance_pictures(batches(reader.pictures()), None, enhancer, Smoother(0.9)):
            frame = yuv.to_frame(picture.pixels, "yuv420p", info.colour.matrix, info.colour.range or 1)
            frame.pts, frame.time_base = picture.pts, info.time_base
            frames.append(frame)
    return frames


def recode(source: Path, target: Path, encoding: Encoding, pictures: list[av.VideoFrame] | None = None) -> None:
    """Do what a and b are: decode and encode with FFmpeg's libraries, on a thread each, with nothing between them.

    With `pictures`, these are encoded in the place of what was decoded.
    """
    with av.open(str(source)) as opened, av.open(str(target), "w") as output:
        original = opened.streams.video[0]
        original.thread_type, original.thread_count = "AUTO", encoding.threads
        options = {"crf": str(encoding.crf), "preset": encoding.preset}
        video = output.add_stream("libx264", rate=original.average_rate or RATE, options=options)
        video.width, video.height, video.pix_fmt = original.width, original.height, "yuv420p"
        video.thread_type, video.thread_count = "AUTO", encoding.threads
        assert original.time_base is not None
        video.codec_context.time_base = original.time_base
        for number, frame in enumerate(ahead(opened.decode(original), depth=BATCH)):
            output.mux(video.encode(pictures[number] if pictures else frame))
        output.mux(video.encode(None))


class PublishedScripts:
    """What c is: the first FRAMES_OF_C frames, with the model loaded; the rate does not depend on their number.

    The published scripts are three: OpenCV writes each frame as a JPEG; Pillow reads it, eager torch (which records
    gradients) enhances it, cropped to multiples of the scale factor, and torchvision writes a JPEG (quality 75, its
    default); OpenCV reads that and writes MPEG-4 (part 2). Both libraries use all processors, as they do by themselves.

    Args:
        checkpoint: the published weights, with the denormal values that they hold, which slow convolutions down; by
            default our own.
    """

    def __init__(self, checkpoint: Path | None) -> None:
        self.network = published_network(checkpoint)

    def __call__(self, source: Path, scratch: Path) -> "Cost":
        """Run the three on a video; return what each frame costs."""
        dark, bright = scratch / "dark", scratch / "bright"
        dark.mkdir()
        bright.mkdir()
        return measured(FRAMES_OF_C, partial(self.through_files, source, dark, bright, scratch / "c.mp4"))

    def through_files(self, source: Path, dark: Path, bright: Path, target: Path) -> None:
        """Go from video to video, through image files."""
        capture = cv2.VideoCapture(str(source))
        for number in range(FRAMES_OF_C):
            _, frame = capture.read()
            cv2.imwrite(str(dark / f"{number:06d}.jpg"), frame)
        for path in sorted(dark.iterdir()):
            self.enhance(path, bright / path.name)
        paths = sorted(bright.iterdir())
        writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), RATE, read(paths[0]).shape[1::-1])
        for path in paths:
            writer.write(read(path))
        writer.release()

    def enhance(self, source: Path, target: Path) -> None:
        """Enhance one JPEG into another."""
        pixels = torch.from_numpy(np.asarray(Image.open(source)) / 255.0).float()
        height, width = (side // SCALE * SCALE for side in pixels.shape[:2])
        x = pixels[:height, :width].permute(2, 0, 1)[None]
        factor = model.upscale(self.network(model.downscale(x, SCALE)), SCALE)
        save_image(model.curve(x, factor), target)


def read(path: Path) -> np.ndarray:
    """Read an image file: H x W x 3 BGR uint8."""
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


class Cost(NamedTuple):
    """Seconds for each frame, by the clock and of the processors."""

    clock: float
    processors: float


def measured(frames: int, work: Callable[[], object]) -> Cost:
    """Return what a frame of the work costs."""
    clock, processors = time.perf_counter(), time.process_time()
    work()
    return Cost((time.perf_counter() - clock) / frames, (time.process_time() - processors) / frames)


def best(costs: list[Cost]) -> Cost:
    """Return the least of both times."""
    return Cost(min(cost.clock for cost in costs), min(cost.processors for cost in costs))


def main() -> None:
    """Run all four in turns, and print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--preset", default="veryfast")
    parser.add_argument("--published-weights", type=Path, help="the published checkpoint, for c; by default ours")
    options = parser.parse_args()
    encoding = Encoding(preset=options.preset, threads=options.threads)
    keep_freed_memory()  # as the workers of the job do
    cv2.setNumThreads(1)
    costs: dict[str, list[Cost]] = {"a": [], "b": [], "c": [], "d": []}
    with (
        TemporaryDirectory(prefix="sgllie-benchmark-") as scratch,
        Isolated(1, math.inf, PublishedScripts, options.published_weights) as published,
    ):
        source = Path(scratch) / "dark.mp4"
        count = make_clip(source, options.width, options.height, options.seconds)
        enhancer = Enhancer.load(device="cpu")
        pictures = enhanced_pictures(source, enhancer)  # compiles the kernels, too
        for turn in range(TURNS):
            files = Path(scratch) / str(turn)
            files.mkdir()
            whole = partial(enhance_video, str(source), files / "d.mp4", enhancer, encoding=encoding)
            costs["d"].append(measured(count, whole))
            costs["a"].append(measured(count, partial(recode, source, files / "a.mp4", encoding)))
            costs["b"].append(measured(count, partial(recode, source, files / "b.mp4", encoding, pictures)))
            costs["c"].append(published(source, files))
    print(f"{count} frames of {options.width}x{options.height}, {options.threads} threads, preset {options.preset}")
    report({name: best(costs[name]) for name in costs})


def report(costs: dict[str, Cost]) -> None:
    """Print rates and ratios."""
    lines = {
        "a": "decode + encode, as it is",
        "b": "decode + encode, enhanced",
        "c": "through image files",
        "d": "enhance_video",
    }
    for name, line in lines.items():
        cost = costs[name]
        print(f"{name}  {line:27} {1 / cost.clock:7.1f} frames/s  {cost.processors * 1000:7.1f} ms of the processors")
    d = costs["d"]
    for name, goal in (("b", "goal 0.6"), ("a", "with the noise that becomes visible"), ("c", "goal 8")):
        ratio, own = costs[name].clock / d.clock, costs[name].processors / d.processors
        print(f"d against {name}  {ratio:6.2f} times by the clock, {own:6.2f} by the processors ({goal})")


if __name__ == "__main__":
    main()
