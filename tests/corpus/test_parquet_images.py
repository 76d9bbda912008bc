"""Parquet files with a column of images as packs."""

import io

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from packs import make_parquet, rewritten, unchanged
from sgllie.corpus.pack import Replacement
from sgllie.corpus.parquet import ParquetImages
from sgllie.errors import ItemError, UsageError

KIND = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def png(level: int) -> bytes:
    return cv2.imencode(".png", np.full((4, 4, 3), level, np.uint8))[1].tobytes()


def opened(data: bytes, column: str | None = None) -> ParquetImages:
    return ParquetImages(io.BytesIO(data), column)


def written(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def leaves(data: bytes) -> list[list[tuple[object, ...]]]:
    """How each column of each row group is stored."""
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    return [
        [
            (leaf.path_in_schema, leaf.compression, leaf.num_values, leaf.is_stats_set, leaf.encodings)
            for leaf in map(metadata.row_group(group).column, range(metadata.num_columns))
        ]
        for group in range(metadata.num_row_groups)
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compression": {"number": "zstd", "image.bytes": "none", "image.path": "gzip", "words": "snappy"}},
        {"use_dictionary": ["words"], "write_statistics": ["number"], "version": "1.0"},
        {"compression": "lz4", "store_schema": False, "write_page_index": True},
        {"use_deprecated_int96_timestamps": True, "use_compliant_nested_type": False},
    ],
)
def test_everything_but_the_images_stays(options):
    images = [png(level) for level in range(10)]
    table = pa.table(
        {
            "number": pa.array(range(10), pa.int32()),
            "image": pa.array([{"bytes": data, "path": f"{n}.png"} for n, data in enumerate(images)], KIND),
            "words": pa.array([["a", None], [], None, ["b"]] * 2 + [["c"]] * 2),
            "time": pa.array(range(10), pa.timestamp("us")),
        }
    )
    table = table.replace_schema_metadata({"huggingface": "{}", "other": "kept"})
    data = written(table, row_group_size=3, **options)
    assert [image.name for image in opened(data).images()][-1] == "image/000009"
    before = pq.read_table(io.BytesIO(data))
    same = rewritten(opened(data), unchanged)
    assert pq.read_table(io.BytesIO(same)).equals(before, check_metadata=True)
    assert leaves(same) == leaves(data)
    assert pq.ParquetFile(io.BytesIO(same)).schema.equals(pq.ParquetFile(io.BytesIO(data)).schema)
    new = rewritten(opened(data), lambda image: Replacement(image.name, image.data + b"!"))
    after = pq.read_table(io.BytesIO(new))
    assert after.schema.equals(before.schema, check_metadata=True)
    assert after.drop_columns("image").equals(before.drop_columns("image"))
    assert after["image"].to_pylist() == [{"bytes": d + b"!", "path": f"{n}.png"} for n, d in enumerate(images)]
    assert opened(new).read("image/000004") == images[4] + b"!"


def test_metadata_that_only_the_footer_holds_stay():
    """Those that tell how this very file was written do not."""
    sink, table = io.BytesIO(), pa.table({"image": [png(9)]}).replace_schema_metadata({"a": "1"})
    with pq.ParquetWriter(sink, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"b": "2", "content_defined_chunking": "{}"})
    same = rewritten(opened(sink.getvalue()), unchanged)
    metadata = pq.ParquetFile(io.BytesIO(same)).metadata.metadata
    assert {key: metadata[key] for key in metadata if key != b"ARROW:schema"} == {b"a": b"1", b"b": b"2"}


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
def test_a_column_of_bytes(kind):
    data = written(pa.table({"jpg": pa.array([png(1), png(2)], kind), "blob": pa.array([b"x", b"y"], kind)}))
    pack = opened(data)
    assert (pack.column, pack.read("jpg/000001")) == ("jpg", png(2))
    new = pq.read_table(io.BytesIO(rewritten(pack, lambda image: Replacement(image.name, None))))
    assert new["jpg"].to_pylist() == [None, None]
    assert new["jpg"].type == kind


def test_what_is_left_out_is_null_and_what_was_null_stays_as_it_was(tmp_path):
    records = [{"bytes": png(1), "path": "a"}, None, {"bytes": None, "path": "b"}, {"bytes": png(2), "path": "c"}]
    pack = opened(written(pa.table({"image": pa.array(records, KIND)})))
    contents = [image for block in pack.blocks() for image in block.images]
    assert [image.failure and image.failure.error_type for image in contents] == [None, "empty", "empty", None]
    left_out = rewritten(pack, lambda image: Replacement(image.name, None if image.data == png(1) else image.data))
    assert pq.read_table(io.BytesIO(left_out))["image"].to_pylist() == [None, None, *records[2:]]


def test_a_column_that_allows_no_null_has_no_bytes_where_an_image_is_left_out():
    schema = pa.schema([pa.field("image", pa.binary(), nullable=False)])
    pack = opened(written(pa.table({"image": [png(1), png(2)]}, schema)))
    new = rewritten(pack, lambda image: Replacement(image.name, None if image.data == png(1) else image.data))
    assert pq.read_table(io.BytesIO(new))["image"].to_pylist() == [b"", png(2)]


def test_an_image_of_another_format_has_another_suffix_in_its_path(tmp_path):
    pack = opened(make_parquet(tmp_path / "a.parquet", [png(1), png(2)]).read_bytes())
    new = rewritten(pack, lambda image: Replacement(f"{image.name}.webp", b"new"))
    assert [one["path"] for one in pq.read_table(io.BytesIO(new))["image"].to_pylist()] == ["0.webp", "1.webp"]


def test_which_column_holds_the_images():
    two = written(pa.table({"left": [png(1)], "right": [png(2)], "text": ["t"]}))
    with pytest.raises(UsageError, match=r"several columns hold images \(left, right\); name one with --image-column"):
        opened(two)
    assert opened(two, "right").read("right/000000") == png(2)
    assert opened(two, "text").column is None
    assert opened(written(pa.table({"path": ["a.jpg"], "sound": [b"RIFF...."]}))).column is None


@pytest.mark.parametrize("first", [[None] * 40, [b"no image", b"GIF89a"]])
def test_a_column_that_begins_with_what_is_no_image(first):
    """Nulls, however many, and some bad ones; but not bytes of which one happens to begin as an image does."""
    values = [*first, png(1), png(2)]
    assert opened(written(pa.table({"image": values}), row_group_size=5)).column == "image"
    assert opened(written(pa.table({"image": [b"BM...", b"vector", b"vector"]}))).column is None
    assert opened(written(pa.table({"image": pa.nulls(3, pa.binary())}))).column is None


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[{"bytes": png(1), "path": None}] * 2, None], pa.list_(KIND)),
        pa.array([{"image": {"bytes": png(1), "path": "a"}, "number": 1}, None]),
        pa.array([png(1), png(2)]).dictionary_encode(),
    ],
)
def test_images_that_are_not_one_to_a_row_are_refused(column):
    """Not carried as they are, as a file without images is."""
    data = written(pa.table({"number": [1, 2], "sample": column}))
    for wanted in (None, "sample"):
        with pytest.raises(ItemError, match=r"its images lie in the column sample as .*; a column that is"):
            opened(data, wanted)
    assert opened(data, "number").column is None
    assert opened(written(pa.table({"sample": column, "image": [png(1), png(2)]}))).column == "image"


def test_two_columns_of_one_name_are_refused():
    table = pa.Table.from_arrays([[png(1)], [1], [2]], names=["image", "number", "number"])
    with pytest.raises(ItemError, match="two of its columns have one name"):
        opened(written(table))


@pytest.mark.parametrize("names", [["image.left", "image", "image.right"], ["[Camera].image", "[Camera].pose.x", "k"]])
def test_names_of_columns_with_dots(names):
    values = [[png(n) if "image" in name[-6:] else bytes([n]) for n in range(4)] for name in names]
    data = written(pa.table(values, names), row_group_size=2)
    pack = opened(data)
    assert pack.column in ("image", "[Camera].image")
    assert pack.read(f"{pack.column}/000003") == png(3)
    assert pq.read_table(io.BytesIO(rewritten(pack, unchanged))).equals(pq.read_table(io.BytesIO(data)))


def test_the_pack_ends_after_the_images_that_are_given(tmp_path):
    pack = opened(make_parquet(tmp_path / "a.parquet", [png(n) for n in range(6)]).read_bytes())
    first, _ = pack.blocks()
    data = b"".join(pack.joined([first.written([Replacement("image/000000", b"x")])]))
    assert pq.read_table(io.BytesIO(data)).num_rows == 1


def broken_at(data: bytes, group: int, column: str) -> bytes:
    """A Parquet file of which one column of one row group cannot be decompressed."""
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    found = map(metadata.row_group(group).column, range(metadata.num_columns))
    start = next(leaf.data_page_offset for leaf in found if leaf.path_in_schema == column)
    return data[:start] + b"\xff" * 40 + data[start + 40 :]


@pytest.mark.parametrize("column", ["image.bytes", "words"])
def test_a_row_group_that_is_damaged(tmp_path, column):
    words = [f"word {n}" for n in range(12)]
    images = [png(n) for n in range(12)]
    good = make_parquet(tmp_path / "a.parquet", images, words=words).read_bytes()
    pack = opened(broken_at(good, 1, column))
    contents = [image for block in pack.blocks() for image in block.images]
    failures = [image.failure.error_type if image.failure else None for image in contents]
    assert failures == [None] * 4 + ["corrupt"] * 4 + [None] * 4, "what is lost beside an image is no success either"
    new = pq.read_table(io.BytesIO(rewritten(pack, unchanged)))
    assert new["number"].to_pylist() == list(range(12))
    assert [value is None for value in new[column.partition(".")[0]].to_pylist()] == [
        n in range(4, 8) for n in range(12)
    ]


@pytest.mark.parametrize("data", [b"", b"PAR1 no more", None])
def test_what_is_no_parquet(tmp_path, data):
    if data is None:
        data = make_parquet(tmp_path / "a.parquet", [png(1)] * 8).read_bytes()[:-20]
    with pytest.raises(ItemError, match="the Parquet file is damaged"):
        opened(data)


@pytest.mark.parametrize("column", ["image", "caption"])
def test_few_bytes_that_stand_for_many_values(column):
    grown = pa.DictionaryArray.from_arrays(np.zeros(100, np.int32), pa.array([png(1) + bytes(8 << 20)]))
    plain = pa.array([png(1)] * 100)
    image, caption = (grown, plain) if column == "image" else (plain, grown)
    table = pa.table({"image": image, "caption": caption})
    options = {"compression": "zstd", "dictionary_pagesize_limit": 1 << 30, "store_schema": False}
    pack = opened(written(table, **options), "image")
    before = pa.total_allocated_bytes()
    (block,) = pack.blocks()
    assert pa.total_allocated_bytes() - before < 400 << 20
    assert {content.failure.error_type for content in block.images if content.failure} == {"memory"}
    assert "which become more than" in block.images[-1].failure.error


def test_more_rows_than_bytes():
    nothing = pa.DictionaryArray.from_arrays(pa.nulls(3_000_000, pa.int8()), pa.array([png(1)]))
    pack = opened(written(pa.table({"image": nothing}), store_schema=False), "image")
    with pytest.raises(ItemError, match="it claims 3,000,000 rows in"):
        next(pack.images())
