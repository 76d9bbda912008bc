"""A Parquet file with a column of images as a `Pack`: binary, or the `struct<bytes, path>` of Hugging Face's `Image`.

A block is a row group. All other columns, the row groups, the schema and its metadata stay as they are.
"""

import io
import threading
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sgllie.corpus.pack import Block, Content, PackedImage, Replacement, damaged
from sgllie.errors import Failure, ImageError, ItemError, UsageError
from sgllie.images import EXTENSIONS, output_name, recognised
from sgllie.storage.base import LARGEST_READ

BYTES, PATH = "bytes", "path"
"""The fields of Hugging Face's `Image`."""
LOOKED_AT = 16
"""The first values of a column, by which it is told whether it holds images."""
COMPRESSION = {"UNCOMPRESSED": "NONE", "LZ4_RAW": "LZ4"}
"""What the writer calls a compression that the reader calls otherwise."""
BUFFER_BYTES = 16 * 2**20
"""Of a column that are read at a time; otherwise all of it would lie in memory beside what becomes of it."""
GROWN_BYTES = 256 * 2**20
"""By which a column of a row group may grow when it is decoded, beside twice what it has."""
OF_THE_FILE = {b"ARROW:schema", b"content_defined_chunking"}
"""Keys of the metadata that tell how a file was written, and do not hold for another one."""
MOST_ROWS = 1_000_000
"""In fewer bytes than there are rows."""
EMPTY = Failure("empty", "the row holds no bytes of an image")


class ParquetImages:
    """A Parquet file, and one column of images in it.

    Args:
        file: opened for reading; this object's own from now on.
        column: of the images; without it the one that holds any.
        largest: bytes of a row group that is read.

    Attributes:
        column: of the images; None where there is none.

    Raises:
        ItemError: it is no Parquet file.
        UsageError: several columns hold images, and none was named.
    """

    def __init__(self, file: BinaryIO, column: str | None = None, largest: int = LARGEST_READ) -> None:
        try:
            self._parquet = pq.ParquetFile(
                file, pre_buffer=False, buffer_size=BUFFER_BYTES, page_checksum_verification=True
            )
        except (pa.ArrowException, OSError) as error:
            raise damaged("Parquet file", error) from error
        self._size = file.seek(0, 2)
        self._largest = largest
        self._schema = self._parquet.schema_arrow
        self._metadata = self._parquet.metadata
        self.column = self._image_column(column)
        self._lock = threading.Lock()
        self._recent: tuple[int, list[bytes | None]] = (-1, [])

    def _image_column(self, wanted: str | None) -> str | None:
        """Return the column that holds images."""
        fields = [field for field in self._schema if wanted in (None, field.name)]
        candidates = [field.name for field in fields if binary_type(field.type)]
        if wanted is None:
            candidates = [name for name in candidates if self._holds_images(name)]
        if len(candidates) > 1:
            raise UsageError(f"several columns hold images ({', '.join(candidates)}); name one with --image-column")
        if candidates:
            if len(set(self._schema.names)) < len(self._schema.names):
                raise ItemError("unsupported", "two of its columns have one name, and a column is found by its name")
            return candidates[0]
        for field in fields:
            if pa.types.is_nested(field.type) or pa.types.is_dictionary(field.type):
                self._refuse_images(field)
        return None

    def _holds_images(self, column: str) -> bool:
        """Tell whether at least half of the first values of a column begin as images do."""
        try:
            batches = (one for group in range(self._metadata.num_row_groups) for one in self._batches(group, column))
            values = (value for batch in batches for value in contained_bytes(batch.column(0)))
            first = list(islice(values, max(min(LOOKED_AT, GROWN_BYTES // max(self._mean_size, 1)), 1)))
        except (pa.ArrowException, OSError):
            return True  # its rows will say what is wrong
        return 0 < len(first) <= 2 * sum(map(is_image, first))

    @property
    def _mean_size(self) -> int:
        """Bytes of a row of the first row group, so that few are looked at where they are large."""
        group = self._metadata.row_group(0) if self._metadata.num_row_groups else None
        return group.total_byte_size // max(group.num_rows, 1) if group else 0

    def _refuse_images(self, field: pa.Field) -> None:
        """Raise ItemError if a column holds images in a way in which they are not read."""
        if self._holds_images(field.name):
            where = f"its images lie in the column {field.name} as {field.type}"
            raise ItemError("unsupported", f"{where}; a column that is read holds bytes, or structs of bytes and path")

    def images(self) -> Iterator[PackedImage]:
        """Yield the rows, each with the mean size of those in its row group."""
        row = 0
        if self._metadata.num_rows > max(MOST_ROWS, self._size):
            raise damaged("Parquet file", f"it claims {self._metadata.num_rows:,} rows in {self._size:,} bytes")
        for number in range(self._metadata.num_row_groups):
            group = self._metadata.row_group(number)
            self._refuse_large(group)
            leaves = [group.column(leaf) for leaf in range(group.num_columns)]
            own = [leaf for leaf in leaves if f"{leaf.path_in_schema}.".startswith(f"{self.column}.")]
            size = sum(leaf.total_uncompressed_size for leaf in own)
            for _ in range(group.num_rows):
                yield PackedImage(f"{self.column}/{row:06d}", size // group.num_rows, row)
                row += 1

    def _refuse_large(self, group: Any) -> None:
        if group.total_byte_size > self._largest:
            sentence = f"a row group has {group.total_byte_size:,} bytes; at most {self._largest:,} are read at once"
            more = " or give each worker more memory (--worker-memory)" if self._largest < LARGEST_READ else ""
            raise ItemError("memory", f"{sentence}: write the file with smaller ones{more}")

    def read(self, name: str) -> bytes:
        """Return the bytes of one image; the row group that was read last is remembered."""
        row = int(PurePosixPath(name).stem)
        for number in range(self._metadata.num_row_groups):
            rows = self._metadata.row_group(number).num_rows
            if row < rows:
                break
            row -= rows
        else:
            raise FileNotFoundError(name)
        with self._lock:
            if self._recent[0] != number:
                self._recent = number, image_bytes(self._column(number, self.column))
            data = self._recent[1][row]
        if data is None:
            raise FileNotFoundError(name)
        return data

    def _batches(self, group: int, name: str | None) -> Iterator[pa.RecordBatch]:
        """Yield one column of a row group, some rows at a time.

        In a dictionary one large value may stand for any number of rows, so few are decoded together.
        """
        stored = self._metadata.row_group(group).total_byte_size
        each = max(GROWN_BYTES // max(stored, 1), 1)
        yield from self._parquet.iter_batches(each, row_groups=[group], columns=[name], use_threads=False)

    def _column(self, group: int, name: str | None) -> Any:
        """Return one column of a row group; ItemError where it is damaged, or becomes far larger than it is stored."""
        stored = self._metadata.row_group(group).total_byte_size
        parts, size = [], 0
        try:
            for batch in self._batches(group, name):
                parts.append(batch.column(0))
                size += batch.nbytes
                if size > 2 * stored + GROWN_BYTES:
                    sentence = f"{name} has {stored:,} bytes, which become more than {size:,}"
                    raise damaged(f"row group {group} of the Parquet file", sentence, "memory")
        except (pa.ArrowException, OSError, ValueError) as error:
            raise damaged(f"row group {group} of the Parquet file", error) from error
        return pa.chunked_array(parts, self._schema.field(name).type)

    def blocks(self, first: int = 0) -> Iterator[Block]:
        """Yield each row group as a block; nulls take the place of columns that are damaged, and its rows fail."""
        groups = [self._metadata.row_group(number).num_rows for number in range(self._metadata.num_row_groups)]
        for number in range(first, len(groups)):
            group = self._metadata.row_group(number)
            self._refuse_large(group)
            columns = [self._column_or_nulls(number, field) for field in self._schema]
            failure = next((found for _, found in columns if found), None)
            arrays = [array for array, _ in columns]
            place = self._schema.get_field_index(self.column)
            images, arrays[place] = arrays[place], pa.nulls(groups[number], self._schema.field(place).type)
            contents = [
                Content(f"{self.column}/{row:06d}", data, failure or (EMPTY if data is None else None))
                for row, data in enumerate(image_bytes(images), start=sum(groups[:number]))
            ]
            others = pa.table(arrays, self._schema)
            yield Block(
                contents, group.total_byte_size, partial(self._written, others, without_bytes(images), contents)
            )

    def _column_or_nulls(self, group: int, field: pa.Field) -> tuple[Any, Failure | None]:
        """Return a column of a row group; nulls where it is damaged, and why."""
        try:
            return self._column(group, field.name), None
        except ItemError as error:
            sentence = f"{error} (the column {field.name})"
            return pa.nulls(self._metadata.row_group(group).num_rows, field.type), Failure(error.error_type, sentence)

    def _written(
        self, others: pa.Table, fields: "Fields", contents: list[Content], replacements: list[Replacement]
    ) -> bytes:
        """Return a row group with other images, as a stream of Arrow."""
        place = self._schema.get_field_index(self.column)
        images = replaced(self._schema.field(place), fields, contents, replacements)
        table = others.slice(0, len(replacements)).set_column(place, self._schema.field(place), images)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, self._schema) as stream:
            stream.write_table(table)
        return sink.getvalue().to_pybytes()

    def joined(self, parts: Iterable[bytes]) -> Iterator[bytes]:
        """Yield a Parquet file of these row groups, with schema, metadata and compression of the one that is read."""
        drain = Drain()
        # Of all metadata the schema holds none that was added to the footer alone.
        known = OF_THE_FILE | set(self._schema.metadata or {})
        metadata = {key: value for key, value in (self._metadata.metadata or {}).items() if key not in known}
        with pq.ParquetWriter(drain, self._schema, **writer_options(self._metadata)) as writer:
            writer.add_key_value_metadata(metadata)
            for part in parts:
                reader = pa.BufferReader(part)
                while reader.tell() < reader.size():
                    with pa.ipc.open_stream(reader) as stream:
                        table = stream.read_all()
                    writer.write_table(table, row_group_size=max(len(table), 1))
                    yield drain.drained()
        yield drain.drained()


Fields = dict[str, Any]
"""What a column of images holds beside their bytes: arrays by the names of the fields, and "" for which are valid."""


def binary_type(kind: pa.DataType) -> bool:
    """Tell whether a column of this type may hold images."""
    if pa.types.is_struct(kind):
        place = kind.get_field_index(BYTES)
        return place >= 0 and binary_type(kind.field(place).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)


def image_bytes(column: Any) -> list[bytes | None]:
    """Return the bytes in a column of images."""
    return (pc.struct_field(column, BYTES) if pa.types.is_struct(column.type) else column).to_pylist()


def contained_bytes(column: Any) -> Iterator[bytes]:
    """Yield the values of bytes in a column, however deep they lie in it."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        yield from contained_bytes(column.dictionary_decode())
    elif pa.types.is_struct(kind) and not binary_type(kind):
        for inner in column.flatten():
            yield from contained_bytes(inner)
    elif isinstance(column, pa.ListArray | pa.LargeListArray | pa.FixedSizeListArray):
        yield from contained_bytes(column.flatten())
    elif binary_type(kind):
        yield from filter(None, image_bytes(column))


def is_image(data: bytes) -> bool:
    """Tell whether bytes begin as an image does."""
    try:
        recognised(data)
    except ImageError:
        return False
    return True


def without_bytes(column: Any) -> Fields:
    """Return what a column of images holds beside their bytes."""
    kind = column.type
    names = [field.name for field in kind if field.name != BYTES] if pa.types.is_struct(kind) else []
    return {"": column.is_valid()} | {name: pc.struct_field(column, name) for name in names}


def replaced(field: pa.Field, fields: Fields, contents: list[Content], replacements: list[Replacement]) -> Any:
    """Return a column of images with other bytes; what is left out is null, or empty where no null is allowed.

    Where the format of an image changes, so does the suffix in its `path`, if it has one.
    """
    number = len(replacements)
    data = [new.data for new in replacements]
    if not pa.types.is_struct(field.type):
        return pa.array([value if value is not None or field.nullable else b"" for value in data], field.type)
    arrays = []
    for inner in field.type:
        if inner.name == BYTES:
            array = pa.array([value if value is not None or inner.nullable else b"" for value in data], inner.type)
        else:
            values = fields[inner.name].slice(0, number).to_pylist()
            if inner.name == PATH:
                values = [renamed(path, new.name) for path, new in zip(values, replacements, strict=True)]
            array = pa.array(values, inner.type)
        arrays.append(array)
    left_out = [old.data is not None and new.data is None for old, new in zip(contents, replacements, strict=False)]
    is_valid = fields[""].slice(0, number).to_pylist()
    is_null = [field.nullable and (left or not valid) for left, valid in zip(left_out, is_valid, strict=True)]
    return pa.StructArray.from_arrays(arrays, fields=list(field.type), mask=pa.array(is_null, pa.bool_()))


def renamed(path: Any, name: str) -> Any:
    """Return the path of an image with the suffix that its name in the pack has got, if it has got one."""
    format: Any = EXTENSIONS.get(PurePosixPath(name).suffix)
    return output_name(path, format) if format and isinstance(path, str) else path


class Drain(io.RawIOBase):
    """A file from which what was written is taken away, so that none of it need be kept."""

    def __init__(self) -> None:
        self._position = 0
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        """Tell that it can be written."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes."""
        self._parts.append(bytes(data))
        self._position += len(self._parts[-1])
        return len(self._parts[-1])

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._position

    def drained(self) -> bytes:
        """Return the bytes that were written since the last time."""
        parts, self._parts = self._parts, []
        return b"".join(parts)


def writer_options(metadata: Any) -> dict[str, Any]:
    """Return how a Parquet file was written, as arguments of ParquetWriter."""
    group = metadata.row_group(0) if metadata.num_row_groups else None
    leaves = [group.column(leaf) for leaf in range(metadata.num_columns)] if group else []
    paths = [leaf.path_in_schema for leaf in leaves]
    return {
        "version": metadata.format_version if metadata.format_version in ("1.0", "2.4", "2.6") else "2.6",
        "compression": {leaf.path_in_schema: COMPRESSION.get(leaf.compression, leaf.compression) for leaf in leaves},
        "use_dictionary": [leaf.path_in_schema for leaf in leaves if any("DICT" in one for one in leaf.encodings)],
        "write_statistics": [leaf.path_in_schema for leaf in leaves if leaf.is_stats_set],
        "write_page_index": any(leaf.has_offset_index for leaf in leaves),
        "use_deprecated_int96_timestamps": any(leaf.physical_type == "INT96" for leaf in leaves),
        "use_compliant_nested_type": not any(path.endswith(".list.item") or ".list.item." in path for path in paths),
        "store_schema": b"ARROW:schema" in (metadata.metadata or {}),
    }
