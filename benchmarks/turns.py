"""Time calls on one photograph in turns, in the same process, on one thread."""

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from pictures import SAMPLE

ROUNDS = 25


def chosen_photograph(description: str | None) -> NDArray[np.uint8]:
    """Read the photograph that the command line names, at the size that it names: H x W x 3 RGB."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path, nargs="?", default=SAMPLE)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=480)
    settings = parser.parse_args()
    if (stored := cv2.imread(str(settings.image))) is None:
        parser.error(f"{settings.image} is not an image that OpenCV reads")
    resized = cv2.resize(stored, (settings.width, settings.height), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(resized[..., ::-1], np.uint8)


def print_times(calls: Mapping[str, Callable[[], object]], base: str) -> None:
    """Print the median time of each call, and its ratio to that of the call `base`."""
    cv2.setNumThreads(1)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            times[name].append(1000 * (time.perf_counter() - started))
    unit = float(np.median(times[base]))
    print(f"one thread, median of {ROUNDS}")
    for name, measured in times.items():
        print(f"{name:18} {np.median(measured):8.2f} ms {np.median(measured) / unit:8.2f} x {base}")
