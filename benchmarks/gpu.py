"""Measure what a GPU adds to the cores beside it.

    python benchmarks/gpu.py [--seconds 5] [--scale-factors 12 1] [--method sgz] [--weights FILE]

For photographs of 0.3 and 2 megapixels and each scale factor are printed: the milliseconds of each stage on one thread,
then the images per second of all cores that only decode and encode, of a CPU worker on each core, and of 1, 2 and 4
workers that share a GPU and all cores, and, marked `jpeg`, of 4 that encode on it, too (if the extra `gpu` is there);
the ratio of each to the first; the hours of a core, by processor time, and of a GPU that a million images take, from
which the cost follows; and the memory of a worker. JPEGs in memory; by default the bundled weights.

At last what `benchmarks/steps.py` prints of a training step. Without a GPU its part of all this is left out.
"""

import argparse
import multiprocessing
import re
import time
from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from pictures import SAMPLE

from sgllie import decode, encode
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.settings import EnhanceSettings
from sgllie.enhancer import has_gpu
from sgllie.errors import SgllieError
from sgllie.images.nvimage import NvImageEncoder
from sgllie.methods import MethodName, make_method
from sgllie.runs import machine

SIZES = {"0.3 MP": (640, 480), "2 MP": (1920, 1080)}
ROUNDS = 5


Computing = Literal["cpu", "cuda"]


class Team(NamedTuple):
    """Processes that work side by side: on `cpu`, on `cuda`, or on no device, which decode and encode only."""

    device: Computing | None
    processes: int
    threads: int
    gpu_jpeg: bool = False


def photograph(size: tuple[int, int]) -> bytes:
    """Return the JPEG of a sample at a size, width and height."""
    stored = cv2.imread(str(SAMPLE))
    assert stored is not None
    picture = cv2.resize(stored, size, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


class Network(NamedTuple):
    """What enhances, as `sgllie enhance` is told."""

    method: MethodName
    weights: str | None
    scale_factor: int

    def settings(self, device: Computing, gpu_jpeg: bool = False) -> EnhanceSettings:
        """Return the settings of a job."""
        return EnhanceSettings("in", "out", device=device, gpu_jpeg=gpu_jpeg, **self._asdict())


def print_stages(jpeg: bytes, device: Computing, network: Network) -> None:
    """Print the median milliseconds of each stage on one thread."""
    method = make_method(network.settings(device))
    times: dict[str, list[float]] = {"decode": [], "network": [], "curve": [], "both": [], "encode": []}
    for _ in range(ROUNDS + 1):
        image = timed(times["decode"], decode, jpeg)
        factor = timed(times["network"], method.factor_map, image.pixels)
        timed(times["curve"], method.apply, image.pixels, factor)
        bright = timed(times["both"], method.enhance, image.pixels)
        timed(times["encode"], encode, image, bright.pixels)
    found = "   ".join(f"{name} {np.median(each[1:]):8.2f}" for name, each in times.items())
    print(f"  {device:5} ms: {found}", flush=True)


def timed(times: list[float], call: Callable[..., Any], *arguments: Any) -> Any:
    """Make a call and note its milliseconds."""
    started = time.perf_counter()
    result = call(*arguments)
    times.append(1000 * (time.perf_counter() - started))
    return result


start: Any = None
"""In a process of a team: the barrier at which all wait for the last one."""


def join(barrier: Any) -> None:
    """Make this process one of a team."""
    global start
    start = barrier


def work(jpeg: bytes, team: Team, network: Network, seconds: float) -> tuple[float, int, int, float]:
    """Process a photograph again and again, as one of a team.

    Returns:
        How many in a second, the bytes of memory on host and GPU, and the processor seconds of each.
    """
    cv2.setNumThreads(1)
    machine.share = machine.Share(team.threads)
    if team.device:
        processor = ImageProcessor(network.settings(team.device, team.gpu_jpeg))

        def once() -> None:
            assert processor("a.jpg", jpeg).row["status"] == "ok"
    else:

        def once() -> None:
            image = decode(jpeg)
            encode(image, image.pixels)

    once()
    start.wait()
    computed = time.process_time()
    end = time.monotonic() + seconds

    def again(_: int) -> int:
        count = 0
        while time.monotonic() < end:
            once()
            count += 1
        return count

    with ThreadPoolExecutor(team.threads) as pool:
        count = sum(pool.map(again, range(team.threads)))
    on_gpu = 0
    if team.device == "cuda":
        import torch

        on_gpu = torch.cuda.max_memory_reserved()
    computed = (time.process_time() - computed) / count
    return count / (time.monotonic() - end + seconds), peak_bytes(), on_gpu, computed


def peak_bytes() -> int:
    """Return the most memory that this process had; what `getrusage` tells begins with that of its parent."""
    stated = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    assert stated
    return 1024 * int(stated[1])


def rate(jpeg: bytes, team: Team, network: Network, seconds: float) -> tuple[float, int, int, float]:
    """Return images per second of a team, the memory of its largest process on host and GPU, and seconds of an image.

    The memory is in bytes, and the seconds are those that an image keeps a processor busy. What one process raises is
    raised, and where one dies BrokenProcessPool.
    """
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(team.processes)
    with ProcessPoolExecutor(team.processes, context, join, (barrier,)) as pool:
        found = [pool.submit(work, jpeg, team, network, seconds) for _ in range(team.processes)]
        done, _ = wait(found, return_when=FIRST_EXCEPTION)
        barrier.abort()  # where one has failed the others wait for it
        rates, memory, on_gpu, computed = zip(*(each.result() for each in done), strict=True)
    return sum(rates), max(memory), max(on_gpu), float(np.mean(computed))


def why_no_jpeg() -> str:
    """Say why no JPEG can be encoded on the GPU; nothing where it can."""
    try:
        NvImageEncoder("cuda")
    except SgllieError as error:
        return str(error)
    return ""


def main() -> None:
    """Print all tables."""
    from steps import print_steps  # torch, which would count as memory of processes that do without

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--scale-factors", type=int, nargs="+", default=[12, 1])
    parser.add_argument("--method", choices=("sgz", "zero-dce"), default="sgz")
    parser.add_argument("--weights", help="other than the bundled ones")
    options = parser.parse_args()
    cores = machine.whole_processors()
    devices: list[Computing] = ["cpu"]
    teams = [Team(None, cores, 1), Team("cpu", cores, 1)]
    if has_gpu():
        import torch

        from sgllie.network.torch_engine import curve_for

        devices.append("cuda")
        teams += [Team("cuda", processes, max(cores // processes, 1)) for processes in (1, 2, 4)]
        curve = curve_for(torch.device("cuda")).__module__
        print(f"{cores} cores and {torch.cuda.get_device_name()}; its curve is that of {curve}")
        obstacle = why_no_jpeg()
        if obstacle:
            print(f"no JPEGs are encoded on the GPU: {obstacle}")
        else:
            teams.append(Team("cuda", 4, max(cores // 4, 1), gpu_jpeg=True))
    else:
        print(f"{cores} cores; no CUDA device that torch can use, so only the CPU is measured")
    for name, size in SIZES.items():
        jpeg = photograph(size)
        for scale_factor in options.scale_factors:
            print(f"{name}, scale factor {scale_factor}")
            network = Network(options.method, options.weights, scale_factor)
            for device in devices:
                print_stages(jpeg, device, network)
            base = 0.0
            for team in teams:
                said = f"{team.device or 'codecs':6} {team.processes:2} x {team.threads:2} threads"
                said += " jpeg" if team.gpu_jpeg else ""
                try:
                    found, memory, on_gpu, computed = rate(jpeg, team, network, options.seconds)
                except Exception as error:  # the others are worth a run on a rented machine
                    print(f"  {said} failed: {error!r}", flush=True)
                    continue
                base = base or found
                print(f"  {said} {found:8.1f} images/s {found / base:6.3f}   {memory / 1e6:5.0f} MB", end="")
                print(f", GPU {on_gpu / 1e6:5.0f} MB" if on_gpu else "", end="")
                hours = 1e6 / 3600
                print(f"   {computed * hours:7.1f} core-hours a million", end="")
                print(f", {hours / found:7.2f} GPU-hours" if team.device == "cuda" else "", flush=True)
    print_steps(options.seconds)


if __name__ == "__main__":
    main()
