"""The files of one person on the page, without a browser: taken, refused, made, and removed."""

import re
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest

from clips import static, write_clip
from demo_sessions import clip_bytes, dropped, session_of, taken
from image_files import ONE_OF_EACH, RGB, deep, pillow, png
from places import ROOT
from sgllie.demo.choice import Choice
from sgllie.demo.item import Item
from sgllie.demo.session import Sessions, sentence_of
from sgllie.demo.settings import DemoSettings
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import ItemError, UsageError
from sgllie.images import decode
from sgllie.images.png import chunk


@pytest.fixture
def session(tmp_path):
    return session_of(tmp_path)


def hdr_png():
    """A PNG whose cICP chunk says PQ."""
    return png(deep(RGB), 2, 16, chunk(b"cICP", bytes((9, 16, 0, 1))))


REFUSED = {
    "empty": ("a.jpg", lambda _: b"", "the file is empty"),
    "text": ("a.jpg", lambda _: b"hello", "not those of an image"),
    "truncated": ("a.jpg", lambda _: ONE_OF_EACH["jpeg"][:300], ""),
    "too large": ("a.png", lambda _: pillow(np.zeros((200, 200, 3), np.uint8), "PNG"), "at most 30000 are allowed"),
    "hdr": ("a.png", lambda _: hdr_png(), "(?i)hdr|high dynamic range"),
    "long clip": ("a.mp4", lambda folder: clip_bytes(folder, 60), "2.0 s long; at most 1 s.*--max-seconds"),
    "large clip": ("a.mp4", lambda folder: write_large(folder), "320 x 240 pixels; at most 30000"),
    "hdr clip": ("a.mp4", lambda folder: clip_bytes(folder, 10, colour=(1, 9, 9, 16)), "HDR"),
    "no clip": ("a.mp4", lambda _: b"hello", ""),
}


def write_large(folder):
    path = folder / "large.mp4"
    write_clip(path, static(5, (240, 320)), sound=False)
    return path.read_bytes()


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_enhanced_is_one_sentence(tmp_path, kind):
    name, make, words_of_it = REFUSED[kind]
    session = session_of(tmp_path, max_pixels=30_000, max_seconds=1)
    item = taken(session, tmp_path, name, make(tmp_path))
    said = []
    for work in (lambda: session.shown(item, Choice()), lambda: item.enhance(Choice(), session.settings)):
        with pytest.raises(ItemError) as caught:
            work()
        said.append(sentence_of(caught.value, item))
    assert said[0] == said[1]
    assert said[0].startswith(f"{name}: ")
    assert "\n" not in said[0]
    assert re.search(words_of_it, said[0]), said[0]


def test_a_photograph_is_decoded_once_whoever_leaves_the_page(tmp_path, monkeypatch):
    counted = []
    monkeypatch.setattr(
        "sgllie.demo.item.decode", lambda data, **limits: counted.append(data) or decode(data, **limits)
    )
    tabs = Sessions(tmp_path / "sessions", DemoSettings())
    (tmp_path / "a.jpg").write_bytes(ONE_OF_EACH["jpeg"])
    for tab in ("mine", "another"):
        tabs[tab].take([tmp_path / "a.jpg"])
        tabs[tab].shown(tabs[tab].items[0], Choice())
    tabs.close("another")
    tabs["mine"].shown(tabs["mine"].items[0], Choice(scale_factor=4))
    assert len(counted) == 2
    assert list(tabs.stills._kept) == tabs["mine"].items, "nothing is kept of who has left"


@pytest.mark.parametrize("name", ["notes.txt", "photo.heic", "photo", ".jpg.gz"])
def test_other_files_are_refused_by_name(session, tmp_path, name):
    (sentence,) = session.take([dropped(tmp_path, name, b"x")])
    assert sentence.startswith(f"{name}: ")
    assert session.items == []


def test_too_many_files_are_refused(tmp_path):
    session = session_of(tmp_path, max_files=2)
    files = [dropped(tmp_path, f"{number}.jpg", ONE_OF_EACH["jpeg"]) for number in range(4)]
    assert [sentence[:5] for sentence in session.take(files)] == ["2.jpg", "3.jpg"]
    assert len(session.items) == 2


def test_weights_that_do_not_fit_are_one_sentence(session, tmp_path):
    item = taken(session, tmp_path, "a.jpg", ONE_OF_EACH["jpeg"])
    with pytest.raises(UsageError) as caught:
        session.shown(item, Choice(method="zero-dce"))
    assert "--weights" in sentence_of(caught.value, item)


def test_several_come_as_one_archive(session, tmp_path):
    names = ["a.jpg", "a.jpg", "A.JPG", "b.png", "c.avi", "c.mkv", "bad.jpg"]
    clip = clip_bytes(tmp_path, 6)
    data = {".jpg": ONE_OF_EACH["jpeg"], ".png": ONE_OF_EACH["png RGB"], ".avi": clip, ".mkv": clip}
    for name in names[:-1]:
        taken(session, tmp_path, name, data[Path(name).suffix.lower()])
    taken(session, tmp_path, "bad.jpg", b"no image")
    archive, refused = session.enhance_all(Choice())
    with zipfile.ZipFile(archive) as file:
        assert file.namelist() == ["a.jpg", "a (2).jpg", "A (3).JPG", "b.png", "c.mkv", "c (2).mkv"]
        job = ImageProcessor(EnhanceSettings("in", "out", device="cpu"))
        assert file.read("a.jpg") == job("a.jpg", data[".jpg"]).data
    assert [sentence[:8] for sentence in refused] == ["bad.jpg:"]


def test_one_comes_as_itself(session, tmp_path):
    taken(session, tmp_path, "a.jpg", ONE_OF_EACH["jpeg"])
    path, refused = session.enhance_all(Choice())
    assert (path.name, refused) == ("a.jpg", [])


def test_nothing_comes_of_nothing(session, tmp_path):
    taken(session, tmp_path, "bad.jpg", b"no image")
    path, refused = session.enhance_all(Choice())
    assert path is None
    assert len(refused) == 1


def test_nothing_is_left_of_a_session(tmp_path):
    sessions = Sessions(tmp_path / "sessions", DemoSettings())
    session = sessions["tab"]
    upload = dropped(tmp_path, "a.jpg", ONE_OF_EACH["jpeg"])
    session.take([upload], uploaded=True)
    shown = session.shown(session.items[0], Choice())
    session.picture(shown.before.jpeg)
    session.enhance_all(Choice())
    sessions.close("tab")
    sessions.close("tab")
    assert list((tmp_path / "sessions").iterdir()) == []
    assert not upload.parent.exists()


def test_what_is_at_work_when_its_session_goes_comes_to_nothing(tmp_path, monkeypatch):
    """Without a fault, which the server would log with the names of the files; and no upload stays."""
    sessions = Sessions(tmp_path / "sessions", DemoSettings())
    session = sessions["tab"]
    taken(session, tmp_path, "a.jpg", ONE_OF_EACH["jpeg"])
    monkeypatch.setattr(Item, "enhance", lambda *_: sessions.close("tab") or b"made")
    assert session.enhance_all(Choice()) == (None, [])
    upload = dropped(tmp_path, "b.jpg", ONE_OF_EACH["jpeg"])
    assert session.take([upload], uploaded=True) == []
    assert not upload.exists()
    assert list((tmp_path / "sessions").iterdir()) == []


def test_an_upload_that_is_somebody_elses_by_now_is_left(tmp_path):
    """Gradio names uploads by their content: two people who drop the same file share its name."""
    sessions = Sessions(tmp_path / "sessions", DemoSettings())
    upload = dropped(tmp_path, "a.jpg", ONE_OF_EACH["jpeg"])
    sessions["one"].take([upload], uploaded=True)
    dropped(tmp_path, "new.jpg", ONE_OF_EACH["jpeg"]).replace(upload)
    sessions.close("one")
    assert sessions["two"].take([upload], uploaded=True) == []
    sessions.close("two")
    assert not upload.parent.exists()


def test_samples_are_files_of_no_session(tmp_path):
    """A sample is taken by a second link to it, and stays when the session goes."""
    sessions = Sessions(tmp_path / "sessions", DemoSettings())
    sample = dropped(tmp_path, "coffee.jpg", ONE_OF_EACH["jpeg"])
    sessions["tab"].take([sample])
    sessions.close("tab")
    assert sample.read_bytes() == ONE_OF_EACH["jpeg"]


def test_pictures_for_the_browser_do_not_pile_up(session):
    for _ in range(50):
        last = session.picture(b"x")
    assert Path(last).exists()
    assert len(list(session.folder.iterdir())) < 12


def test_what_was_made_before_does_not_pile_up(session, tmp_path):
    taken(session, tmp_path, "a.jpg", ONE_OF_EACH["jpeg"])
    first, _ = session.enhance_all(Choice())
    second, _ = session.enhance_all(Choice(strength=0.5))
    assert not first.exists()
    assert second.exists()


def test_threads_may_share_a_session(session, tmp_path):
    item = taken(session, tmp_path, "a.jpg", ONE_OF_EACH["jpeg"])
    found = []
    threads = [
        threading.Thread(target=lambda scale=scale: found.append(session.shown(item, Choice(scale_factor=scale))))
        for scale in (4, 6, 8, 10, 12, 14) * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 12


def test_samples_are_those_of_the_repository():
    for path in (ROOT / "sgllie/demo/samples").iterdir():
        assert path.read_bytes() == (ROOT / "samples" / path.name).read_bytes()
