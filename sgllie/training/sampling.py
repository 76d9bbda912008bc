"""Which photographs a training uses, in which order, and the image that each step makes of one.

Everything follows from the seed and from numbers: epoch, and place in the epoch. So any number of workers can each take
every n-th image and together see the batches that one worker would, and a resumed run sees those of an undisturbed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgllie.storage import UsageError
from sgllie.training.augmentation import Pixels, darken, random_part
from sgllie.training.photographs import Seen
from sgllie.training.settings import DarkeningSettings, TrainSettings

BRIGHTEST = 0.9
"""Photographs with a higher mean are overexposed: nothing to learn from."""
FEWEST = 5

Numbers = NDArray[np.int64]


class Example(NamedTuple):
    """One image to train on, C x C x 3, and the photograph that it was made of, where the two differ in exposure."""

    image: Pixels
    target: Pixels | None


@dataclass(frozen=True)
class Sampling:
    """Numbers of the photographs to train on and of those that are held back.

    Attributes:
        main: each of these is used in every epoch.
        bright: some of these are added to each epoch, to be left as they are.
        held_back: for validation.
    """

    main: Numbers
    bright: Numbers
    held_back: Numbers


def sample(rows: Sequence[Seen], settings: TrainSettings) -> Sampling:
    """Choose the photographs of a training.

    Raises:
        UsageError: there are too few.
    """
    usable = np.array([number for number, row in enumerate(rows) if not row.error], np.int64)
    main, bright = usable, usable[:0]
    if settings.darkening.stops:
        main, bright = by_exposure(rows, usable, settings.darkening)
    if len(main) < FEWEST:
        raise UsageError(too_few(settings, len(usable), len(main)))
    shuffled = np.random.default_rng(settings.seed).permutation(main)
    held_back = min(settings.validation.images, len(main) // FEWEST)
    return Sampling(np.sort(shuffled[held_back:]), bright, shuffled[:held_back])


def by_exposure(rows: Sequence[Seen], usable: Numbers, settings: DarkeningSettings) -> tuple[Numbers, Numbers]:
    """The photographs that are well exposed, and those that are brighter."""
    brightness = np.array([rows[number].brightness for number in usable])
    clipped = np.array([rows[number].clipped for number in usable])
    well = (settings.darkest < brightness) & (brightness < settings.brightest) & (clipped <= settings.clipped)
    bright = (settings.brightest <= brightness) & (brightness < BRIGHTEST)
    return usable[well], usable[bright]


def too_few(settings: TrainSettings, usable: int, well_exposed: int) -> str:
    """Why there are too few photographs."""
    if not settings.darkening.stops:
        return f"{settings.data} holds {usable} photographs that can be used; {FEWEST} is the least"
    options = settings.darkening
    return (
        f"{settings.data} holds {well_exposed} well exposed photographs among {usable} (mean brightness between "
        f"{options.darkest} and {options.brightest}, at most {options.clipped:.0%} clipped), and dark images are made "
        f"of those; {FEWEST} is the least. Add some, see --darkening, or take --preset published, which needs none"
    )


def steps_per_epoch(sampling: Sampling, settings: TrainSettings) -> int:
    """Steps that an epoch takes."""
    return len(order(sampling, settings, 0)[0]) // settings.batch_size


def order(sampling: Sampling, settings: TrainSettings, epoch: int) -> tuple[Numbers, NDArray[np.bool_]]:
    """The photographs of an epoch in the order of its steps, and whether each is to be darkened.

    Each of `main` comes `repeats` times; the last batch is filled with some of the first.
    """
    random = np.random.default_rng([settings.seed, epoch])
    main = np.tile(sampling.main, settings.images.repeats)
    share = settings.darkening.bright_share
    count = round(len(main) * share / (1 - share)) if len(sampling.bright) else 0
    numbers = np.concatenate([main, random.choice(sampling.bright, count)]) if count else main
    places = random.permutation(len(numbers))
    places = np.resize(places, -(-len(places) // settings.batch_size) * settings.batch_size)
    return numbers[places], places < (len(main) if settings.darkening.stops else 0)


def training_example(photograph: Pixels, dark: bool, settings: TrainSettings, epoch: int, place: int) -> Example:
    """The image that one place of one epoch makes of its photograph, S x S x 3."""
    random = np.random.default_rng([settings.seed, epoch, place])
    part = random_part(photograph, settings.images, random)
    if not settings.darkening.stops:
        return Example(part, None)
    dark = dark and random.random() >= settings.darkening.untouched
    return Example(darken(part, settings.darkening, random) if dark else part, part)


def validation_example(photograph: Pixels, settings: TrainSettings, number: int) -> Example:
    """The image that validation makes of photograph `number`: the same after each epoch."""
    if not settings.darkening.stops:
        return Example(photograph, None)
    random = np.random.default_rng([settings.seed, number])
    return Example(darken(photograph, settings.darkening, random), photograph)


def stack(examples: Sequence[Example]) -> dict[str, Pixels]:
    """Examples as one batch: `images` and perhaps `targets`, N x C x C x 3."""
    batch = {"images": np.stack([example.image for example in examples])}
    targets = [example.target for example in examples if example.target is not None]
    return batch | ({"targets": np.stack(targets)} if targets else {})
