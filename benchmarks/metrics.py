"""Measure what each image metric costs, against decoding the same image.

    OMP_NUM_THREADS=1 taskset -c 0 python benchmarks/metrics.py [IMAGE] [--width 640 --height 480]

Prints, for each metric that needs no weights from elsewhere, the median time of one call and its ratio to decoding the
image from JPEG (quality 95), both measured in turns in the same process, on one thread.
"""

from collections.abc import Callable
from functools import partial

import cv2
import numpy as np
from turns import chosen_photograph, print_times

from sgllie.metrics import METRICS

DECODE = "JPEG decode"


def main() -> None:
    """Print the table."""
    image = chosen_photograph(__doc__)
    reference = np.asarray(cv2.GaussianBlur(image, (0, 0), 1))
    jpeg = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    calls: dict[str, Callable[[], object]] = {DECODE: partial(cv2.imdecode, jpeg, cv2.IMREAD_COLOR)}
    for metric in (metric for metric in METRICS.values() if metric.load is None):
        arguments = (image, reference) if metric.needs_reference else (image,)
        calls[metric.name] = partial(metric.function, *arguments)
    print_times(calls, DECODE)


if __name__ == "__main__":
    main()
