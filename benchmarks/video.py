"""Enhancing a video against decoding and encoding alone, and against enhancing it through image files.

    python benchmarks/video.py [--seconds 8] [--width 1280 --height 720] [--threads 2] [--preset veryfast]

The clip is a pan over a synthetic dark photograph with sensor noise, in H.264 with sound. Printed are frames per second
and, since machines differ, the ratios within this one run:

    a  decode + encode only, the clip as it is
    b  decode + encode only, of the enhanced clip: bright, with its noise, it costs the encoder more than the dark one
    c  through image files, as the published script does: every frame to a JPEG, the eager model, to a JPEG, to a video
    d  sgllie.video.clip.enhance_video
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import cv2
import numpy as np
from enhance import EagerModel

from sgllie import Enhancer
from sgllie.video.clip import Encoding, enhance_video

RATE = 30
FRAMES_OF_C = 30


def make_clip(path: Path, width: int, height: int, seconds: float) -> int:
    """Write the clip; the number of its frames."""
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


def recode(source: Path, target: Path, encoding: Encoding) -> None:
    """What a and b are: FFmpeg's libraries and nothing between them."""
    with av.open(str(source)) as opened, av.open(str(target), "w") as output:
        original = opened.streams.video[0]
        original.thread_type, original.thread_count = "AUTO", encoding.threads
        options = {"crf": str(encoding.crf), "preset": encoding.preset}
        video = output.add_stream("libx264", rate=original.average_rate or RATE, options=options)
        video.width, video.height, video.pix_fmt = original.width, original.height, "yuv420p"
        video.codec_context.thread_count = encoding.threads
        assert original.time_base is not None
        video.codec_context.time_base = original.time_base
        for frame in opened.decode(original):
            output.mux(video.encode(frame))
        output.mux(video.encode(None))


def through_files(source: Path, target: Path, scratch: Path, model: EagerModel) -> None:
    """What c is: the first FRAMES_OF_C frames, with the model loaded; the rate does not depend on their number."""
    dark, bright = scratch / "dark", scratch / "bright"
    dark.mkdir()
    bright.mkdir()
    capture = cv2.VideoCapture(str(source))
    for number in range(FRAMES_OF_C):
        _, frame = capture.read()
        cv2.imwrite(str(dark / f"{number:06d}.jpg"), frame)
    for path in sorted(dark.iterdir()):
        enhanced = model.enhance(read(path)[..., ::-1])
        cv2.imwrite(str(bright / path.name), enhanced[..., ::-1])
    paths = sorted(bright.iterdir())
    writer = cv2.VideoWriter(str(target), cv2.VideoWriter.fourcc(*"mp4v"), RATE, read(paths[0]).shape[1::-1])
    for path in paths:
        writer.write(read(path))
    writer.release()


def read(path: Path) -> np.ndarray:
    """An image file as BGR."""
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


class Cost(NamedTuple):
    """Seconds for each frame, by the clock and of the processors."""

    clock: float
    processors: float


def measured(frames: int, work: Callable[[], object]) -> Cost:
    """What the work costs."""
    clock, processors = time.perf_counter(), time.process_time()
    work()
    return Cost((time.perf_counter() - clock) / frames, (time.process_time() - processors) / frames)


def best(costs: list[Cost]) -> Cost:
    """The least of each."""
    return Cost(min(cost.clock for cost in costs), min(cost.processors for cost in costs))


def main() -> None:
    """Run all four in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--preset", default="veryfast")
    options = parser.parse_args()
    encoding = Encoding(preset=options.preset, threads=options.threads)
    cv2.setNumThreads(1)
    scratch = Path(tempfile.mkdtemp(prefix="sgllie-benchmark-"))
    costs: dict[str, list[Cost]] = {"a": [], "b": [], "c": [], "d": []}
    try:
        source, target = scratch / "dark.mp4", scratch / "d.mp4"
        count = make_clip(source, options.width, options.height, options.seconds)
        enhancer, model = Enhancer.load(device="cpu"), EagerModel()
        warm = np.zeros((48, 48, 3), np.uint8)
        model.enhance(warm)
        enhancer(warm)
        for turn in range(2):
            whole = partial(enhance_video, str(source), target, enhancer, encoding=encoding)
            costs["d"].append(measured(count, whole))
            costs["a"].append(measured(count, partial(recode, source, scratch / "a.mp4", encoding)))
            costs["b"].append(measured(count, partial(recode, target, scratch / "b.mp4", encoding)))
            files = scratch / str(turn)
            files.mkdir()
            costs["c"].append(measured(FRAMES_OF_C, partial(through_files, source, files / "c.mp4", files, model)))
    finally:
        shutil.rmtree(scratch)
    a, b, c, d = (best(costs[name]) for name in "abcd")
    print(f"{count} frames of {options.width}x{options.height}, {options.threads} threads, preset {options.preset}")
    print(
        f"a  decode + encode, as it is   {1 / a.clock:7.1f} frames/s  {a.processors * 1000:7.1f} ms of the processors"
    )
    print(f"b  decode + encode, enhanced   {1 / b.clock:7.1f} frames/s  {b.processors * 1000:7.1f} ms")
    print(f"c  through image files         {1 / c.clock:7.1f} frames/s  {c.processors * 1000:7.1f} ms")
    print(f"d  enhance_video               {1 / d.clock:7.1f} frames/s  {d.processors * 1000:7.1f} ms")
    for name, other, goal in (("a", a, "goal 0.6"), ("b", b, "goal 0.6"), ("c", c, "goal 8")):
        ratio, own = other.clock / d.clock, other.processors / d.processors
        print(f"d against {name}        {ratio:6.2f} times by the clock, {own:6.2f} by the processors ({goal})")


if __name__ == "__main__":
    main()
