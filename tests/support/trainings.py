"""Small trainings: their photographs, options and settings, and what a run leaves behind."""

import csv
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch
from processes import named_below

from sgllie.network import weights
from sgllie.train.settings import GuideSettings, LossSettings, OptimiserSettings, TrainSettings, ValidationSettings
from sgllie.train.train_step import Batch

EPOCHS = 4
OPTIONS = f"""--preset published --loss.semantic 0 --epochs {EPOCHS} --batch-size 4 --validation.images 4
    --validation.size 64 --images.size 96 --images.crop 64 --images.flip --loaders 2 --optimiser.ema-decay 0.5
    --optimiser.schedule cosine --dead-layers stop""".split()


def settings(**changes) -> TrainSettings:
    """The published recipe without its guide, small."""
    small = {
        "loss": LossSettings(semantic=0),
        "guide": GuideSettings(name="none"),
        "optimiser": OptimiserSettings(),
        "epochs": 4,
        "validation": ValidationSettings(size=64),
    }
    return TrainSettings(**({"data": "photographs", "run": "run"} | small | changes))


def batches(count: int, size: int = 2, seed: int = 0) -> list[Batch]:
    """Dark noise."""
    generator = torch.Generator().manual_seed(seed)
    return [Batch(torch.rand(size, 3, 64, 64, generator=generator) * 0.3) for _ in range(count)]


def photographs(folder: Path, count: int = 24) -> Path:
    """Pictures with some structure, from dark to bright, in a folder of folders."""
    generator = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number % 2}" / f"{number:03d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 40 + 200 * number // count, (12, 16, 3), dtype=np.uint8)
        cv2.imwrite(str(path), cv2.resize(pixels, (160, 120), interpolation=cv2.INTER_CUBIC))
    return folder


def history(run: Path) -> list[dict[str, str]]:
    """The metrics table."""
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def fingerprint(run: Path, name: str = "last") -> str:
    """Of the weights that a run has come to."""
    return weights.load(str(run / f"weights/{name}.safetensors")).fingerprint


def training_processes(above: psutil.Process) -> list[psutil.Process]:
    """Those of a job, a raylet or a machine: of all processes below one."""
    return named_below(above, "RayTrainWorker")
