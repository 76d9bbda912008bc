"""Compare the enhancement job with a bare codec pool, the usual Ray pattern and the published script's loop.

    python benchmarks/enhance.py [--images 10000] [--workers 2] [--photographs FOLDER] [--published-weights FILE]

All of them read JPEGs of about 640x480 from one folder and write JPEGs of quality 95 to another. Printed are images per
second and, since machines differ, the ratios between them within this one run:

    a  decode + encode only, a plain pool of processes; what it encodes are the brightened pictures, for these take
       longer to encode than dark ones
    b  read_images -> map_batches with the eager torch model -> write_images, as Ray's examples do it
    c  one image after another with the eager model, as the published script does
    d  sgllie enhance: the whole command, and its steady state

With `--published-weights` (sgz_Epoch99.pth) b and c hold these, as they are: most of their values are denormal, which
slows convolutions down on many processors. Without, they hold ours.

Leave ten minutes between two runs: ext4 avoids the inodes of files that were just deleted, as a run does at its end,
and is slower at making new ones meanwhile. Runs right after another gave d 0.61 and 0.62 of a, others 0.67 to 0.70; the
kernel took a tenth of the workers' time instead of a twenty-fifth, which explains about half of that.
"""

import argparse
import logging
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from pictures import encode, fill, photographs
from rows import finished_times

from sgllie import Enhancer
from sgllie.images import decode
from sgllie.runs import machine

SLOW_SHARE = 20
"""b and c run on one image for so many of a and d; their rates do not depend on the number."""


class Recoder:
    """Reads, decodes, encodes and writes, in the processes of a."""

    bright: list[np.ndarray]
    """What comes of each of the pictures that the input repeats."""

    @classmethod
    def prepare(cls, jpegs: list[bytes]) -> None:
        """Brighten the pictures, before the clock starts."""
        cv2.setNumThreads(1)
        enhancer = Enhancer.load(device="cpu")
        cls.bright = [enhancer(decode(jpeg).pixels)[..., ::-1].copy() for jpeg in jpegs]

    @classmethod
    def recode(cls, job: tuple[str, str]) -> None:
        """Decode an image, and encode what comes of it; the job names source and target."""
        source, target = job
        assert cv2.imdecode(np.fromfile(source, np.uint8), cv2.IMREAD_COLOR) is not None
        Path(target).write_bytes(encode(cls.bright[int(Path(source).stem) % len(cls.bright)]))


def codec_pool(source: Path, jpegs: list[bytes], target: Path, workers: int) -> float:
    """Measure the images per second of a; the processes are warm before the clock starts."""
    jobs = [(str(path), str(target / path.name)) for path in sorted(source.rglob("*.jpg"))]
    target.mkdir()
    context = multiprocessing.get_context("spawn")  # a fork of a process with threads can hang
    with context.Pool(workers, initializer=Recoder.prepare, initargs=(jpegs,)) as pool:
        pool.map(Recoder.recode, jobs[: 4 * workers])
        with clock() as seconds:
            for _ in pool.imap_unordered(Recoder.recode, jobs, chunksize=32):
                pass
    return len(jobs) / seconds[0]


def usual_ray_pattern(source: Path, target: Path, workers: int, checkpoint: Path | None) -> float:
    """Measure the images per second of b, from the first read to the last write, without the start of Ray."""
    import ray
    from ray.data import ActorPoolStrategy

    # One CPU more than actors: with none left over, the read tasks would wait for the actors for ever.
    ray.init(num_cpus=workers + 1, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    count = sum(1 for _ in source.rglob("*.jpg"))
    with clock() as seconds:
        images = ray.data.read_images(str(source), mode="RGB")
        bright = images.map_batches(
            EagerModel,
            fn_constructor_args=(checkpoint,),
            batch_size=1,
            compute=ActorPoolStrategy(size=workers),
            num_cpus=1,
        )
        bright.write_images(str(target), column="image", file_format="jpeg")
    ray.shutdown()
    return count / seconds[0]


class EagerModel:
    """The torch model as it is usually wrapped, with a published checkpoint or our own weights."""

    def __init__(self, checkpoint: Path | None) -> None:
        import torch
        from published import published_network

        from sgllie.network import model

        self.torch = torch
        self.model = model.EnhancementModel(published_network(checkpoint), 12)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Enhance the images of a batch."""
        return {"image": np.stack([self.enhance(image) for image in batch["image"]])}

    def enhance(self, image: np.ndarray) -> np.ndarray:
        """Enhance an image: H x W x 3 uint8 -> the same."""
        with self.torch.inference_mode():
            x = self.torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
            enhanced = self.model(x)[0][0].permute(1, 2, 0)
            return (enhanced * 255).round().byte().numpy()


def one_after_another(source: Path, target: Path, checkpoint: Path | None) -> float:
    """Measure the images per second of c, with the model loaded; torch may use all cores, as the script lets it."""
    model = EagerModel(checkpoint)
    paths = sorted(source.rglob("*.jpg"))
    target.mkdir()
    with clock() as seconds:
        for path in paths:
            pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR_RGB)
            assert pixels is not None
            enhanced = model.enhance(pixels)
            (target / path.name).write_bytes(encode(enhanced[..., ::-1]))
    return len(paths) / seconds[0]


def our_job(source: Path, target: Path, workers: int) -> dict[str, float]:
    """Measure the images per second of d, whole and steady, and the seconds before the first and after the last."""
    begun = time.time()
    arguments = ["enhance", source, target]
    if workers != machine.whole_processors():  # which it has by itself
        arguments += ["--num-actors", workers]
    with clock() as seconds:
        subprocess.run([sys.executable, "-m", "sgllie", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
    finished = finished_times(target)
    middle = finished[len(finished) // 10 : -len(finished) // 10]
    return {
        "whole": len(finished) / seconds[0],
        "steady": (len(middle) - 1) / (middle[-1] - middle[0]),
        "first": finished[0] - begun,
        "last": begun + seconds[0] - finished[-1],
    }


@contextmanager
def clock() -> Iterator[list[float]]:
    """Time a block: yield a list that holds its seconds when it has ended."""
    seconds: list[float] = []
    started = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - started)


def main() -> None:
    """Run all four, and print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--photographs", type=Path, help="folder of JPEGs; synthetic images without it")
    parser.add_argument("--published-weights", type=Path, help="the published checkpoint, for b and c; by default ours")
    options = parser.parse_args()
    published = options.published_weights and options.published_weights.resolve()  # workers live elsewhere
    with TemporaryDirectory(prefix="sgllie-benchmark-") as folder:
        scratch = Path(folder)
        jpegs = photographs(options.photographs)
        all_images = fill(scratch / "all", jpegs, options.images)
        few_images = fill(scratch / "few", jpegs, max(options.images // SLOW_SHARE, 32))
        print(f"{options.images:,} images, {options.workers} workers")
        d = our_job(all_images, scratch / "d", options.workers)
        a = codec_pool(all_images, jpegs, scratch / "a", options.workers)
        line("a  codecs only", a)
        line("d  sgllie, whole", d["whole"], f"{d['whole'] / a:.2f} of a (goal 0.6)")
        line("d  sgllie, steady", d["steady"], f"{d['steady'] / a:.2f} of a (goal 0.75)")
        print(f"   first image after {d['first']:.1f} s (goal 8), end {d['last']:.1f} s after the last (goal 1)")
        c = one_after_another(few_images, scratch / "c", published)
        line("c  one after another", c, f"d, steady, is {d['steady'] / c:.1f} times as fast (goal 12)")
        b = usual_ray_pattern(few_images, scratch / "b", options.workers, published)
        line("b  usual Ray pattern", b, f"d, steady, is {d['steady'] / b:.1f} times as fast (goal 20)")


def line(name: str, rate: float, comparison: str = "") -> None:
    """Print one result."""
    print(f"{name:22} {rate:8.1f} images/s   {comparison}", flush=True)


if __name__ == "__main__":
    main()
