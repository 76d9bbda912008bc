"""Packs as folders: what a listing finds in them, and how their images are read."""

import pickle

import pytest

from packs import make_parquet, make_tar
from sgllie.corpus.listing import Listing
from sgllie.corpus.pack import pack_of
from sgllie.corpus.packed import packed
from sgllie.errors import ReadError, UsageError
from sgllie.runs.plan import cut, kind_of, pack_or
from sgllie.storage import Entry, open_storage

JPEG = b"\xff\xd8"


def paths(listing):
    return [entry.path for entry in listing]


@pytest.fixture
def tree(tmp_path):
    """Two packs, loose files, a list in Parquet, and folders that are called like packs."""
    root = tmp_path / "in"
    make_tar(root / "b.tar", [("y.jpg", JPEG + b"y"), ("y.txt", b""), ("._z.jpg", b""), ("z/x.PNG", JPEG + b"z")])
    make_parquet(root / "spark.parquet/part-0.parquet", [JPEG + b"0", JPEG + b"1"])
    make_parquet(root / "spark.parquet/part-1.parquet", [JPEG + b"2"])
    make_tar(root / "labels.tar", [("a.txt", b"")])
    for name in ("a.jpg", "c.tar/d.jpg", "z.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(JPEG + name.encode())
    return root


TREE = [
    "a.jpg",
    "b.tar/y.jpg",
    "b.tar/z/x.PNG",
    "c.tar/d.jpg",
    "spark.parquet/part-0.parquet/image/000000",
    "spark.parquet/part-0.parquet/image/000001",
    "spark.parquet/part-1.parquet/image/000000",
    "z.jpg",
]


def test_a_tree_with_packs_in_it(tree):
    listing = Listing(str(tree))
    assert paths(listing) == TREE
    assert listing.ignored.examples == ["b.tar/._z.jpg", "labels.tar"]
    storage = pickle.loads(pickle.dumps(packed(open_storage(str(tree)))))
    read = [storage.read(path).removeprefix(JPEG) for path in TREE]
    assert read == [b"a.jpg", b"y", b"z", b"c.tar/d.jpg", b"0", b"1", b"2", b"z.jpg"]
    for path in TREE:
        with storage.open(path) as file:
            assert file.read() == storage.read(path)
    assert [entry.path for entry in storage.list() if entry.path in TREE] == TREE
    for absent in ("b.tar/absent.jpg", "absent.tar/a.jpg", "spark.parquet/part-1.parquet/image/000001"):
        with pytest.raises((FileNotFoundError, ReadError)):
            storage.read(absent)


def test_sizes_and_versions(tree):
    before = {entry.path: entry for entry in Listing(str(tree))}
    assert before["b.tar/z/x.PNG"].size == 3
    make_tar(tree / "b.tar", [("y.jpg", JPEG + b"longer"), ("z/x.PNG", JPEG + b"z")])
    after = {entry.path: entry for entry in Listing(str(tree))}
    changed = {path for path in before if before[path] != after[path]}
    assert changed == {"b.tar/y.jpg", "b.tar/z/x.PNG"}


def shards_of(entries, most):
    """The shards that a listing is cut into, as lists of paths."""
    together = pack_or(lambda entry: None)
    return [[entry.path for entry in shard] for shard in cut(entries, most, kind_of, together)]


def test_a_shard_holds_whole_packs_and_nothing_else(tree):
    assert shards_of(Listing(str(tree)), 1000) == [TREE[:1], TREE[1:7], TREE[7:]]
    large = [Entry(f"a.tar/{number}.jpg", 2**28, None) for number in range(40)]
    assert list(map(len, shards_of(large, 10))) == [40]


@pytest.mark.parametrize("images", [10, 100, 5000])
def test_small_packs_are_put_together(images):
    """As loose images are, so that the number of shards follows from that of the images."""
    count = 250_000 // images
    names = (f"{pack:06d}.tar/{number:04d}.jpg" for pack in range(count) for number in range(images))
    shards = shards_of((Entry(name, 1000, None) for name in names), 1000)
    assert sum(map(len, shards)) == 250_000
    packs = [{path.split("/")[0] for path in shard} for shard in shards]
    assert sum(map(len, packs)) == len(set().union(*packs)) == count, "none lies in two shards"
    assert len(shards) <= 350
    assert max(map(len, shards)) <= max(1000 + images, images)


@pytest.mark.parametrize(
    ("pattern", "found"), [("*.tar", TREE[1:3]), ("**/part-1.parquet", TREE[6:7]), ("*.jpg", ["a.jpg", "z.jpg"])]
)
def test_globs_name_packs(tree, pattern, found):
    root = f"{Listing(f'{tree}/{pattern}').root.removeprefix(str(tree)).strip('/')}/".lstrip("/")
    assert [root + path for path in paths(Listing(f"{tree}/{pattern}"))] == found


def test_a_pack_alone_and_in_a_list(tree):
    assert paths(Listing(str(tree / "b.tar"))) == TREE[1:3]
    assert paths(Listing(str(tree / "spark.parquet/part-0.parquet"))) == [
        "part-0.parquet/image/" + n for n in ("000000", "000001")
    ]
    (tree / "list.txt").write_text("z.jpg\nb.tar\n")
    assert paths(Listing(str(tree / "list.txt"))) == ["z.jpg", *TREE[1:3]]


def test_which_column(tree):
    file = make_parquet(tree / "two.parquet", [JPEG], other=[JPEG + b"o"])
    with pytest.raises(UsageError, match=r"several columns hold images \(image, other\); name one with --image-column"):
        paths(Listing(str(file)))
    with pytest.raises(UsageError, match=r"two.parquet: several columns"):
        paths(Listing(str(tree)))
    assert paths(Listing(str(file), image_column="other")) == ["two.parquet/other/000000"]
    with pytest.raises(UsageError, match="has no column of images that is called number"):
        Listing(str(file), image_column="number")
    assert packed(open_storage(str(tree))).read("two.parquet/other/000000") == JPEG + b"o"


@pytest.mark.parametrize("name", ["a.tar.gz", "a.TGZ"])
def test_a_compressed_tar_is_one_sentence(tree, name):
    (tree / name).write_bytes(b"")
    with pytest.raises(UsageError, match="is a compressed tar, of which no part can be read alone; unpack it"):
        Listing(str(tree / name))


def test_a_damaged_pack_is_an_item_behind_its_images(tree):
    (tree / "b.tar").write_bytes((tree / "b.tar").read_bytes()[:2148])  # in the midst of the last header
    (tree / "spark.parquet/part-0.parquet").write_bytes(b"no Parquet")
    found = paths(Listing(str(tree)))
    assert found[:4] == ["a.jpg", "b.tar/y.jpg", "b.tar", "c.tar/d.jpg"]
    assert found[4] == "spark.parquet/part-0.parquet"


@pytest.mark.parametrize(
    ("path", "pack"),
    [
        ("a.tar/b.jpg", "a.tar"),
        ("x/a.TAR/y.tar/b.jpg", "x/a.TAR"),
        ("a.tar", "a.tar"),
        ("s.parquet/p.parquet/image/000001", "s.parquet/p.parquet"),
        ("a.tar.gz/b.jpg", None),
        ("tar/b.jpg", None),
        ("a.jpg", None),
    ],
)
def test_the_pack_of_a_path(path, pack):
    assert pack_of(path) == pack
