"""What is to be measured: the files of every picture, and where they lie."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from sgllie.corpus import IMAGES, RUN, STATS, SUCCESS, Row, parts, stats_table
from sgllie.evaluation.compare_settings import CompareSettings
from sgllie.evaluation.corpus import Item
from sgllie.evaluation.matching import Names, join, match
from sgllie.evaluation.settings import EvaluateSettings
from sgllie.listing import Listing
from sgllie.run import output_uri, read_json
from sgllie.storage import Entry, Storage, StorageError, UsageError, open_storage


@dataclass
class Subject:
    """The pictures of an evaluation.

    Attributes:
        items: one for each row.
        roots: for each side, the folder or prefix that the paths of the items are below.
        notes: what the user is to know of how they were found.
    """

    items: list[Item]
    roots: dict[str, str]
    notes: list[str] = field(default_factory=list)


def subject_of(settings: EvaluateSettings) -> Subject:
    """What the settings name.

    Raises:
        UsageError: something is not there, cannot be listed, or holds no images.
    """
    try:
        subject = labelled(settings) if settings.task else enhanced(settings)
    except (StorageError, OSError, pa.ArrowInvalid) as error:
        raise UsageError(f"the images cannot be listed: {error}") from error
    main = "truth" if settings.task else "after"
    if not any(getattr(item, main) for item in subject.items):
        raise UsageError(f"{settings.labels or settings.images} holds no images")
    for side in subject.roots.keys() - {main}:
        refuse_strangers(subject, main, side)
    return subject


def refuse_strangers(subject: Subject, main: str, side: str) -> None:
    """Raise UsageError if no file of a side belongs to any of the main one: the wrong folder was named."""
    if any(getattr(item, main) and getattr(item, side) for item in subject.items):
        return
    example = next(getattr(item, main) for item in subject.items if getattr(item, main))
    raise UsageError(
        f"no file in {subject.roots[side]} has the name of one in {subject.roots[main]} (for example {example}); names "
        "are paths below these two; see --name-endings"
    )


def enhanced(settings: EvaluateSettings) -> Subject:
    """Enhanced images: those of a finished run, or of any tree."""
    assert settings.images is not None
    run = finished_run(settings)
    others: dict[str, Names] = {}
    roots: dict[str, str] = {}
    for side, kind, source in (("before", "image before", settings.before), ("truth", "reference", settings.reference)):
        if source is not None:
            others[side], roots[side] = names_in(source, kind, settings)
    if run is None:
        listing = list_files(settings.images, settings)
        roots["after"] = listing.root
        # A limit leaves files of the other sides without a partner, and that is no fault.
        found = match("after", listing, others, keep_left=settings.limit is None)
        return Subject(list(itertools.islice(found, settings.limit)), roots)
    output, root = run
    roots |= {"after": output.uri} | ({} if "before" in roots else {"before": root})
    rows = itertools.islice(rows_of(output), settings.limit)
    subject = Subject([of_run(row, others) for row in rows], roots)
    subject.notes.append(f"{settings.images} is a run of sgllie enhance; the images before are in {roots['before']}")
    for names in others.values():
        subject.notes += note_left(names, "belong to no image of the run") if settings.limit is None else []
    return subject


def note_left(names: Names, why: str) -> list[str]:
    """A sentence on the files that no name has found, if there are any."""
    left = sum(1 for _ in names.left())
    return [f"{left:,} files ({names.kind}) {why}, and do not count"] if left else []


def labelled(settings: EvaluateSettings) -> Subject:
    """Label maps and what was predicted; a prediction without a label does not count."""
    assert settings.labels is not None
    assert settings.predictions is not None
    labels = list_files(settings.labels, settings)
    others, roots = {}, {"truth": labels.root}
    for side, source in (("after", settings.predictions), ("before", settings.predictions_before)):
        if source is not None:
            others[side], roots[side] = names_in(source, "prediction", settings)
    # Named by its label, a picture is looked for among the predictions without the endings of either.
    items = list(itertools.islice(match("truth", labels, others, keep_left=False), settings.limit))
    return Subject(items, roots, note_left(others["after"], "have no label") if settings.limit is None else [])


def names_in(source: str, kind: str, settings: EvaluateSettings | CompareSettings) -> tuple[Names, str]:
    """The files of one side, and their root; UsageError if there are none."""
    listing = list_files(source, settings)
    names = Names(listing, kind, settings.endings)
    if not names:
        raise UsageError(f"{source} holds no images")
    return names, listing.root


def list_files(source: str, settings: EvaluateSettings | CompareSettings) -> Listing:
    """The images of a folder, prefix, glob or list, none of them of the result."""
    return Listing(source, settings.s3, output_uri(settings.output))


def finished_run(settings: EvaluateSettings) -> tuple[Storage, str] | None:
    """The output of `sgllie enhance` and the root of its input, if that is what the settings name."""
    images = settings.images or ""
    if not (images.startswith("s3://") or Path(images).is_dir()):
        return None
    output = open_storage(images, settings.s3)
    run = read_json(output, RUN)
    if run is None:
        return None
    if "format" not in run.get("outcome", {}):
        raise UsageError(f"{images} is a run, but not one of sgllie enhance; name a folder of images")
    if not output.exists(SUCCESS):
        raise UsageError(f"the run in {images} is not finished; the same sgllie enhance command goes on with it")
    return output, run["input"]["root"]


def rows_of(output: Storage) -> Iterator[Row]:
    """The rows of a finished run, as far as they are needed here."""
    columns = ["path", "output", "status", "error", "bytes_in", "bytes_out", "sha256_in", "sha256_out"]
    for shard in sorted(parts(output.list(STATS))):
        yield from stats_table(output, shard).select(columns).to_pylist()


def of_run(row: Row, others: dict[str, Names]) -> Item:
    """The item of one row of a run; `before` is the input of the run where `others` has none."""
    sides: dict[str, tuple[Entry | None, str | None]] = {}
    if row["status"] == "failed":
        sides["after"] = None, f"sgllie enhance failed on it: {row['error']}"
        name = row["path"]
    else:
        sides["after"] = Entry(row["output"], row["bytes_out"], row["sha256_out"]), None
        name = row["output"].removeprefix(f"{IMAGES}/")
    sides["before"] = Entry(row["path"], row["bytes_in"], row["sha256_in"]), None
    return join(row["path"], sides | {side: names.find(name) for side, names in others.items()})
