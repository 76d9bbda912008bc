"""What the page shows and makes, without a browser."""

import io
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from clips import decoded
from demo_sessions import clip_bytes, session_of, taken
from image_files import ONE_OF_EACH, RGB, RGBA, deep, pillow, png
from sgllie.demo import words
from sgllie.demo.chart import histograms, map_picture
from sgllie.demo.choice import Choice
from sgllie.demo.item import Item, orientation
from sgllie.demo.preview import LONGEST_SIDE
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.settings import EnhanceSettings
from sgllie.images import decode
from sgllie.metrics.niqe import niqe_of_middle
from sgllie.video.reader import VideoReader


@pytest.fixture
def session(tmp_path):
    return session_of(tmp_path)


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
    assert "<table>" in words.facts(shown.before, after, (niqe_of_middle(shown.preview.before), None))
    assert words.map_caption(shown.preview.factor)
    if shown.preview.factor.size:
        assert decode(map_picture(shown.preview.factor)).pixels.ndim == 3


def test_a_colour_profile_reaches_the_browser(session, tmp_path):
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    item = taken(session, tmp_path, "photo.jpg", pillow(RGB, "JPEG", icc_profile=profile))
    shown = session.shown(item, Choice())
    assert Image.open(io.BytesIO(shown.before.jpeg)).info["icc_profile"] == profile


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


def test_names_are_shown_as_they_are():
    assert words.sentences(["<b>.jpg: a & b"]) == "<p>&lt;b&gt;.jpg: a &amp; b</p>"


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
