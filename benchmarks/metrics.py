"""What each image metric costs, against decoding the same image.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/metrics.py [IMAGE] [--width 640 --height 480]

Prints, for each metric, the median time of one call and its ratio to decoding the image from JPEG (quality 95), both
measured in turns in the same process, on one thread. Without IMAGE a synthetic photograph is used.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from sgllie.metrics import METRICS

ROUNDS = 15


def synthetic_photograph(height: int, width: int) -> NDArray[np.uint8]:
    """Noise whose amplitude falls with frequency, as in photographs: H x W x 3 RGB."""
    rng = np.random.default_rng(0)
    layers = [
        cv2.resize(rng.normal(0, 16, (height >> octave, width >> octave, 3)) * 1.5**octave, (width, height))
        for octave in range(6)
    ]
    return np.clip(np.sum(layers, axis=0) + 110, 0, 255).astype(np.uint8)


def milliseconds(function: Callable[[], object]) -> float:
    """Duration of one call."""
    start = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    settings = parser.parse_args()
    cv2.setNumThreads(1)
    if settings.image is None:
        image = synthetic_photograph(settings.height, settings.width)
    elif (stored := cv2.imread(str(settings.image))) is None:
        parser.error(f"{settings.image} is not an image that OpenCV reads")
    else:
        image = np.asarray(cv2.resize(stored, (settings.width, settings.height)), np.uint8)[..., ::-1].copy()
    reference = np.asarray(cv2.GaussianBlur(image, (0, 0), 1))
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]

    calls: dict[str, Callable[[], object]] = {"JPEG decode": lambda: cv2.imdecode(jpeg, cv2.IMREAD_COLOR)}
    for metric in METRICS.values():
        arguments = (image, reference) if metric.needs_reference else (image,)
        calls[metric.name] = partial(metric.function, *arguments)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(milliseconds(call))

    decode = float(np.median(times["JPEG decode"]))
    print(f"{settings.width}x{settings.height}, one thread, median of {ROUNDS}")
    for name, measured in times.items():
        print(f"{name:14} {np.median(measured):8.2f} ms {np.median(measured) / decode:8.2f} x decode")


if __name__ == "__main__":
    main()
