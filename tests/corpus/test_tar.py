"""Tars as packs: what is in them, how they are written again, and how they are damaged."""

import gzip
import io
import tarfile
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from packs import make_tar, member, members_of, rewritten, unchanged
from sgllie.corpus.pack import Replacement
from sgllie.corpus.tar import Tar
from sgllie.errors import ItemError

FORMATS = [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]
LONG = "deep/" * 30 + "夜.jpg"


def opened(data: bytes) -> Tar:
    return Tar(io.BytesIO(data))


def headers(data: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return tar.getmembers()


def until_damage(found: Iterator) -> tuple[list, str]:
    """What an iterator yields before the damage, and of which kind that is."""
    seen = []
    try:
        for one in found:
            seen.append(one)
    except ItemError as error:
        return seen, error.error_type
    raise AssertionError("there is no damage")


def names(tar: Tar) -> list[str]:
    return [image.name for image in tar.images()]


@pytest.mark.parametrize("format", FORMATS)
def test_members_of_all_kinds_are_carried_and_images_replaced(tmp_path, format):
    name = LONG if format != tarfile.USTAR_FORMAT else "a/b.jpg"
    with tarfile.open(tmp_path / "a.tar", "w", format=format, pax_headers={"comment": "of all"}) as tar:
        tar.addfile(member("folder", type=tarfile.DIRTYPE))
        tar.addfile(member(name, 3), io.BytesIO(b"one"))
        tar.addfile(member(name[:-4] + ".json", 2000), io.BytesIO(b"{" * 2000))
        tar.addfile(member("link.jpg", type=tarfile.SYMTYPE, linkname="../../etc/passwd"))
        tar.addfile(member("hard.jpg", type=tarfile.LNKTYPE, linkname=name))
        tar.addfile(member("device.jpg", type=tarfile.CHRTYPE))
        tar.addfile(member("./b.PNG", 512), io.BytesIO(b"2" * 512))
    data = (tmp_path / "a.tar").read_bytes()
    assert names(opened(data)) == [name, "b.PNG"]
    assert rewritten(opened(data), unchanged) == data
    new = rewritten(opened(data), lambda image: Replacement(image.name, image.data * 1000))
    before, after = headers(data), headers(new)
    kept = ("name", "mtime", "mode", "uid", "uname", "type", "linkname", "pax_headers")
    assert [[getattr(info, key) for key in kept] for info in after] == [
        [getattr(info, key) for key in kept] for info in before
    ]
    assert dict(members_of(new)) == dict(members_of(data)) | {name: b"one" * 1000, "./b.PNG": b"2" * 512_000}
    assert opened(new).read("b.PNG") == b"2" * 512_000


@pytest.mark.parametrize("format", FORMATS)
def test_an_image_of_another_format_has_another_suffix(tmp_path, format):
    data = make_tar(tmp_path / "a.tar", [("./a.jpeg", b"1"), ("a.txt", b"t"), ("b.png", b"2")], format).read_bytes()
    new = rewritten(opened(data), lambda image: Replacement(f"{image.name[0]}.png", b"new"))
    assert members_of(new) == [("./a.png", b"new"), ("a.txt", b"t"), ("b.png", b"new")]
    assert headers(new)[0].uname == "somebody"


def test_a_size_in_an_extended_header(tmp_path):
    """As of files of more than 8 GB, and of writers that always put it there."""
    info = member("a.jpg", 5, pax_headers={"size": "5", "note": "kept"})
    data = info.tobuf(tarfile.PAX_FORMAT) + b"right".ljust(512, b"\0") + bytes(1024)
    new = rewritten(opened(data), lambda image: Replacement(image.name, b"longer"))
    assert members_of(new) == [("a.jpg", b"longer")]
    assert headers(new)[0].pax_headers["note"] == "kept"


def test_what_is_left_out_is_gone_with_its_header(tmp_path):
    data = make_tar(tmp_path / "a.tar", [("a.jpg", b"1"), ("a.txt", b"t"), ("b.jpg", b"2")]).read_bytes()
    new = rewritten(opened(data), lambda image: Replacement(image.name, None if image.name == "a.jpg" else b"x"))
    assert members_of(new) == [("a.txt", b"t"), ("b.jpg", b"x")]


def test_members_that_would_be_written_elsewhere_or_twice(tmp_path):
    members = [("a.jpg", b"1"), ("../b.jpg", b"2"), ("/etc/c.jpg", b"3"), ("./a.jpg", b"4"), ("a.jpg", b"5")]
    tar = opened(make_tar(tmp_path / "a.tar", members).read_bytes())
    contents = [image for block in tar.blocks() for image in block.images]
    assert [image.name for image in contents] == ["a.jpg", "../b.jpg", "/etc/c.jpg", "a#2.jpg", "a#3.jpg"]
    assert [image.failure and image.failure.error_type for image in contents] == [None] + ["write"] * 4
    assert members_of(rewritten(tar, unchanged)) == members


MEMBERS = st.lists(
    st.tuples(
        st.text("ab/é.", max_size=120).map("x{}y".format), st.sampled_from([".jpg", ".txt"]), st.binary(max_size=1100)
    ),
    max_size=8,
)


@given(MEMBERS, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_whatever_is_in_a_tar_comes_out_of_it(members, format):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=format) as tar:
        for name, suffix, data in members:
            tar.addfile(member(name + suffix, len(data)), io.BytesIO(data))
    data = file.getvalue()
    assert rewritten(opened(data), unchanged) == data
    new = rewritten(opened(data), lambda image: Replacement(image.name, image.data + b"!"))
    expected = [(name, value + b"!" if name.endswith(".jpg") else value) for name, value in members_of(data)]
    assert members_of(new) == expected


@pytest.mark.parametrize("first", range(5))
def test_blocks_from_the_middle_on(tmp_path, first):
    data = make_tar(tmp_path / "a.tar", [("a.jpg", b"1"), ("t", b"t"), ("b.jpg", b"2"), ("u", b"u")]).read_bytes()
    every = list(opened(data).blocks())
    rest = list(opened(data).blocks(first))
    assert [block.images for block in rest] == [block.images for block in every[first:]]


WHOLE = [("a.jpg", b"1" * 600), ("a.txt", b"t" * 600), ("b.jpg", b"2" * 600)]
STEP = 512 + 1024  # a header and two blocks of data


@pytest.mark.parametrize(
    ("change", "error_type", "found", "carried"),
    [
        (lambda data: data[: 2 * STEP + 700], "truncated", ["a.jpg", "b.jpg"], ["a.jpg", "a.txt"]),
        (lambda data: data[: 2 * STEP + 100], "truncated", ["a.jpg"], ["a.jpg", "a.txt"]),
        (lambda data: data[: 2 * STEP], "truncated", ["a.jpg"], ["a.jpg", "a.txt"]),
        (lambda data: data[: STEP + 700], "truncated", ["a.jpg"], ["a.jpg"]),
        (lambda data: data[: 2 * STEP] + b"x" * 2000, "corrupt", ["a.jpg"], ["a.jpg", "a.txt"]),
        (lambda data: b"no tar" * 500, "corrupt", [], []),
        (lambda data: b"", "empty", [], []),
        (gzip.compress, "corrupt", [], []),
    ],
)
def test_a_tar_that_is_damaged_gives_what_lies_before(tmp_path, change, error_type, found, carried):
    data = change(make_tar(tmp_path / "a.tar", WHOLE, tarfile.GNU_FORMAT).read_bytes())
    tar = opened(data)
    images, seen = until_damage(tar.images())
    blocks, read = until_damage(tar.blocks())
    assert ([image.name for image in images], seen, read) == (found, error_type, error_type)
    parts = [block.written([unchanged(image) for image in block.images]) for block in blocks]
    assert [name for name, _ in members_of(b"".join(tar.joined(parts)))] == carried


def claim(name, kind, size, data=b""):
    """A member whose header claims another size than that of its data."""
    return member(name, size, type=kind).tobuf(tarfile.GNU_FORMAT) + data + bytes(-len(data) % 512)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        (claim("x", tarfile.XHDTYPE, 3 << 30), "claims 3,221,225,472 bytes"),
        (claim("x", tarfile.XGLTYPE, 3 << 30), "claims 3,221,225,472 bytes"),
        (claim("x", tarfile.GNUTYPE_LONGNAME, 3 << 30), "claims 3,221,225,472 bytes"),
        (claim("x", tarfile.GNUTYPE_LONGNAME, 6, b"a.jpg\0") * 5000, "more than 16 headers"),
        (claim("x", tarfile.XHDTYPE, 11, b"11 path=ab\n") * 5000, "more than 16 headers"),
        (claim("x.jpg", tarfile.REGTYPE, -1024), "claims a size below zero"),
        (claim("x", tarfile.XHDTYPE, -1024), "claims -1,024 bytes"),
    ],
    ids=["attributes", "attributes of all", "name", "names", "chain", "below zero", "attributes below zero"],
)
def test_headers_that_lead_nowhere_end_the_tar(bad, sentence):
    tar = opened(claim("good.jpg", tarfile.REGTYPE, 4, b"data") + bad + bytes(1024))
    images = tar.images()
    assert next(images).name == "good.jpg"
    with pytest.raises(ItemError, match=sentence):
        next(images)


def test_members_of_one_name_are_told_apart_in_no_time():
    tar = opened(claim("a.jpg", tarfile.REGTYPE, 0) * 20_000 + claim("a#7.jpg", tarfile.REGTYPE, 0) + bytes(1024))
    began = time.monotonic()
    found = names(tar)
    assert time.monotonic() - began < 20
    assert len(set(found)) == 20_001
    assert found[:3] == ["a.jpg", "a#2.jpg", "a#3.jpg"]
    assert found[-1] == "a#7#2.jpg"


def test_a_compressed_tar_is_called_so():
    with pytest.raises(ItemError, match="it is compressed; unpack it with gunzip"):
        list(opened(gzip.compress(b"x" * 10_000)).images())
