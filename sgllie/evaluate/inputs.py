"""What is to be measured: the files of every picture, and where they lie."""

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sgllie.corpus.listing import Listing
from sgllie.errors import StorageError, UsageError
from sgllie.evaluate.matching import Item, Names, join, match
from sgllie.evaluate.settings import EvaluateSettings, MeasuringSettings
from sgllie.runs.commits import advising, commit_table, read_ahead
from sgllie.runs.names import IMAGES, RUN, SUCCESS
from sgllie.runs.run_file import ENHANCE_KINDS, Json, plan_in, read_run
from sgllie.runs.schemas import STATS_SCHEMA, Row, is_label_map
from sgllie.runs.tables import some_of
from sgllie.runs.words import plural
from sgllie.storage import Entry, Storage, absolute_uri, open_storage


@dataclass
class Inputs:
    """The pictures of an evaluation.

    Attributes:
        items: one for each row.
        roots: for each side, the folder or prefix that the paths of the items are below.
        notes: what the user is to know of how they were found.
    """

    items: Sequence[tuple[Any, ...]]
    roots: dict[str, str]
    notes: list[str] = field(default_factory=list)


def find_inputs(settings: EvaluateSettings) -> Inputs:
    """Find the pictures that the settings name.

    Raises:
        UsageError: something is not there, cannot be listed, or holds no images.
    """
    try:
        inputs = labelled(settings) if settings.task else enhanced(settings)
    except (StorageError, OSError) as error:
        raise UsageError(f"the images cannot be listed: {error}") from error
    main = "truth" if settings.task else "after"
    if not any(getattr(item, main) for item in inputs.items):
        raise UsageError(f"{settings.labels or settings.images} holds no images")
    for side in inputs.roots.keys() - {main}:
        refuse_strangers(inputs, main, side)
    return inputs


def refuse_strangers(inputs: Inputs, main: str, side: str) -> None:
    """Raise UsageError if no file of a side belongs to any of the main one: the wrong folder was named."""
    if any(getattr(item, main) and getattr(item, side) for item in inputs.items):
        return
    example = next(getattr(item, main) for item in inputs.items if getattr(item, main))
    raise UsageError(
        f"no file in {inputs.roots[side]} has the name of one in {inputs.roots[main]} (for example {example}); names "
        "are paths below these two; see --name-endings"
    )


def enhanced(settings: EvaluateSettings) -> Inputs:
    """Find enhanced images: those of a finished run, or of any tree."""
    assert settings.images is not None
    found = finished_run(settings)
    others: dict[str, Names] = {}
    roots: dict[str, str] = {}
    for side, kind, source in (("before", "image before", settings.before), ("truth", "reference", settings.reference)):
        if source is not None:
            others[side], roots[side] = names_in(source, kind, settings, photographs_only=True)
    if found is None:
        listing = list_files(settings.images, settings, photographs_only=True)
        roots["after"] = listing.root
        # A limit leaves files of the other sides without a partner, and that is no fault.
        items = match("after", listing, others, keep_left=settings.limit is None)
        return Inputs(list(itertools.islice(items, settings.limit)), roots, note_label_maps(listing.label_maps.count))
    output, run = found
    roots = {"before": run["input"]["roots"]["input"]} | roots | {"after": output.uri}
    rows = list(itertools.islice(rows_of(output, run), settings.limit))
    photographs = [row for row in rows if not is_label_map(row)]
    inputs = Inputs([of_run(row, others) for row in photographs], roots, note_label_maps(len(rows) - len(photographs)))
    inputs.notes.append(f"{settings.images} is a run of sgllie enhance; the images before are in {roots['before']}")
    for names in others.values():
        inputs.notes += note_left(names, "an image in the run") if settings.limit is None else []
    return inputs


def note_label_maps(count: int) -> list[str]:
    """Return a sentence on the label maps among the images, if there are any."""
    return [f"{plural(count, 'label maps')} among the images: not measured"] if count else []


def note_left(names: Names, partner: str) -> list[str]:
    """Return a sentence on the files that no name has found, if there are any; `partner` is what they lack."""
    left = sum(1 for _ in names.left())
    return [f"{plural(left, 'files')} ({names.kind}) without {partner}: not counted"] if left else []


def labelled(settings: EvaluateSettings) -> Inputs:
    """Find label maps and what was predicted; a prediction without a label does not count."""
    assert settings.labels is not None
    assert settings.predictions is not None
    labels = list_files(settings.labels, settings, photographs_only=False)
    others, roots = {}, {"truth": labels.root}
    for side, kind, source in (
        ("after", "prediction", settings.predictions),
        ("before", "prediction before", settings.predictions_before),
    ):
        if source is not None:
            others[side], roots[side] = names_in(source, kind, settings, photographs_only=False)
    # Named by its label, a picture is looked for among the predictions without the endings of either.
    items = list(itertools.islice(match("truth", labels, others, keep_left=False), settings.limit))
    notes = [note for names in others.values() for note in note_left(names, "a label")]
    return Inputs(items, roots, notes if settings.limit is None else [])


def names_in(source: str, kind: str, settings: MeasuringSettings, *, photographs_only: bool) -> tuple[Names, str]:
    """Return the files of one side, and their root; UsageError if there are none."""
    listing = list_files(source, settings, photographs_only=photographs_only)
    names = Names(listing, kind, settings.endings)
    if not names:
        raise UsageError(f"{source} holds no images")
    return names, listing.root


def list_files(source: str, settings: MeasuringSettings, *, photographs_only: bool) -> Listing:
    """Return the images of a folder, prefix, glob or list, without those of the result."""
    return Listing(
        *(source, settings.s3, absolute_uri(settings.output)),
        image_column=settings.image_column,
        photographs_only=photographs_only,
    )


def finished_run(settings: EvaluateSettings) -> tuple[Storage, Json] | None:
    """Return the output of `sgllie enhance` and its run.json, if that is what the settings name."""
    images = settings.images or ""
    if not ("://" in images or Path(images).is_dir()):
        return None
    output = open_storage(images, settings.s3)
    run = read_run(output, "enhance", ENHANCE_KINDS) if output.exists(RUN) else None
    if run is None:
        return None
    if not output.exists(SUCCESS):
        raise UsageError(f"the run in {images} is not finished; the same sgllie enhance command goes on with it")
    return output, run


def fingerprint_of_run(settings: EvaluateSettings) -> dict[str, str]:
    """Return what changes when the run that is measured does, if it is one: its rows are not looked at again."""
    try:
        found = finished_run(settings)
        return {"the run": hashlib.sha256(found[0].read(SUCCESS)).hexdigest()[:16]} if found else {}
    except (StorageError, OSError) as error:
        raise UsageError(f"{settings.images} cannot be read: {error}") from error


def rows_of(output: Storage, run: Json) -> Iterator[Row]:
    """Yield the rows of a finished run, with the columns that are needed here; DamagedError where any are missing."""
    names = ("path", "output", "status", "reason", "error", "bytes_in", "bytes_out", "sha256_in", "sha256_out")
    columns, sizes = some_of(STATS_SCHEMA, *names), plan_in(run).commit_sizes
    with advising(output):
        for table in read_ahead(lambda shard: commit_table(output, shard, columns, size=sizes[shard]), list(sizes)):
            yield from table.to_pylist()


def of_run(row: Row, others: dict[str, Names]) -> Item:
    """Return the item of one row of a run; `before` is the input of the run where `others` has none."""
    sides: dict[str, tuple[Entry | None, str | None]] = {}
    if row["status"] == "failed":
        sides["after"] = None, f"sgllie enhance failed on it: {row['error']}"
        name = row["path"]
    else:
        sides["after"] = Entry(row["output"], row["bytes_out"], row["sha256_out"]), None
        name = row["output"].removeprefix(f"{IMAGES}/")
    sides["before"] = Entry(row["path"], row["bytes_in"], row["sha256_in"]), None
    return join(row["path"], sides | {side: names.find(name) for side, names in others.items()})
