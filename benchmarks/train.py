"""Compare epochs of the training job with a plain PyTorch loop and DataLoader that take the same steps.

    python benchmarks/train.py [--data FOLDER] [--epochs 4] [--photographs 256] [options of sgllie train]

Both train the same network with the same objective on the same images in the same order, one process and one thread,
torch set up alike, with the same number of loading processes; neither validates in the time that counts. Since machines
differ, what matters are the ratios within this one run: of the steady epochs (the first one, with all that starts up,
is left out), of two workers to one, and of two workers on a Ray node each to two on one node. On a machine with two
processors the loaders of two workers have none left: the second ratio says little there.
"""

import argparse
import csv
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import faults
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sgllie.distributed.train import train
from sgllie.storage import LocalStorage
from sgllie.train import photographs
from sgllie.train.sampling import Sampling, order, sample, stack, steps_per_epoch, training_example
from sgllie.train.settings import TrainSettings, ValidationSettings, parse
from sgllie.train.train_step import TrainStep, set_up_torch, to_batch


class Places(Sampler[tuple[int, int]]):
    """Epoch and place of each image of an epoch; `epoch` is set from outside, as for a DistributedSampler."""

    def __init__(self, count: int) -> None:
        self.count, self.epoch = count, 0

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return iter([(self.epoch, place) for place in range(self.count)])


class Images(Dataset[Any]):
    """The images of the job, from photographs that are decoded once and held by the process."""

    def __init__(self, settings: TrainSettings, chosen: Sampling, pixels: list[Any]) -> None:
        self.settings, self.chosen, self.pixels = settings, chosen, pixels
        self.orders: dict[int, Any] = {}

    def __getitem__(self, index: tuple[int, int]) -> Any:
        epoch, place = index
        if epoch not in self.orders:
            self.orders = {epoch: order(self.chosen, self.settings, epoch)}
        sources, targets, dark = (values[place] for values in self.orders[epoch])
        return training_example(self.pixels[sources], self.pixels[targets], bool(dark), self.settings, epoch, place)


def collate(examples: Any) -> dict[str, torch.Tensor]:
    """Turn examples into a batch of tensors."""
    return {name: torch.from_numpy(values) for name, values in stack(examples).items()}


def plain_loop(settings: TrainSettings) -> list[float]:
    """Measure the images per second of each epoch of the usual loop."""
    storage = LocalStorage(settings.data)
    rows, pixels = photographs.inspect(storage, list(storage.list()), settings.images.size)
    chosen = sample(rows, settings)
    steps = steps_per_epoch(chosen, settings)
    places = Places(steps * settings.batch_size)
    loader = DataLoader(
        Images(settings, chosen, pixels),
        batch_size=settings.batch_size,
        sampler=places,
        num_workers=settings.loaders,
        collate_fn=collate,
        persistent_workers=True,
    )
    set_up_torch(settings.cpus_per_worker)
    train_step = TrainStep(settings, steps * settings.epochs)
    rates = []
    for places.epoch in range(settings.epochs):
        started = time.monotonic()
        for batch in loader:
            train_step.step(to_batch(batch))
        rates.append(len(places) / (time.monotonic() - started))
    return rates


def in_a_session_of_its_own(settings: TrainSettings) -> list[float]:
    """Run `plain_loop` in a new process and session, as Ray's are: Linux shares processors out by sessions."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=os.setsid) as pool:
        return pool.submit(plain_loop, settings).result()


def job(settings: TrainSettings, workers: int) -> list[float]:
    """Measure the images per second of each epoch of the training job."""
    with tempfile.TemporaryDirectory() as folder:
        if train(replace(settings, run=f"{folder}/run", num_workers=workers)) != 0:
            sys.exit("the job has stopped")
        with Path(folder, "run/metrics.csv").open() as file:
            return [float(row["images_per_second"]) for row in csv.DictReader(file)]


def synthetic(folder: Path, count: int) -> str:
    """Write well exposed pictures with shapes at every scale, 512x512 JPEG; return the folder."""
    generator = np.random.default_rng(0)
    for number in range(count):
        picture = np.full((512, 512, 3), 120.0)
        for octave in range(2, 9):
            coarse = generator.normal(0, 2.0 ** (7 - octave), (2**octave, 2**octave, 3))
            picture += cv2.resize(coarse, (512, 512), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number:05d}.jpg"), np.clip(picture, 0, 255).astype(np.uint8))
    return str(folder)


def parser_of(description: str | None, epochs: int) -> argparse.ArgumentParser:
    """Return a parser with the options of every benchmark that trains."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder of photographs; by default synthetic ones")
    parser.add_argument("--epochs", type=int, default=epochs)
    return parser


def main() -> None:
    """Measure both, and print rates and ratios."""
    parser = parser_of(__doc__, epochs=4)
    parser.add_argument("--photographs", type=int, default=256, help="how many synthetic ones")
    arguments, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or synthetic(Path(folder), arguments.photographs)
        settings = parse([data, "run", "--cache", "memory", *options])
        # One small picture: validation is not what is compared.
        settings = replace(settings, epochs=arguments.epochs, validation=ValidationSettings(images=1, size=64))
        rates = {"plain loop": in_a_session_of_its_own(settings)}
        rates |= {f"job, {workers} worker": job(settings, workers) for workers in (1, 2)}
        with faults.closing(faults.Nodes()) as nodes:
            nodes.add()
            rates["job, 2 nodes"] = job(replace(settings, address=nodes.address), 2)
        # What else runs on the machine changes: the plain loop is measured again after the job.
        rates["plain loop again"] = in_a_session_of_its_own(settings)
    steady = {name: float(np.median(values[1:])) for name, values in rates.items()}
    for name, value in steady.items():
        print(f"{name:20} {value:8.1f} images/s")
    plain = (steady["plain loop"] + steady["plain loop again"]) / 2
    print(f"one worker to the plain loop: {steady['job, 1 worker'] / plain:.2f}")
    print(f"two workers to one: {steady['job, 2 worker'] / steady['job, 1 worker']:.2f}")
    print(f"two nodes to one: {steady['job, 2 nodes'] / steady['job, 2 worker']:.2f}")


if __name__ == "__main__":
    main()
