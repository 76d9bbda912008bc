"""Show what becomes of a training when each of several workers brings a batch of its own.

    python benchmarks/batches.py [--data FOLDER] [--workers 4] [--epochs 6] [options of sgllie train]

`--batch-size` is that of all workers together, so that their number changes nothing but the time. Whoever wants a batch
for each of k workers gives k times the number, and has a k-th of the steps. Here the same images are trained on with
one batch, and with k times as large ones at the learning rate as it is, times the root of k, and times k. Printed are
steps, images per second of one process and thread, and the loss on photographs held back, the lower the better.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from train import Images, parser_of, synthetic

from sgllie.storage import LocalStorage
from sgllie.train import photographs
from sgllie.train.sampling import sample, steps_per_epoch, validation_example
from sgllie.train.settings import TrainSettings, parse
from sgllie.train.train_step import TrainStep, batch_of, set_up_torch
from sgllie.train.validation import examine, merge


class Corpus:
    """Photographs, decoded once for all trainings."""

    def __init__(self, settings: TrainSettings) -> None:
        storage = LocalStorage(settings.data)
        rows, self.pixels = photographs.inspect(storage, list(storage.list()), settings.images.size)
        self.chosen = sample(rows, settings)

    def train(self, settings: TrainSettings) -> str:
        """Train to the end, and say what came out."""
        images = Images(settings, self.chosen, self.pixels)
        steps, size = steps_per_epoch(self.chosen, settings), settings.batch_size
        train_step = TrainStep(settings, steps * settings.epochs)
        seconds = 0.0
        for epoch in range(settings.epochs):
            for step in range(steps):
                batch = batch_of([images[epoch, place] for place in range(step * size, (step + 1) * size)])
                started = time.monotonic()
                train_step.step(batch)
                seconds += time.monotonic() - started
        total = train_step.total_steps
        return f"{total:6,} steps, {total * size / seconds:6.0f} images/s, loss {self.loss(train_step):.4f}"

    def loss(self, train_step: TrainStep) -> float:
        """Return the loss on the photographs that are held back."""
        model, settings = train_step.validated_model(), train_step.settings
        numbers = self.chosen.held_back.tolist()
        found = [
            examine(model, train_step.objective, batch_of([validation_example(self.pixels[each], settings, each)]))[0]
            for each in numbers
        ]
        return float(merge(found)["loss"])


def main() -> None:
    """Train four times, and print a line for each."""
    parser = parser_of(__doc__, epochs=6)
    parser.add_argument("--workers", type=int, default=4, help="how many would bring a batch each")
    arguments, options = parser.parse_known_args()
    set_up_torch(1)
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data or synthetic(Path(folder), 256)
        settings = replace(parse([data, "run", *options]), epochs=arguments.epochs)
        corpus = Corpus(settings)
        many, rate = arguments.workers, settings.optimiser.learning_rate
        for times, factor in ((1, 1.0), (many, 1.0), (many, float(np.sqrt(many))), (many, float(many))):
            optimiser = replace(settings.optimiser, learning_rate=rate * factor)
            changed = replace(settings, batch_size=settings.batch_size * times, optimiser=optimiser)
            said = f"batch {changed.batch_size:4}, learning rate {optimiser.learning_rate:.1e}"
            print(f"{said}: {corpus.train(changed)}", flush=True)


if __name__ == "__main__":
    main()
