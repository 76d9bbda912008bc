"""The input of a job that enhances: listed, counted and cut into shards."""

import itertools
from collections.abc import Callable
from pathlib import Path

from sgllie.corpus.listing import Listing, is_pattern
from sgllie.corpus.rig import Rig, moment_of
from sgllie.corpus.spool import Spool
from sgllie.errors import StorageError, UsageError
from sgllie.runs.grouping import Grouping
from sgllie.runs.plan import OutputNames, Plan, kind_of, pack_or, write_manifest
from sgllie.runs.run_file import Json
from sgllie.runs.words import examples, ignored_note, plural
from sgllie.storage import Entry

UNREAD = "not brightened, of formats that are not read (convert them first)"


def plan_inputs(
    listing: Listing,
    limit: int | None,
    output_name: Callable[[str], str],
    shard_items: int,
    folder: Path,
    *,
    carries_others: bool = False,
    rig: str | None = None,
    noun: str = "images",
) -> tuple[Plan, Json]:
    """List the input of a job, and write its manifest into a local folder.

    Args:
        listing: of the input.
        limit: how many of its files are taken, if not all.
        output_name: path of a file -> path of its output.
        shard_items: files of one shard, at most.
        folder: for the manifest.
        carries_others: whether files that are no images are planned as well; not where there is a limit.
        rig: pattern of the moments, whose images are planned together.
        noun: what the files are called.

    Returns:
        What it came to, and what run.json is to say of it.

    Raises:
        UsageError: the input cannot be listed, or holds nothing to do.
    """
    names, grouping = OutputNames(), Grouping(Rig(rig)) if rig else None
    with Spool() as others:
        carry = others.add if carries_others and limit is None else None
        try:
            files = names.watch(itertools.islice(listing.files(carry), limit), output_name)
            files = grouping.together(files) if grouping else files
            plan = write_manifest(files, Entry, shard_items, folder, apart=kind_of, together=pack_or(moment_of(rig)))
            carried = names.watch(others, str)
            plan = plan.carrying(write_manifest(carried, Entry, shard_items, folder, first=len(plan.shards)))
            names.refuse_clashes((itertools.islice(listing, limit), output_name), (others, str))
        except (StorageError, OSError) as error:
            raise UsageError(f"input {listing.source} cannot be listed: {error}") from error
    if not plan.items:
        count, excluded = listing.ignored.count + listing.others.count, listing.excluded.count
        left = [plural(count, "other files")] * bool(count)
        left += [f"{plural(listing.unread.count, 'pictures')} {UNREAD}"] * bool(listing.unread.count)
        left += [f"{plural(excluded, 'files')} left out by --exclude"] * bool(excluded)
        beside = f" ({', '.join(left)})" if left else ""
        advice = "; *, ? and [ are wildcards in it: write [[] for a bracket" if is_pattern(listing.source) else ""
        if listing.image_column:
            advice += f"; no Parquet file in it has a column of images that is called {listing.image_column}"
        raise UsageError(f"input {listing.source} holds no {noun}{beside}{advice}")
    return plan, described(listing, grouping.note() if grouping else [])


def described(listing: Listing, notes: list[str]) -> Json:
    """Return what run.json says of a listing, with further notes for the user."""
    return {
        "uri": listing.source,
        "roots": {"input": listing.root},
        "ignored": listing.ignored.count,
        "ignored_examples": listing.ignored.examples,
        "excluded": listing.excluded.count,
        "other_files": listing.others.count,
        "other_bytes": listing.others.size,
        "unreadable": listing.unreadable,
        "notes": notes_on(listing) + notes,
    }


def notes_on(listing: Listing) -> list[str]:
    """Return what the user is to know of a listing."""
    notes = ignored_note(listing.ignored.count, listing.ignored.examples)
    notes += ignored_note(listing.excluded.count, listing.excluded.examples, "files", "excluded")
    if listing.left_out.lines and not listing.excluded.count:
        notes.append(f"--exclude leaves out no file: {', '.join(listing.left_out.lines)}")
    carried = f"({listing.others.size / 1e6:,.1f} MB) carried as {'it is' if listing.others.count == 1 else 'they are'}"
    notes += ignored_note(listing.others.count, listing.others.examples, "other files", carried)
    notes += ignored_note(listing.unread.count, listing.unread.examples, "pictures", UNREAD)
    if listing.unreadable:
        paths = f"{plural(len(listing.unreadable), 'paths')} left out: folders that may not be read, pipes or devices"
        notes.append(f"{paths}: {examples(listing.unreadable)}")
    return notes
