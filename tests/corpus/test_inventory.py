"""S3 Inventory as the list of what is to be enhanced; the inventories are made here, as S3 describes them."""

import gzip
import json
from urllib.parse import quote_plus

import pyarrow as pa
import pytest

from commands import make_corpus
from sgllie.corpus.listing import Listing
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.runs.job import InProcess, run_job
from sgllie.storage import Entry, open_storage
from sgllie.storage.parquet import to_parquet

pytestmark = pytest.mark.parametrize("s3", ["moto"], indirect=True)

SOURCE = "s3://bucket/list/bucket/daily/2026-01-31T01-00Z/manifest.json"
DATA = "list/bucket/daily/data"
CSV_SCHEMA = "Bucket, Key, VersionId, IsLatest, IsDeleteMarker, Size, LastModifiedDate, ETag, StorageClass"
KEYS = ["in/a b+ü.jpg", 'in/say "x", y.PNG', "in/notes.txt"]
ENTRIES = [Entry(key, number, f"etag{number}") for number, key in enumerate(KEYS, start=1)]


def csv_file(rows) -> bytes:
    return gzip.compress("".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in rows).encode(), mtime=0)


def csv_row(entry: Entry, latest="true", deleted="false", bucket="bucket") -> list:
    return [
        bucket,
        quote_plus(entry.path, safe="/"),
        "",
        latest,
        deleted,
        entry.size,
        "2026-01-30T",
        entry.version,
        "S",
    ]


def parquet_file(entries: list[Entry]) -> bytes:
    columns = {"bucket": ["bucket"] * len(entries), "key": [entry.path for entry in entries]}
    columns |= {"is_latest": [True] * len(entries), "size": [entry.size for entry in entries]}
    return to_parquet(pa.table(columns | {"e_tag": [entry.version for entry in entries]}))


def write(s3, data: dict[str, bytes], **changes) -> None:
    """Write an inventory, with some fields of its manifest changed."""
    storage = open_storage("s3://bucket", s3)
    for name, file in data.items():
        storage.write(f"{DATA}/{name}", file)
    manifest = {"sourceBucket": "bucket", "destinationBucket": "arn:aws:s3:::bucket", "version": "2016-11-30"}
    manifest |= {"fileFormat": "CSV", "fileSchema": CSV_SCHEMA, "files": [{"key": f"{DATA}/{name}"} for name in data]}
    storage.write(SOURCE.removeprefix("s3://bucket/"), json.dumps(manifest | changes).encode())


def entries(s3) -> list[Entry]:
    return list(Listing(SOURCE, s3))


def test_csv(s3):
    old = [csv_row(Entry("in/old.jpg", 1, "x"), latest="false"), csv_row(Entry("in/gone.jpg", 1, "x"), deleted="true")]
    folder = csv_row(Entry("in/folder.jpg/", 0, "x"))
    rows = [csv_row(entry) for entry in ENTRIES]
    write(s3, {"1.csv.gz": csv_file([*old, *rows[:1]]), "2.csv.gz": csv_file([folder, *rows[1:]])})
    listing = Listing(SOURCE, s3)
    assert listing.root == "s3://bucket"
    assert list(listing) == list(listing) == ENTRIES[:2]
    assert listing.ignored.examples == ["in/notes.txt"]


def test_parquet(s3):
    write(s3, {"1.parquet": parquet_file(ENTRIES)}, fileFormat="Parquet", fileSchema="message s3.inventory { ... }")
    assert entries(s3) == ENTRIES[:2]


def test_what_is_not_in_an_inventory_is_not_known(s3):
    write(s3, {"1.csv.gz": csv_file([["bucket", "in/a.jpg"]])}, fileSchema="Bucket, Key")
    assert entries(s3) == [Entry("in/a.jpg", None, None)]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"fileFormat": "ORC"}, "has the format ORC; configure it as CSV or Parquet"),
        ({"fileSchema": "Bucket, Size"}, "lacks the columns Bucket and Key \\(it has Bucket, Size\\)"),
        ({"files": None}, "is not the manifest of an S3 Inventory"),
        ({"files": [{"key": "list/missing.csv.gz"}]}, "names list/missing.csv.gz, which is not there"),
    ],
)
def test_manifests_that_cannot_be_used(s3, changes, sentence):
    write(s3, {"1.csv.gz": csv_file([csv_row(ENTRIES[0])])}, **changes)
    with pytest.raises(UsageError, match=sentence):
        entries(s3)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (csv_file([csv_row(ENTRIES[0])])[:-12], "1.csv.gz of the inventory .* is damaged: "),
        (b"Bucket,Key\n", "is damaged: Not a gzipped file"),
        (csv_file([["bucket", "a.jpg"]]), "is damaged: a row has 2 columns, not 9"),
        (csv_file([csv_row(ENTRIES[0]._replace(size="many"))]), "is damaged: invalid literal"),
        (csv_file([csv_row(ENTRIES[0]._replace(path=""))]), "is damaged: a row has no key"),
        (csv_file([csv_row(ENTRIES[0], bucket="other")]), "^list/.*/1.csv.gz of the inventory .* lists 'other', not"),
    ],
)
def test_files_that_cannot_be_used(s3, data, sentence):
    write(s3, {"1.csv.gz": data})
    with pytest.raises(UsageError, match=sentence):
        entries(s3)


def test_parquet_files_that_cannot_be_used(s3):
    for data, sentence in [
        (parquet_file(ENTRIES)[:-9], "is damaged"),
        (to_parquet(pa.table({"key": ["a"]})), "no columns bucket and key"),
    ]:
        write(s3, {"1.parquet": data}, fileFormat="Parquet")
        with pytest.raises(UsageError, match=sentence):
            entries(s3)


@pytest.mark.parametrize(("data", "sentence"), [(b"{", "is damaged: it is no JSON"), (b"[]", "is not the manifest")])
def test_what_is_no_manifest(s3, data, sentence):
    with pytest.raises(UsageError, match="cannot be read"):
        entries(s3)
    open_storage("s3://bucket", s3).write(SOURCE.removeprefix("s3://bucket/"), data)
    with pytest.raises(UsageError, match=sentence):
        entries(s3)


def test_a_job_enhances_what_an_inventory_names(s3, tmp_path):
    storage = open_storage("s3://bucket", s3)
    files = sorted(make_corpus(tmp_path / "in", 3).rglob("*.jpg"))
    for file in files:
        storage.write(f"in/{file.name}", file.read_bytes())
    write(s3, {"1.csv.gz": csv_file([csv_row(Entry(f"in/{file.name}", 1, "x")) for file in files[:2]])})
    settings = EnhanceSettings(SOURCE, str(tmp_path / "out"), s3=s3, device="cpu")
    assert run_job(prepare, settings, InProcess()) == 0
    assert len(list((tmp_path / "out/images/in").iterdir())) == 2
