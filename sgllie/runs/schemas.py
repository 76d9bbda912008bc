"""The columns of every table that a job writes. `docs/reference.md` says what each one means.

Absent values are null. A manifest's columns are the fields of the items that it lists.
"""

from collections.abc import Iterable
from types import NoneType
from typing import Any, NamedTuple, get_args, get_type_hints

import pyarrow as pa

SCHEMA_VERSION = 4
"""Of all tables and of run.json; an output of another version is neither resumed nor read."""

Row = dict[str, Any]
"""One row of a table, by column."""

Fields = list[tuple[str, pa.DataType]]

ARROW_TYPES = {str: pa.string(), int: pa.int64(), bool: pa.bool_(), float: pa.float64()}

OUTCOME: Fields = [("path", pa.string()), ("status", pa.string()), ("error_type", pa.string()), ("error", pa.string())]
"""What every row begins with: the item, whether it is ok, and why not."""

MAP_BY_NAME, MAP_BY_CONTENT, BRIGHT_ENOUGH = "label map by name", "label map by content", "bright enough"
"""What the column `reason` of an image that is copied begins with, up to a colon."""

NO_OUTPUT: Row = {"output": None, "bytes_out": None, "sha256_out": None}
"""What the row of an item says of an output that is not there."""


def is_label_map(row: Row) -> bool:
    """Tell whether a row of `sgllie enhance` is that of a label map, which is no photograph."""
    return (row["reason"] or "").startswith((MAP_BY_NAME, MAP_BY_CONTENT))


def manifest_schema(item_type: type[NamedTuple]) -> pa.Schema:
    """Return the columns of a manifest that lists named tuples of this type."""
    hints = get_type_hints(item_type)
    kinds = {
        name: next(kind for kind in get_args(hint) or (hint,) if kind is not NoneType) for name, hint in hints.items()
    }
    return pa.schema([(name, ARROW_TYPES[kind]) for name, kind in kinds.items()])


def row_schema(fields: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    """Return the columns of a row with these further fields."""
    return pa.schema([*OUTCOME, *fields])


def both_sides(names: Iterable[str], kind: pa.DataType) -> Fields:
    """Return the fields `name` and `name_before` of each name."""
    return [(column, kind) for name in names for column in (name, f"{name}_before")]


def luma_fields(side: str) -> Fields:
    """Return the statistics that every image has before (`in`) and after (`out`) enhancement."""
    names = ("luma_mean", "luma_p5", "luma_p50", "luma_p95", "contrast", "entropy", "luma_clipped")
    return [(f"{name}_{side}", pa.float32()) for name in names]


STATS_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("output", pa.string()),
        *OUTCOME[1:],
        ("reason", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("bit_depth", pa.int8()),
        ("format", pa.string()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("sha256_in", pa.string()),
        ("sha256_out", pa.string()),
        *luma_fields("in"),
        *luma_fields("out"),
        ("factor_mean", pa.float32()),
        ("factor_min", pa.float32()),
        ("factor_max", pa.float32()),
        ("moment", pa.string()),
        ("level", pa.list_(pa.float32())),
        ("read_ms", pa.float32()),
        ("decode_ms", pa.float32()),
        ("enhance_ms", pa.float32()),
        ("encode_ms", pa.float32()),
        ("write_ms", pa.float32()),
        ("retries", pa.int16()),
        ("device", pa.string()),
        ("finished", pa.timestamp("ms")),
        ("shard", pa.int32()),
        ("attempt", pa.int16()),
        ("node", pa.string()),
    ]
)
"""`sgllie enhance`: one row for each listed image."""

OTHERS_SCHEMA = row_schema(
    [
        ("output", pa.string()),
        ("bytes", pa.int64()),
        ("seconds", pa.float32()),
        ("retries", pa.int16()),
        ("finished", pa.timestamp("ms")),
        ("shard", pa.int32()),
        ("attempt", pa.int16()),
        ("node", pa.string()),
    ]
)
"""`sgllie enhance`: one row for each file of the input that is no image."""

_FRAME_COUNTS: Fields = [
    ("frames", pa.int64()),
    ("repeated", pa.int64()),
    ("cuts", pa.int64()),
    ("luma_mean_in", pa.float32()),
    ("luma_mean_out", pa.float32()),
]
_WORK: Fields = [("seconds", pa.float32()), ("finished", pa.timestamp("ms", tz="UTC")), ("node", pa.string())]

VIDEOS_SCHEMA = row_schema(
    [
        ("output", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("bit_depth", pa.int8()),
        ("codec", pa.string()),
        ("duration", pa.float64()),
        *_FRAME_COUNTS,
        ("segments", pa.int32()),
        ("left_out", pa.string()),
        ("bytes_in", pa.int64()),
        ("bytes_out", pa.int64()),
        ("sha256_out", pa.string()),
        *_WORK,
    ]
)
"""`sgllie video`: one row for each video; `duration` as the container tells, `seconds` the sum over its segments."""

SEGMENTS_SCHEMA = row_schema(
    [
        ("video", pa.int32()),
        *_FRAME_COUNTS,
        ("end", pa.float64()),
        ("side_data", pa.list_(pa.string())),
        *_WORK,
        ("shard", pa.int32()),
        ("attempt", pa.int16()),
    ]
)
"""`sgllie video`: one row for each segment; `seconds` is how long its enhancement took, `end` when it ends."""

FRAMES_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("time", pa.float64()),
        ("duration", pa.float64()),
        ("luma_mean_in", pa.float32()),
        ("luma_mean_out", pa.float32()),
        ("factor_mean", pa.float32()),
        ("cut", pa.bool_()),
        ("repeated", pa.bool_()),
    ]
)
"""`sgllie video`: one row for each frame of a segment; `time` and `duration` are in seconds."""
