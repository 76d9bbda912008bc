"""Which photographs a training uses, in which order, and the image that each step makes of one.

Everything follows from the seed and from numbers: epoch, and place in the epoch. So any number of workers can each take
every n-th image and together see the batches that one worker would, and a resumed run sees those of an undisturbed one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sgllie.errors import UsageError
from sgllie.train.augmentation import darken, random_parts
from sgllie.train.photographs import Photograph, PhotoInfo
from sgllie.train.scenes import scenes
from sgllie.train.settings import DarkeningSettings, TrainSettings

BRIGHTEST = 0.9
"""Photographs with a higher mean are overexposed: nothing to learn from."""
FEWEST = 5

Numbers = NDArray[np.int64]


class Example(NamedTuple):
    """One image to train on, C x C x 3, and the photograph that it was made of, where the two differ in exposure."""

    image: Photograph
    target: Photograph | None


@dataclass(frozen=True)
class Sampling:
    """Numbers of the photographs to train on and of those that are held back.

    Attributes:
        main: each of these is used in every epoch.
        bright: some of these are added to each epoch, to be left as they are.
        pairs: P x 2, a dark photograph and a well exposed one of the same scene; some are added to each epoch.
        held_back: for validation.
    """

    main: Numbers
    bright: Numbers
    pairs: Numbers
    held_back: Numbers


class Order(NamedTuple):
    """What the places of an epoch show.

    Attributes:
        sources: the photograph that the image is made of.
        targets: the photograph that it is to become; the same one, unless there is a pair.
        dark: whether the source is to be darkened.
    """

    sources: Numbers
    targets: Numbers
    dark: NDArray[np.bool_]


def sample(rows: Sequence[PhotoInfo], settings: TrainSettings) -> Sampling:
    """Choose the photographs of a training.

    Raises:
        UsageError: there are too few.
    """
    usable = np.array([number for number, row in enumerate(rows) if not row.error], np.int64)
    options = settings.darkening
    well, bright = by_exposure(rows, usable, options) if options.stops else (usable, usable[:0])
    if len(well) < FEWEST:
        raise UsageError(too_few(settings, len(usable), len(well)))
    held_back = hold_back(rows, well, settings)
    kept_out = np.concatenate([held_back, named(rows, usable, settings)])
    main, bright = np.setdiff1d(well, kept_out), np.setdiff1d(bright, kept_out)
    if not len(main):
        pattern = settings.validation.held_back
        raise UsageError(f"--validation.held-back is {pattern!r}; it names all photographs that could be trained on")
    pairs = np.empty((0, 2), np.int64)
    if options.stops and options.bracket_share:
        pairs = brackets(rows, usable, main, held_back, options.darkest)
        pairs = pairs[~np.isin(pairs, kept_out).any(axis=1)]
    return Sampling(main, bright, pairs, held_back)


def hold_back(rows: Sequence[PhotoInfo], chosen: Numbers, settings: TrainSettings) -> Numbers:
    """Return the photographs to validate on: those that the settings name, or random ones, a fifth of all at most.

    Raises:
        UsageError: those that the settings name are not among the chosen ones.
    """
    options = settings.validation
    if options.held_back is None:
        return np.random.default_rng(settings.seed).permutation(chosen)[: min(options.images, len(chosen) // FEWEST)]
    found = named(rows, chosen, settings)
    if not len(found):
        raise UsageError(f"--validation.held-back is {options.held_back!r}; it names no photograph that can be used")
    return found


def named(rows: Sequence[PhotoInfo], chosen: Numbers, settings: TrainSettings) -> Numbers:
    """Return those of the chosen photographs that --validation.held-back names."""
    pattern = settings.validation.held_back
    return np.array([n for n in chosen.tolist() if pattern and fnmatchcase(rows[n].path, pattern)], np.int64)


def by_exposure(rows: Sequence[PhotoInfo], usable: Numbers, settings: DarkeningSettings) -> tuple[Numbers, Numbers]:
    """Return the photographs that are well exposed, and those that are brighter."""
    brightness = np.array([rows[number].brightness for number in usable])
    clipped = np.array([rows[number].clipped for number in usable])
    well = (settings.darkest < brightness) & (brightness < settings.brightest) & (clipped <= settings.clipped)
    bright = (settings.brightest <= brightness) & (brightness < BRIGHTEST)
    return usable[well], usable[bright]


def brackets(rows: Sequence[PhotoInfo], usable: Numbers, main: Numbers, held_back: Numbers, darkest: float) -> Numbers:
    """Pair each photograph that is too dark to be well exposed with the best exposed one of its scene: P x 2.

    Scenes of which a photograph is held back are left out. Those that are well exposed are to stay as they are, even
    where another one of their scene is brighter.
    """
    of_usable = scenes([rows[number].path for number in usable], [rows[number].layout for number in usable])
    scene = dict(zip(usable.tolist(), of_usable.tolist(), strict=True))
    middle = np.median([rows[number].brightness for number in main.tolist()])
    best: dict[int, int] = {}
    for number in sorted(main.tolist(), key=lambda number: abs(rows[number].brightness - middle)):
        best.setdefault(scene[number], number)
    for number in held_back.tolist():
        best.pop(scene[number], None)
    dark = [number for number in scene if rows[number].brightness <= darkest and scene[number] in best]
    return np.array([(number, best[scene[number]]) for number in dark], np.int64).reshape(-1, 2)


def too_few(settings: TrainSettings, usable: int, well_exposed: int) -> str:
    """Say why there are too few photographs."""
    if not settings.darkening.stops:
        return f"{settings.data} holds {usable} photographs that can be used; {FEWEST} is the least"
    options = settings.darkening
    return (
        f"{settings.data} holds {well_exposed} well exposed photographs among {usable} (mean brightness between "
        f"{options.darkest} and {options.brightest}, at most {options.clipped:.0%} clipped), and dark images are made "
        f"of those; {FEWEST} is the least. Add some, see --darkening, or take --preset published, which needs none"
    )


def steps_per_epoch(sampling: Sampling, settings: TrainSettings) -> int:
    """Return the number of steps that an epoch takes."""
    return len(order(sampling, settings, 0).sources) // settings.batch_size


def order(sampling: Sampling, settings: TrainSettings, epoch: int) -> Order:
    """Return the images of an epoch in the order of its steps.

    Each of `main` comes `repeats` times; the last batch is filled with some of the first.
    """
    random = np.random.default_rng([settings.seed, epoch])
    main = np.tile(sampling.main, settings.images.repeats)
    options = settings.darkening
    shares = [options.bright_share if len(sampling.bright) else 0, options.bracket_share if len(sampling.pairs) else 0]
    all_of_them = len(main) / (1 - sum(shares))
    bright = random.choice(sampling.bright, round(shares[0] * all_of_them)) if shares[0] else sampling.bright[:0]
    pairs = random.choice(sampling.pairs, round(shares[1] * all_of_them)) if shares[1] else sampling.pairs[:0]
    sources, targets = (np.concatenate([main, bright, pairs[:, column]]) for column in (0, 1))
    places = random.permutation(len(sources))
    places = np.resize(places, -(-len(places) // settings.batch_size) * settings.batch_size)
    return Order(sources[places], targets[places], places < (len(main) if options.stops else 0))


def training_example(
    source: Photograph, target: Photograph, dark: bool, settings: TrainSettings, epoch: int, place: int
) -> Example:
    """Make the image for one place of one epoch of its photographs, S x S x 3 each.

    Args:
        source: what the image is made of.
        target: what it is to become.
        dark: whether it is darkened.
        settings: of the training.
        epoch: counted from 0; all that is random follows from seed, epoch and place.
        place: of the image in the epoch.
    """
    random = np.random.default_rng([settings.seed, epoch, place])
    image, wanted = random_parts([source, target], settings.images, settings.network.scale_factor, random)
    if not settings.darkening.stops:
        return Example(image, None)
    dark = dark and random.random() >= settings.darkening.identity_share
    return Example(darken(image, settings.darkening, random) if dark else image, wanted)


def validation_example(photograph: Photograph, settings: TrainSettings, number: int) -> Example:
    """Make the image that photograph `number` is validated with: the same after each epoch, and for any seed."""
    if not settings.darkening.stops:
        return Example(photograph, None)
    random = np.random.default_rng([0, number])
    return Example(darken(photograph, settings.darkening, random), photograph)


def stack(examples: Sequence[Example]) -> dict[str, NDArray[np.uint8]]:
    """Stack examples to one batch: `images` and perhaps `targets`, N x C x C x 3."""
    batch = {"images": np.stack([example.image for example in examples])}
    targets = [example.target for example in examples if example.target is not None]
    return batch | ({"targets": np.stack(targets)} if targets else {})
