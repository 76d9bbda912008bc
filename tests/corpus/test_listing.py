"""What an input names."""

import errno
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sgllie.corpus.listing import Listing
from sgllie.errors import ReadError, UsageError
from sgllie.storage import open_storage

FILES = [
    "a.jpg",
    "b/c.PNG",
    "b/d e+ü%2F.webp",
    "b/deep/f.tiff",
    "[x].bmp",
    "readme.txt",
    "b/.DS_Store",
    "g.jpg:Zone.Identifier",
]
IN_LIST = ["b/deep/f.tiff", "a.jpg", "notes.md"]
IMAGES = ["[x].bmp", "a.jpg", "b/c.PNG", "b/d e+ü%2F.webp", "b/deep/f.tiff"]


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "in"
    for number, name in enumerate(FILES):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x" * number)
    return root


def paths(listing):
    return [entry.path for entry in listing]


def test_folder(tree):
    listing = Listing(str(tree))
    assert paths(listing) == IMAGES
    assert listing.ignored.count == 3
    assert set(listing.ignored.examples) == {"readme.txt", "b/.DS_Store", "g.jpg:Zone.Identifier"}
    assert {entry.path: entry.size for entry in listing}["b/c.PNG"] == 1
    assert paths(listing) == IMAGES
    assert listing.ignored.count == 3


def test_what_a_run_is_writing_is_not_listed(tree):
    for name in (".partial/a.jpg", "b/.ride.mp4.run/.partial/encoded/a.jpg"):
        (tree / name).parent.mkdir(parents=True)
        (tree / name).write_bytes(b"half")
    assert paths(Listing(str(tree))) == paths(Listing(f"{tree}/**")) == IMAGES


def test_relative_folder(tree, monkeypatch):
    monkeypatch.chdir(tree.parent)
    assert paths(Listing("in")) == paths(Listing("./in/")) == IMAGES
    assert Listing("in").root == str(tree)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.jpg", ["a.jpg"]),
        ("**/*.PNG", ["b/c.PNG"]),
        ("b/*", ["b/c.PNG", "b/d e+ü%2F.webp"]),
        ("b/**", ["b/c.PNG", "b/d e+ü%2F.webp", "b/deep/f.tiff"]),
        ("**/?.tiff", ["b/deep/f.tiff"]),
        ("[x].bmp", ["[x].bmp"]),
    ],
)
def test_glob(tree, pattern, found, monkeypatch):
    listing = Listing(f"{tree}/{pattern}")
    root = str(tree)
    assert [f"{listing.root}/{path}" for path in paths(listing)] == [f"{root}/{path}" for path in found]
    monkeypatch.chdir(tree)
    assert len(paths(Listing(pattern))) == len(found)


def test_one_file(tree):
    listing = Listing(str(tree / "a.jpg"))
    assert (listing.root, paths(listing)) == (str(tree), ["a.jpg"])
    assert list(listing) == [entry for entry in Listing(str(tree)) if entry.path == "a.jpg"]
    with pytest.raises(UsageError, match=r"Identifier is not known by its suffix.* \.png"):
        Listing(str(tree / "g.jpg:Zone.Identifier"))


def write_list(folder, suffix, names):
    path = folder / f"list{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"path": names}), path)
    elif suffix == ".csv":
        path.write_text("id,path\n" + "".join(f'{number},"{name}"\n' for number, name in enumerate(names)))
    elif suffix == ".jsonl":
        path.write_text("".join(json.dumps({"path": name}) + "\n" for name in names))
    else:
        path.write_text("".join(name + "\n" for name in names))
    return str(path)


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".jsonl", ".parquet"])
def test_lists(tree, suffix):
    relative = Listing(write_list(tree, suffix, IN_LIST))
    # What a list names is tried, whatever it is called.
    assert (relative.root, paths(relative), relative.ignored.count) == (
        str(tree),
        ["b/deep/f.tiff", "a.jpg", "notes.md"],
        0,
    )
    elsewhere = tree.parent / "lists"
    elsewhere.mkdir()
    absolute = Listing(write_list(elsewhere, suffix, [f"{tree}/b/c.PNG", f"{tree}/b/deep/f.tiff"]))
    assert (absolute.root, paths(absolute)) == (f"{tree}/b", ["c.PNG", "deep/f.tiff"])
    beside = Listing(write_list(elsewhere, suffix, ["../in/b/c.PNG", "../in/b/./x/../deep/f.tiff"]))
    assert (beside.root, paths(beside)) == (f"{tree}/b", ["c.PNG", "deep/f.tiff"])
    odd = "b/a\u2028b\x0cc.jpg"
    assert paths(Listing(write_list(tree, suffix, [odd]))) == [odd]


def test_long_fields_of_other_columns(tree):
    (tree / "list.csv").write_text(f'caption,path\n{"x" * 200_000},a.jpg\n"two\nlines",g.jpg\n')
    assert paths(Listing(str(tree / "list.csv"))) == ["a.jpg", "g.jpg"]


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.jsonl", b'{"path": "a.jpg"}\n{"path": null}', "names no path in entry 2, but None"),
        ("a.jsonl", b'{"path": 1}', "entry 1, but 1"),
        ("a.jsonl", b'{"path": "a.jpg"}\n{"file": "b.jpg"}', "names no path in entry 2, but None"),
        ("a.jsonl", b'{"file": "b.jpg"}', "no readable column `path`"),
        ("a.jsonl", b"[1]", "no readable column `path`"),
        ("a.csv", b"id,path\n1,\n", "entry 1, but ''"),
        ("a.csv", b"file\na.jpg\n", "no readable column `path`"),
        ("a.txt", "ä.jpg".encode("utf-16"), "is not text in UTF-8"),
        ("a.txt", b"s3://bucket/a.jpg\nb.jpg", "mixes folders and buckets"),
        ("a.txt", b"b.jpg\ns3://bucket/a.jpg", "mixes folders and buckets"),
        (
            "a.txt",
            b"s3://a/x.jpg\ns3://a/y.jpg\ns3://b/x.jpg",
            r"two buckets \(s3://a/x.jpg, s3://b/x.jpg\); make",
        ),
        ("a.txt", b"https://a/x.jpg\nhttps://b/x.jpg", r"files of two buckets \(https://a/x.jpg, https://b/x.jpg\)"),
        ("a.txt", b"nonsense://host/a.jpg", "no storage is known by nonsense://"),
        ("a.parquet", b"PAR1", "no readable column `path`"),
    ],
)
def test_bad_lists_are_one_sentence(tree, name, content, sentence):
    (tree / name).write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        Listing(str(tree / name))


def test_a_column_of_numbers_is_no_list(tree):
    pq.write_table(pa.table({"path": [1, 2]}), tree / "a.parquet")
    with pytest.raises(UsageError, match="entry 1, but 1"):
        Listing(str(tree / "a.parquet"))


def test_wrong_inputs_are_refused(tree):
    with pytest.raises(UsageError, match="does not exist"):
        Listing(str(tree / "absent"))
    with pytest.raises(UsageError, match="names no file"):
        Listing(write_list(tree, ".txt", []))
    (tree / "bad.csv").write_text("file\na.jpg\n")
    with pytest.raises(UsageError, match="no readable column `path`"):
        Listing(str(tree / "bad.csv"))
    with pytest.raises(UsageError, match="cannot be read"):
        Listing(str(tree / "absent.txt"))


def test_the_output_below_the_input_is_left_out(tree):
    (tree / "out/images").mkdir(parents=True)
    (tree / "out/images/a.jpg").write_bytes(b"")
    assert paths(Listing(str(tree), exclude=str(tree / "out"))) == IMAGES


def test_links_are_followed_once(tree):
    (tree / "b/up").symlink_to(tree)
    (tree / "linked.jpg").symlink_to(tree / "a.jpg")
    assert set(paths(Listing(str(tree)))) == {*IMAGES, "linked.jpg"}


def test_links_that_lead_nowhere_are_listed_for_a_row(tree):
    (tree / "gone.jpg").symlink_to(tree / "absent.jpg")
    (tree / "self.jpg").symlink_to(tree / "self.jpg")
    os.mkfifo(tree / "pipe.jpg")
    listing = Listing(str(tree))
    found = {entry.path: entry.size for entry in listing}
    assert set(found) == {*IMAGES, "gone.jpg", "self.jpg"}
    assert found["gone.jpg"] is found["self.jpg"] is None
    assert listing.unreadable == ["pipe.jpg"]


def test_names_that_are_no_text_are_ignored_by_name(tree):
    (tree / "x").mkdir()
    with open(bytes(tree / "x") + b"/\xff.jpg", "wb"):
        pass
    listing = Listing(str(tree))
    assert paths(listing) == IMAGES
    assert "not UTF-8" in listing.ignored.examples[-1]


def test_shadow_files_of_macos_and_file_servers_are_ignored_and_counted(tree):
    shadows = ("._a.jpg", "b/._c.PNG", "__MACOSX/a.jpg", "b/.AppleDouble/a.jpg", "@eaDir/a.jpg/SYNOPHOTO_THUMB_XL.jpg")
    for name in shadows:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(b"\0\5\x16\7")
    listing = Listing(str(tree))
    assert paths(listing) == IMAGES
    assert listing.ignored.count == 3 + len(shadows)
    named = Listing(write_list(tree, ".txt", ["._a.jpg"]))
    assert paths(named) == ["._a.jpg"], "what a list names is tried"


@pytest.mark.parametrize("name", ["a.jfif", "a.JFIF", "a.jif", "a.jfi", "a.dib"])
def test_other_suffixes_of_known_formats(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert paths(Listing(str(tmp_path))) == [name]


def test_a_folder_that_may_not_be_read_is_named(tree, monkeypatch):
    """As `lost+found` is to everybody but root, for whom the tests must pretend."""
    (tree / "lost+found").mkdir()
    refuse(monkeypatch, tree / "lost+found")
    listing = Listing(str(tree))
    assert paths(listing) == IMAGES
    assert listing.unreadable == ["lost+found"]


def test_an_input_that_may_not_be_read_is_no_empty_one(tree, monkeypatch):
    refuse(monkeypatch, tree)
    with pytest.raises(ReadError, match="cannot be listed: Permission denied"):
        paths(Listing(str(tree)))


def refuse(monkeypatch, folder):
    """Let the operating system refuse to list a folder."""
    scandir = os.scandir

    def refusing(path):
        if str(path) == str(folder):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    monkeypatch.setattr("sgllie.storage.local.os.scandir", refusing)


def test_brackets_in_keys(s3):
    storage = open_storage("s3://bucket", s3)
    for key in ("[night]/a.jpg", "n/b.jpg", "[x].jpg"):
        storage.write(key, b"x")
    assert paths(Listing("s3://bucket/[night]", s3)) == ["a.jpg"]
    assert paths(Listing("s3://bucket/[x].jpg", s3)) == ["[x].jpg"]
    assert paths(Listing("s3://bucket/[nm]/*.jpg", s3)) == ["n/b.jpg"]


def test_a_list_too_deep_to_be_read(tree):
    (tree / "deep.jsonl").write_text("[" * 100_000)
    with pytest.raises(UsageError, match="no readable column"):
        Listing(str(tree / "deep.jsonl"))


@pytest.mark.parametrize("damage", [4, 30, 60])
def test_a_parquet_list_whose_pages_are_damaged_is_one_sentence(tmp_path, damage):
    pq.write_table(pa.table({"path": ["a.jpg", "b.jpg"]}), tmp_path / "list.parquet")
    data = bytearray((tmp_path / "list.parquet").read_bytes())
    data[damage : damage + 8] = b"\xff" * 8
    (tmp_path / "list.parquet").write_bytes(data)
    with pytest.raises(UsageError, match=r"^the list .*list\.parquet has no readable column `path` \(.*\)$"):
        Listing(str(tmp_path / "list.parquet"))


@pytest.mark.parametrize("link", ["link", "deep/link"])
def test_the_output_is_left_out_by_whatever_name_it_is_reached(tree, tmp_path, link):
    output = tmp_path / "elsewhere"
    (output / "images").mkdir(parents=True)
    (output / "images/bright.jpg").write_bytes(b"")
    (tmp_path / "elsewhere too").mkdir()
    (tmp_path / "elsewhere too/z.jpg").write_bytes(b"")
    (tree / link).parent.mkdir(exist_ok=True)
    (tree / link).symlink_to(output)
    (tree / "zz").symlink_to(tmp_path / "elsewhere too")
    assert paths(Listing(str(tree), exclude=str(output))) == [*IMAGES, "zz/z.jpg"]
    assert paths(Listing(f"{tree}/**/*.jpg", exclude=str(output)))[-1] == "zz/z.jpg"
    (tmp_path / "alias").symlink_to(output)
    assert paths(Listing(str(tree), exclude=str(tmp_path / "alias"))) == [*IMAGES, "zz/z.jpg"]


def test_a_link_to_one_file_of_the_output_is_a_file_of_the_input(tree):
    (tree / "out/images").mkdir(parents=True)
    (tree / "out/images/z.jpg").write_bytes(b"")
    (tree / "z.jpg").symlink_to(tree / "out/images/z.jpg")
    assert paths(Listing(str(tree), exclude=str(tree / "out"))) == [*IMAGES, "z.jpg"]


def test_an_output_around_the_input_leaves_nothing_out(tree):
    assert paths(Listing(str(tree), exclude=str(tree.parent))) == IMAGES
    assert paths(Listing(str(tree), exclude=str(tree))) == IMAGES


def test_files_of_a_run_at_work_are_counted_as_ignored(tree):
    before = Listing(str(tree))
    assert paths(before) == IMAGES
    (tree / ".partial").mkdir()
    (tree / ".partial/half.jpg").write_bytes(b"")
    listing = Listing(str(tree))
    assert paths(listing) == IMAGES
    assert listing.ignored.count == before.ignored.count + 1
    assert ".partial/half.jpg" in listing.ignored.examples


def test_what_lies_above_a_link_is_what_the_system_opens(tmp_path):
    for folder in ("here", "there/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there" / "deep")
    for folder in ("here", "there"):
        (tmp_path / folder / "a.jpg").write_bytes(folder.encode())
    (tmp_path / "here" / "list.txt").write_text("link/../a.jpg\n")
    listing = Listing(str(tmp_path / "here" / "list.txt"))
    (entry,) = listing
    assert (Path(listing.root) / entry.path).read_bytes() == (tmp_path / "here/link/../a.jpg").read_bytes() == b"there"
