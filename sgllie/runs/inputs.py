"""The input of a job that enhances: listed, counted and cut into shards."""

import itertools
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from sgllie.corpus.listing import Listing, is_pattern
from sgllie.errors import StorageError, UsageError
from sgllie.images import EXTENSIONS
from sgllie.runs.plan import OutputNames, Plan, write_manifest
from sgllie.runs.run_file import Json
from sgllie.runs.settings import CorpusSettings
from sgllie.runs.words import examples, ignored_note, plural
from sgllie.storage import Entry, absolute_uri


class Limited:
    """The first files of a listing, found anew by each iteration."""

    def __init__(self, listing: Listing, limit: int | None) -> None:
        self.listing, self.limit = listing, limit

    def __iter__(self) -> Iterator[Entry]:
        return itertools.islice(self.listing, self.limit)


def plan_inputs(
    settings: CorpusSettings,
    output_name: Callable[[str], str],
    shard_items: int,
    folder: Path,
    *,
    extensions: Collection[str] = EXTENSIONS,
    noun: str = "images",
    image_column: str | None = None,
) -> tuple[Plan, Json]:
    """List the input of a job, and write its manifest into a local folder.

    Args:
        settings: of the job.
        output_name: path of a file -> path of its output.
        shard_items: files of one shard, at most.
        folder: for the manifest.
        extensions: of the files that count.
        noun: what they are called.
        image_column: see `Listing`.

    Returns:
        What it came to, and what run.json is to say of it.

    Raises:
        UsageError: the input cannot be listed, or holds nothing to do.
    """
    listing = Listing(settings.input, settings.s3, absolute_uri(settings.output), extensions, image_column)
    files = Limited(listing, settings.limit)
    names = OutputNames(output_name)
    try:
        plan = write_manifest(names.watch(files), Entry, shard_items, folder)
        names.refuse_clashes(files)
    except (StorageError, OSError) as error:
        raise UsageError(f"input {settings.input} cannot be listed: {error}") from error
    if not plan.items:
        others = f" ({listing.ignored} other files)" if listing.ignored else ""
        advice = "; *, ? and [ are wildcards in it: write [[] for a bracket" if is_pattern(settings.input) else ""
        raise UsageError(f"input {settings.input} holds no {noun}{others}{advice}")
    return plan, described(listing)


def described(listing: Listing) -> Json:
    """Return what run.json says of a listing."""
    notes = ignored_note(listing.ignored, listing.ignored_examples)
    if listing.unreadable:
        folders = f"{plural(len(listing.unreadable), 'folders')} cannot be read, and left out"
        notes.append(f"{folders}: {examples(listing.unreadable)}")
    return {
        "uri": listing.source,
        "roots": {"input": listing.root},
        "ignored": listing.ignored,
        "ignored_examples": listing.ignored_examples,
        "unreadable": listing.unreadable,
        "notes": notes,
    }
