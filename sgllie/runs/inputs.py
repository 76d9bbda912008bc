"""The input of a job that enhances: listed, counted and cut into shards."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgllie.corpus.listing import Listing, is_pattern
from sgllie.errors import StorageError, UsageError
from sgllie.runs.plan import OutputNames, Plan, write_manifest
from sgllie.runs.words import examples, ignored_note, plural
from sgllie.storage import Entry


@dataclass(frozen=True)
class Inputs:
    """What an input came to: its listing and its plan."""

    listing: Listing
    plan: Plan

    @property
    def roots(self) -> dict[str, str]:
        """The folder or prefix that all paths are relative to."""
        return {"input": self.listing.root}

    @property
    def notes(self) -> list[str]:
        """What the user is to know of the listing."""
        listing = self.listing
        notes = ignored_note(listing.ignored.count, listing.ignored.examples)
        notes += ignored_note(listing.excluded.count, listing.excluded.examples, "files", "excluded")
        if listing.unreadable:
            folders = f"{plural(len(listing.unreadable), 'folders')} cannot be read, and left out"
            notes.append(f"{folders}: {examples(listing.unreadable)}")
        return notes

    def describe(self) -> dict[str, Any]:
        """Return what run.json says of it."""
        listing = self.listing
        return {
            "uri": listing.source,
            "roots": self.roots,
            "ignored": listing.ignored.count,
            "ignored_examples": listing.ignored.examples,
            "excluded": listing.excluded.count,
            "unreadable": listing.unreadable,
        }


class Limited:
    """The first files of a listing, found anew by each iteration."""

    def __init__(self, listing: Listing, limit: int | None) -> None:
        self.listing, self.limit = listing, limit

    def __iter__(self) -> Iterator[Entry]:
        return itertools.islice(self.listing, self.limit)


def plan_inputs(
    listing: Listing,
    limit: int | None,
    output_name: Callable[[str], str],
    shard_items: int,
    folder: Path,
    *,
    noun: str = "images",
) -> Inputs:
    """List the input of a job, and write its manifest into a local folder.

    Args:
        listing: of the input.
        limit: how many of its files are taken, if not all.
        output_name: path of a file -> path of its output.
        shard_items: files of one shard, at most.
        folder: for the manifest.
        noun: what they are called.

    Raises:
        UsageError: the input cannot be listed, or holds nothing to do.
    """
    files = Limited(listing, limit)
    names = OutputNames(output_name)
    try:
        plan = write_manifest(names.watch(files), Entry, shard_items, folder)
        names.refuse_clashes(files)
    except (StorageError, OSError) as error:
        raise UsageError(f"input {listing.source} cannot be listed: {error}") from error
    if not plan.items:
        others = f" ({listing.ignored.count} other files)" if listing.ignored.count else ""
        advice = "; *, ? and [ are wildcards in it: write [[] for a bracket" if is_pattern(listing.source) else ""
        raise UsageError(f"input {listing.source} holds no {noun}{others}{advice}")
    return Inputs(listing, plan)
