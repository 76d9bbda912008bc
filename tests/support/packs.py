"""Makes tars and Parquet files of images for tests, and writes them again with other images in them."""

import io
import tarfile
from collections.abc import Callable, Iterable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from sgllie.corpus.pack import Content, Pack, Replacement


def member(name: str, size: int = 0, **fields: object) -> tarfile.TarInfo:
    """The header of a member that somebody else than the tests has made."""
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode, info.uid, info.uname = size, 1_600_000_000, 0o640, 1234, "somebody"
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def make_tar(path: Path, members: Iterable[tuple[str, bytes]], format: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of these members, in this order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=format) as tar:
        for name, data in members:
            tar.addfile(member(name, len(data)), io.BytesIO(data))
    return path


def samples(files: Iterable[Path]) -> list[tuple[str, bytes]]:
    """Samples of WebDataset: of each file an image and a label, called after it."""
    return [
        (f"{path.stem}.{suffix}", data)
        for path in files
        for suffix, data in (("jpg", path.read_bytes()), ("json", f'{{"key": "{path.stem}"}}'.encode()))
    ]


def make_parquet(path: Path, images: list[bytes | None], rows: int = 4, **columns: list[object]) -> Path:
    """A Parquet file with the column `image` of Hugging Face, and row groups of so many rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    records = [None if data is None else {"bytes": data, "path": f"{n}.jpg"} for n, data in enumerate(images)]
    table = pa.table({"number": range(len(images)), "image": pa.array(records, kind), **columns})
    metadata = {
        "huggingface": '{"info": {"features": {"number": {"dtype": "int64", "_type": "Value"}, "image": '
        '{"_type": "Image"}}}}'
    }
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=rows)
    return path


def members_of(data: bytes | Path) -> list[tuple[str, bytes | None]]:
    """The members of a tar, in their order."""
    file = io.BytesIO(data if isinstance(data, bytes) else data.read_bytes())
    with tarfile.open(fileobj=file) as tar:
        return [(info.name, tar.extractfile(info).read() if info.isreg() else None) for info in tar]


def rewritten(pack: Pack, change: Callable[[Content], Replacement]) -> bytes:
    """The pack with other images in it."""
    return b"".join(pack.joined(block.written([change(image) for image in block.images]) for block in pack.blocks()))


def unchanged(image: Content) -> Replacement:
    """Put an image into its own place."""
    return Replacement(image.name, image.data)
