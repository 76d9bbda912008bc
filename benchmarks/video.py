"""Enhancing a video against decoding and encoding alone, and against enhancing it through image files.

    python benchmarks/video.py [--seconds 8] [--width 1280 --height 720] [--threads 2] [--preset veryfast]

The clip is a pan over a synthetic dark photograph with sensor noise, in H.264 with sound. Printed are frames per second
and, since machines differ, the ratios within this one run:

    a  decode + encode only, the clip as it is
    b  decode + encode only, of the enhanced clip: bright, with its noise, it costs the encoder more than the dark one
    c  through image files, as the published script does: every frame to a JPEG, the eager model, to a JPEG, to a video
    d  sgllie.video.enhance_video
"""

import argparse
import shutil
import tempfile
import time
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from enhance import EagerModel, clock

from sgllie import Enhancer
from sgllie.video import Encoding, enhance_video

RATE = 30


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


def recode(source: Path, target: Path, encoding: Encoding) -> float:
    """Seconds of a and b: FFmpeg's libraries and nothing between them."""
    with clock() as seconds, av.open(str(source)) as opened, av.open(str(target), "w") as output:
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
    return seconds[0]


def through_files(source: Path, target: Path, scratch: Path, limit: int) -> float:
    """Seconds for each frame of c, with the model loaded; the rate does not depend on the number of frames."""
    model = EagerModel()
    dark, bright = scratch / "dark", scratch / "bright"
    dark.mkdir()
    bright.mkdir()
    with clock() as seconds:
        capture = cv2.VideoCapture(str(source))
        count = 0
        while count < limit:
            found, frame = capture.read()
            if not found:
                break
            cv2.imwrite(str(dark / f"{count:06d}.jpg"), frame)
            count += 1
        for path in sorted(dark.iterdir()):
            enhanced = model.enhance(read(path)[..., ::-1])
            cv2.imwrite(str(bright / path.name), enhanced[..., ::-1])
        writer = None
        for path in sorted(bright.iterdir()):
            picture = read(path)
            if writer is None:
                code = cv2.VideoWriter.fourcc(*"mp4v")
                writer = cv2.VideoWriter(str(target), code, RATE, picture.shape[1::-1])
            writer.write(picture)
        if writer is not None:
            writer.release()
    return seconds[0] / count


def read(path: Path) -> np.ndarray:
    """An image file as BGR."""
    picture = cv2.imread(str(path))
    assert picture is not None
    return picture


def main() -> None:
    """Run all four and print."""
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
    try:
        source, target = scratch / "dark.mp4", scratch / "d.mp4"
        count = make_clip(source, options.width, options.height, options.seconds)
        enhancer = Enhancer.load(device="cpu")
        enhancer(np.zeros((48, 48, 3), np.uint8))
        rates: dict[str, list[float]] = {"a": [], "b": [], "d": []}
        for _ in range(2):
            started = time.perf_counter()
            enhance_video(str(source), target, enhancer, encoding=encoding)
            rates["d"].append(count / (time.perf_counter() - started))
            rates["a"].append(count / recode(source, scratch / "a.mp4", encoding))
            rates["b"].append(count / recode(target, scratch / "b.mp4", encoding))
        a, b, d = (max(found) for found in rates.values())
        c = 1 / through_files(source, scratch / "c.mp4", scratch, limit=60)
    finally:
        shutil.rmtree(scratch)
    print(f"{count} frames of {options.width}x{options.height}, {options.threads} threads, preset {options.preset}")
    print(f"a  decode + encode, as it is      {a:7.1f} frames/s")
    print(f"b  decode + encode, enhanced      {b:7.1f} frames/s")
    print(f"c  through image files            {c:7.1f} frames/s")
    print(f"d  enhance_video                  {d:7.1f} frames/s")
    print(f"d against a                       {d / a:7.2f} times   (goal 0.6)")
    print(f"d against b                       {d / b:7.2f} times")
    print(f"d against c                       {d / c:7.1f} times   (goal 8)")


if __name__ == "__main__":
    main()
