"""Manifest and rows of an evaluation: which files belong together, and what was measured on them."""

from collections.abc import Iterable
from typing import NamedTuple

import pyarrow as pa

from sgllie.corpus import MANIFEST, from_parquet, part_name
from sgllie.storage import Storage

SUMMARY = "summary.json"


class Item(NamedTuple):
    """The files of one picture, by their paths below the roots of their kinds; None where there is none.

    Attributes:
        path: what the row is called.
        size: bytes of all of them, if they are known.
        version: what changes when one of them does.
        after: the enhanced image, or what was predicted on it.
        before: the same before enhancement.
        truth: the reference or the label.
        problem: why a file is missing that should be there, or None.
    """

    path: str
    size: int | None
    version: str
    after: str | None
    before: str | None
    truth: str | None
    problem: str | None


SIDES = ("after", "before", "truth")

ITEM_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
        *((side, pa.string()) for side in SIDES),
        ("problem", pa.string()),
    ]
)

ROW_FIELDS: list[tuple[str, pa.DataType]] = [
    ("path", pa.string()),
    ("status", pa.string()),
    ("error_type", pa.string()),
    ("error", pa.string()),
]
"""The columns that every row has; those of the measures follow."""


def row_schema(fields: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    """The schema of rows with these further columns."""
    return pa.schema([*ROW_FIELDS, *fields])


def both_sides(names: Iterable[str], kind: pa.DataType) -> list[tuple[str, pa.DataType]]:
    """`name` and `name_before` of each name."""
    return [(column, kind) for name in names for column in (name, f"{name}_before")]


def read_items(storage: Storage, shard: int) -> list[Item]:
    """The items of one shard."""
    table = from_parquet(storage.read(f"{MANIFEST}/{part_name(shard)}"))
    return [Item(**row) for row in table.to_pylist()]
