"""Measure what one image costs on one core, stage by stage.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/stages.py [--photographs FOLDER] [--rounds 200]

Printed are the milliseconds of a processor that each stage takes for a JPEG of about 640x480, the median over the
rounds, in which the stages take turns; and what is no codec against what is one.
"""

import argparse
import hashlib
import statistics
import time
from collections import defaultdict
from pathlib import Path

from pictures import photographs

from sgllie import images
from sgllie.enhancer import Enhancer, samples
from sgllie.images import luma
from sgllie.network.factor import FactorStatistics
from sgllie.runs.allocator import keep_freed_memory

CODEC = ("decode", "encode")


class Stages:
    """The seconds that each stage of each round took."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.last = time.thread_time()

    def lap(self, name: str) -> None:
        """Note that a stage has just ended; without a name, that nothing that counts has."""
        now = time.thread_time()
        if name:
            self.seconds[name].append(now - self.last)
        self.last = time.thread_time()


def one_image(data: bytes, enhancer: Enhancer, stages: Stages) -> None:
    """Take one image all the way, as `ImageProcessor` does."""
    engine, scale = enhancer.engine, enhancer.scale_factor
    stages.lap("")
    hashlib.sha256(data).hexdigest()
    stages.lap("hash of the input")
    image = images.decode(data)
    stages.lap("decode")
    luma.measure(image.pixels)
    stages.lap("luma of the input")
    factors = engine.factors([image.pixels], scale)
    stages.lap("factor map")
    FactorStatistics.of(factors)
    stages.lap("its statistics")
    (enhanced,) = engine.curve([image.pixels], factors, scale, enhancer.strength)
    stages.lap("curve")
    luma.measure(enhanced)
    stages.lap("luma of the output")
    encoded = images.encode(image, enhanced)
    stages.lap("encode")
    hashlib.sha256(encoded).hexdigest()
    stages.lap("hash of the output")
    samples(image.pixels, scale)
    stages.lap("(samples, part of the factor map)")


def main() -> None:
    """Measure, and print a line for each stage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photographs", type=Path, help="folder of JPEGs; synthetic images without it")
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    keep_freed_memory()  # as a worker does
    jpegs, enhancer, stages = photographs(options.photographs), Enhancer.load(device="cpu"), Stages()
    one_image(jpegs[0], enhancer, Stages())
    for number in range(options.rounds):
        one_image(jpegs[number % len(jpegs)], enhancer, stages)
    medians = {name: statistics.median(times) * 1000 for name, times in stages.seconds.items()}
    for name, milliseconds in medians.items():
        print(f"{name:34} {milliseconds:6.3f} ms")
    counted = {name: value for name, value in medians.items() if not name.startswith("(")}
    codec = sum(counted[name] for name in CODEC)
    other = sum(counted.values()) - codec
    print(f"codec {codec:.2f} ms, the rest {other:.2f} ms: {other / codec:.2f} of the codec")


if __name__ == "__main__":
    main()
