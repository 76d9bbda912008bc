"""The page in the browser, without a browser: its settings, its refusals, what it shows, makes and leaves behind."""

import io
import re
import shlex
import threading
import time
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tyro
from PIL import Image, ImageCms

from clips import decoded, static, write_clip
from image_files import ONE_OF_EACH, RGB, RGBA, deep, pillow, png
from places import ROOT
from sgllie.demo import words
from sgllie.demo.chart import histograms, map_picture
from sgllie.demo.choice import Choice
from sgllie.demo.item import Item, orientation
from sgllie.demo.preview import LONGEST_SIDE, naturalness
from sgllie.demo.session import Session, Sessions, sentence_of
from sgllie.demo.settings import DemoSettings
from sgllie.demo.stills import Stills
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import ItemError, UsageError
from sgllie.images import decode
from sgllie.images.png import chunk
from sgllie.video.reader import VideoReader
from sgllie.video.settings import VideoSettings


def session_of(tmp_path, **options):
    """A session of a page that has no other."""
    settings = DemoSettings(**options)
    return Session(tmp_path / "session", settings, Stills(settings))


@pytest.fixture
def session(tmp_path):
    return session_of(tmp_path)


def dropped(folder, name, data):
    """A file as the browser's upload leaves it: in a folder of its own."""
    path = folder / f"upload-{name}" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def taken(session, tmp_path, name, data):
    """A file that the session has taken over."""
    assert session.take([dropped(tmp_path, name, data)]) == []
    return session.items[-1]


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "::", "example.org", ""])
def test_other_machines_need_a_password(host):
    with pytest.raises(UsageError, match=r"--host .* needs --auth-file") as caught:
        DemoSettings(host=host)
    assert "other machines" in str(caught.value), "it says why"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "localhost", "::1", "[::1]"])
def test_this_machine_needs_none(host):
    assert DemoSettings(host=host).passwords() == []


def test_passwords_may_hold_colons(tmp_path):
    file = tmp_path / "people"
    file.write_text("ada:a:b\n\nbert:geheim\n")
    settings = DemoSettings(host="0.0.0.0", auth_file=file)
    assert settings.passwords() == [("ada", "a:b"), ("bert", "geheim")]


@pytest.mark.parametrize("text", [None, "", "\n", "ada\n", ":secret\n", "ada:\n", "ada:x\nbert\n"])
def test_a_wrong_password_file_is_one_sentence(tmp_path, text):
    file = tmp_path / "people"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UsageError, match=r"^--auth-file "):
        DemoSettings(auth_file=file).passwords()


CHOICES = {
    "": Choice(),
    "--strength 0.7": Choice(strength=0.7),
    "--method lime": Choice(method="lime", weights="a b.pth", scale_factor=3),
    "--weights 'a b.safetensors' --scale-factor 3": Choice(weights="a b.safetensors", scale_factor=3),
    "--only-darker-than 0.3": Choice(only_darker_than=0.3),
    "--method onnx --weights x.onnx": Choice(method="onnx", weights="x.onnx", scale_factor=2, denoise=True),
    "--strength 0.7 --denoise": Choice(strength=0.7, denoise=True),
    "--method zero-dce --weights z.pth --scale-factor 1": Choice("zero-dce", "z.pth", 1),
}


@pytest.mark.parametrize("options", CHOICES)
def test_the_command_says_what_the_controls_say(options):
    choice = CHOICES[options]
    command = choice.command(clips=False)
    assert command == f"sgllie enhance PHOTOGRAPHS BRIGHT {options}".strip()
    parsed = tyro.cli(EnhanceSettings, args=shlex.split(command)[2:])
    made = choice.settings()
    for name in ("method", "weights", "scale_factor", "strength", "only_darker_than", "denoise"):
        assert getattr(parsed, name) == getattr(made, name)


def test_the_command_for_clips_has_no_option_that_it_does_not_know():
    command = Choice(strength=0.5, only_darker_than=0.3, denoise=True).command(clips=True)
    assert command == "sgllie video PHOTOGRAPHS BRIGHT --strength 0.5 --denoise"
    tyro.cli(VideoSettings, args=shlex.split(command)[2:])


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_the_download_is_what_the_job_writes(session, tmp_path, kind):
    item = taken(session, tmp_path, f"photo.{kind.split()[-1 if 'jpeg' in kind else 0]}", ONE_OF_EACH[kind])
    choice = Choice(strength=0.6)
    job = ImageProcessor(EnhanceSettings("in", "out", strength=0.6, device="cpu"))
    assert item.enhance(choice, session.settings) == job("photo", ONE_OF_EACH[kind]).data


def test_the_download_of_a_bright_photograph_is_itself(session, tmp_path):
    data = ONE_OF_EACH["jpeg"]
    item = taken(session, tmp_path, "photo.jpg", data)
    choice = Choice(only_darker_than=0.05)
    assert item.enhance(choice, session.settings) == data
    assert item.is_copied(session.shown(item, choice).preview, choice)


@pytest.mark.jobs
@pytest.mark.parametrize("strength", [0.0, 0.35, 0.8, 1.0])
@pytest.mark.parametrize("method", ["sgz", "sgz --denoise", "lime", "clahe", "gamma"])
def test_the_preview_is_the_result_shrunk(session, tmp_path, method, strength):
    large = cv2.resize(RGB // 4, (2000, 1400), interpolation=cv2.INTER_CUBIC)
    noisy = np.clip(large + np.random.default_rng(0).normal(0, 3, large.shape), 0, 255).astype(np.uint8)
    item = taken(session, tmp_path, "large.png", pillow(noisy, "PNG"))
    choice = Choice(method=method.split()[0], strength=strength, denoise="--denoise" in method)
    preview = session.shown(item, choice).preview
    assert preview.before.shape == (1120, LONGEST_SIDE, 3)
    result = decode(item.enhance(choice, session.settings)).pixels
    expected = cv2.resize(result, (LONGEST_SIDE, 1120), interpolation=cv2.INTER_AREA)
    apart = np.abs(preview.after(strength).astype(int) - expected)
    assert apart.max() <= 2
    assert (apart > 1).mean() < 1e-3, "of many pixels a few lie where both pictures were rounded to one side"


@pytest.mark.parametrize("number", range(1, 9))
def test_the_preview_is_upright(session, tmp_path, number):
    exif = Image.Exif()
    exif[0x0112] = number
    data = pillow(RGB, "PNG", exif=exif)
    preview = session.shown(taken(session, tmp_path, "turned.png", data), Choice()).preview
    upright = decode(data, exif_orientation="apply").pixels
    assert np.array_equal(preview.before, upright)
    assert preview.full.shape == upright.shape
    assert (preview.factor.shape[0] > preview.factor.shape[1]) == (upright.shape[0] > upright.shape[1])


@pytest.mark.parametrize(
    "data",
    [pillow(RGBA, "PNG"), png(deep(RGB), 2, 16), pillow(RGB, "PNG", mode="L"), pillow(RGB[:1, :1], "PNG")],
    ids=["alpha", "16 bits", "grey", "one pixel"],
)
@pytest.mark.parametrize("method", ["sgz", "gamma", "clahe", "msrcr", "pie"])
def test_every_kind_of_photograph_and_map_is_shown(session, tmp_path, data, method):
    item = taken(session, tmp_path, "photo.png", data)
    shown = session.shown(item, Choice(method=method))
    after = shown.preview.side(shown.preview.after(0.5))
    assert decode(after.jpeg).pixels.shape == shown.preview.before.shape
    assert histograms(shown.before, after).count("<path") == 2
    assert "<table>" in words.facts(shown.before, after, (naturalness(shown.preview.before), None))
    assert words.map_caption(shown.preview.factor)
    if shown.preview.factor.size:
        assert decode(map_picture(shown.preview.factor)).pixels.ndim == 3


def test_a_colour_profile_reaches_the_browser(session, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    item = taken(session, tmp_path, "photo.jpg", pillow(RGB, "JPEG", icc_profile=profile))
    shown = session.shown(item, Choice())
    assert Image.open(io.BytesIO(shown.before.jpeg)).info["icc_profile"] == profile


def hdr_png():
    """A PNG whose cICP chunk says PQ."""
    return png(deep(RGB), 2, 16, chunk(b"cICP", bytes((9, 16, 0, 1))))


def clip_bytes(tmp_path, count=30, **options):
    path = tmp_path / "made.mp4"
    write_clip(path, static(count), sound=False, **options)
    return path.read_bytes()


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


@pytest.mark.parametrize(("rotation", "expected"), [(0, 1), (-90, 6), (180, 3), (90, 8)])
def test_a_turned_clip_is_shown_upright(session, tmp_path, rotation, expected):
    item = taken(session, tmp_path, "clip.mp4", clip_bytes(tmp_path, 12, rotation=rotation))
    preview = session.shown(item, Choice()).preview
    assert preview.before.shape == ((160, 96, 3) if rotation % 180 else (96, 160, 3))
    with VideoReader(str(item.path)) as reader:
        assert orientation(reader.info.matrix) == expected


def test_a_clip_is_enhanced_as_a_whole(session, tmp_path):
    item = taken(session, tmp_path, "clip.mp4", clip_bytes(tmp_path, 12))
    out = tmp_path / "out.mp4"
    out.write_bytes(item.enhance(Choice(), session.settings))
    assert len(decoded(out)) == 12
    assert decoded(out)[5].mean() > decoded(item.path)[5].mean() + 10


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


def test_names_are_shown_as_they_are():
    assert words.sentences(["<b>.jpg: a & b"]) == "<p>&lt;b&gt;.jpg: a &amp; b</p>"


def test_samples_are_those_of_the_repository():
    for path in (ROOT / "sgllie/demo/samples").iterdir():
        assert path.read_bytes() == (ROOT / "samples" / path.name).read_bytes()


def test_a_change_of_strength_takes_less_than_150_milliseconds(session, tmp_path):
    """Of one core: threads of this test's own do not count, nor does a machine that is busy with something else."""
    large = cv2.resize(RGB, (4000, 3000), interpolation=cv2.INTER_CUBIC)
    item = taken(session, tmp_path, "large.jpg", pillow(large, "JPEG"))
    session.shown(item, Choice())
    spent = []
    for strength in (0.9, 0.8, 0.7, 0.6, 0.5):
        begun = time.process_time()
        shown = session.shown(item, Choice(strength=strength))
        after = shown.preview.side(shown.preview.after(strength))
        session.picture(after.jpeg)
        histograms(shown.before, after)
        map_picture(shown.preview.factor)
        spent.append(time.process_time() - begun)
    assert sorted(spent)[2] < 0.15


def test_items_are_told_by_name():
    assert Item("a.MP4", Path("x")).is_clip
    assert not Item("a.JPG", Path("x")).is_clip
