"""The input of an enhancement: its images, the files beside them, and the columns of a list."""

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from sgllie.corpus.columns import fingerprint, list_columns
from sgllie.corpus.labels import is_map_by_name
from sgllie.corpus.listing import Listing
from sgllie.corpus.pack import pack_of
from sgllie.corpus.patterns import Patterns
from sgllie.enhance.named import stale_names
from sgllie.enhance.settings import EnhanceSettings
from sgllie.images import output_name
from sgllie.runs.inputs import plan_inputs
from sgllie.runs.plan import Plan
from sgllie.runs.run_file import Json
from sgllie.runs.tables import entries_in, with_columns
from sgllie.settings import split_names
from sgllie.storage import absolute_uri, open_storage
from sgllie.storage.parquet import from_parquet, to_parquet


def list_input(settings: EnhanceSettings, manifest: Path) -> tuple[Plan, Json]:
    """List the input, and write its manifest into a local folder; see `plan_inputs`."""
    listing = Listing(
        *(settings.input, settings.s3, absolute_uri(settings.output)),
        image_column=settings.image_column,
        left_out=Patterns(settings.exclude, "--exclude"),
        included=Patterns(settings.include, "--include"),
    )
    plan, inputs = plan_inputs(
        *(listing, settings.limit, renaming(settings), settings.shard_images, manifest),
        carries_others=settings.others != "skip",
        rig=settings.rig,
    )
    if settings.columns:
        columns = list_columns(listing, split_names(settings.columns))
        add_columns(manifest, columns)
        digest = hashlib.sha256(f"{plan.digest} {fingerprint(columns)}".encode()).hexdigest()
        plan = dataclasses.replace(plan, digest=digest)
    return plan, inputs | {"notes": inputs["notes"] + noted_names(settings, listing, plan, manifest)}


def renaming(settings: EnhanceSettings) -> Callable[[str], str]:
    """Return what makes the path of an output of that of an image: label maps keep their names in any format."""
    included = Patterns(settings.include, "--include")
    return lambda path: path if is_map_by_name(path, included) else output_name(path, settings.format)


def noted_names(settings: EnhanceSettings, listing: Listing, plan: Plan, manifest: Path) -> list[str]:
    """Return what the user is to know of files that name images, where these names no longer hold."""
    if not plan.others:
        return []
    images, others = entries_in(manifest, [0]), entries_in(manifest, plan.others)
    return stale_names(open_storage(listing.root, settings.s3), images, others, renaming(settings))


def add_columns(manifest: Path, columns: pa.Table) -> None:
    """Append columns of the input list to the parts of a manifest; images of a pack that is listed have its values."""
    listed = set(columns["path"].to_pylist())
    for part in manifest.glob("part-*.parquet"):
        table = from_parquet(part.read_bytes())
        paths = table["path"].to_pylist()
        keys = pa.array([path if path in listed else pack_of(path) for path in paths], pa.string())
        found = with_columns(pa.table({"path": keys}), columns)
        for name in found.column_names[1:]:
            table = table.append_column(found.schema.field(name), found[name])
        part.write_bytes(to_parquet(table))
