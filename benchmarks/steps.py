"""Measure a training step of each preset, on random images, its guide with random weights.

    python benchmarks/steps.py [--seconds 5]

Printed are its milliseconds; on a GPU also those of all that it runs there, copies included, and their share of the
step. Where that is far below 1 a step waits for its launches. `benchmarks/gpu.py` prints the same at its end.
"""

import argparse
import time
from tempfile import NamedTemporaryFile

import torch
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torchvision.models import get_model

from sgllie.train.settings import PRESETS, PresetName, parse
from sgllie.train.train_step import Batch, TrainStep, set_up_torch

PROFILED = 10
"""Steps of which is added up what runs on the GPU."""


def print_steps(seconds: float) -> None:
    """Print a line for each preset, on the CPU and on a GPU, if there is one."""
    print("a training step")
    set_up_torch(threads=1)  # as a training process has by itself
    for preset in PRESETS:
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            print(f"  {preset:9} {device:4} {measured(preset, device, seconds)}", flush=True)


def measured(preset: PresetName, device: str, seconds: float) -> str:
    """Say how long a step takes, and how much of that it keeps the GPU busy."""
    with NamedTemporaryFile(suffix=".pth") as guide:
        torch.save(get_model("resnet50").state_dict(), guide.name)
        settings = parse(["data", "run", "--preset", preset, "--guide.weights", guide.name])
        train_step = TrainStep(settings, 1_000_000, device)
    side = settings.images.crop or settings.images.size
    images, targets = torch.rand((2, settings.batch_size, side, side, 3), device=device).permute(0, 1, 4, 2, 3)
    batch = Batch(images, targets if settings.darkening.stops else None)
    for _ in range(3 if device == "cuda" else 1):
        train_step.step(batch)
    count, started = 0, time.perf_counter()
    while not count or time.perf_counter() - started < seconds:
        train_step.step(batch)  # it reads the loss, and so waits for the GPU
        count += 1
    taken = 1000 * (time.perf_counter() - started) / count
    said = f"{settings.batch_size:2} x {side:3} x {side:3} {taken:9.2f} ms"
    if device == "cpu":
        return said
    on_gpu = kernel_milliseconds(train_step, batch)
    return f"{said}, of which on the GPU {on_gpu:9.2f}: {on_gpu / taken:.2f}"


def kernel_milliseconds(train_step: TrainStep, batch: Batch) -> float:
    """Return how long a step keeps the GPU busy, by the sum of its kernels and copies."""
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(PROFILED):
            train_step.step(batch)
        torch.cuda.synchronize()
    events = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    return sum(event.time_range.elapsed_us() for event in events if not event.is_user_annotation) / 1000 / PROFILED


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5)
    print_steps(parser.parse_args().seconds)
