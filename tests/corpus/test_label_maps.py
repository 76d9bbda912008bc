"""Label maps are told from photographs by their names and by their pixels, and are never changed."""

import json
import tracemalloc

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from skimage import data

from commands import rows_of
from image_files import LOSSLESS, deep, pillow, regions
from sgllie.corpus.labels import ENDINGS, FOLDERS, label_map_name
from sgllie.corpus.listing import Listing
from sgllie.corpus.patterns import Patterns
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.evaluate.run import prepare as prepare_evaluation
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.images import decode
from sgllie.images.label_map import ids_in
from sgllie.report import ReportSettings, write_report
from sgllie.runs.job import InProcess, run_job

CAMERA, ASTRONAUT = data.camera(), data.astronaut()[::2, ::2]


@pytest.mark.parametrize(
    ("path", "told_by"),
    [
        ("gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png", "gtFine"),
        ("leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png", None),
        ("training/image_2/000000_10.png", None),
        ("training/disp_occ_0/000000_10.png", "disp_occ_0"),
        ("a/GTFINE/b.png", "gtFine"),
        ("rgb_anon/night/train/GOPR0351/GOPR0351_frame_000159_rgb_anon.png", None),
        ("gt/night/train/GOPR0351/GOPR0351_frame_000159_gt_labelColor.png", "_labelColor"),
        ("masks.png", None),
        ("masks_of_venice/a.png", None),
        ("a_labelIds.png", "_labelIds"),
        ("a_LABELIDS.tif", "_LABELIDS"),
        ("wine_label.jpg", None),
        ("masks/a.jpg", "masks"),
        ("0001_color.png", None),
        ("labels", None),
    ],
)
def test_names(path, told_by):
    assert label_map_name(path) == told_by


@pytest.mark.parametrize("folder", FOLDERS)
def test_each_folder_is_known_at_any_depth(folder):
    assert label_map_name(f"{folder}/a.png") == label_map_name(f"x/{folder}/y/a.jpg") == folder


@pytest.mark.parametrize("ending", ENDINGS)
def test_each_ending_is_known(ending):
    assert label_map_name(f"x/a{ending}.png").lower() == ending.lower()
    assert label_map_name(f"x/a{ending}b.png") is None


def disparity(size=(96, 128)):
    """A tilted plane in 256ths of a pixel, with holes where nothing was measured."""
    plane = np.add.outer(np.arange(size[0]) * 91.0, np.arange(size[1]) * 13.0) + 5000
    plane[np.random.default_rng(0).random(size) < 0.05] = 0
    return plane.astype(np.uint16)


def cut_out(pixels):
    """A photograph that is black and transparent around a circle."""
    inside = np.hypot(*np.mgrid[-1 : 1 : len(pixels) * 1j, -1 : 1 : pixels.shape[1] * 1j]) < 0.7
    return np.dstack((pixels * (inside if pixels.ndim == 2 else inside[..., None]), inside * np.uint8(255)))


def three(blue, green, red):
    """Three channels of 16 bits."""
    return cv2.imencode(".png", np.dstack((blue, green, red)).astype(np.uint16))[1].tobytes()


PALETTE = np.random.default_rng(1).integers(0, 256, (256, 3)).astype(np.uint8)


def indexed(ids):
    image = Image.fromarray(ids)
    image.putpalette(PALETTE.tobytes())
    return image


MAPS = {
    "train ids": pillow(regions(), "PNG"),
    "ids and void": pillow(np.where(regions() == 3, 255, regions()).astype(np.uint8), "PNG"),
    "two classes": pillow(regions(2), "PNG"),
    "one class": pillow(np.full((96, 128), 7, np.uint8), "PNG"),
    "mask": pillow(regions(2) * 255, "PNG"),
    "mask of 1 bit": pillow(Image.fromarray(regions(2) * 255), "PNG", "1"),
    "TIFF": pillow(regions(9), "TIFF"),
    "BMP": pillow(regions(9), "BMP"),
    "lossless WebP": pillow(PALETTE[regions(9)], "WEBP", lossless=True),
    "palette": pillow(indexed(regions(9)), "PNG"),
    "colours": pillow(PALETTE[regions(19)], "PNG"),
    "colours, opaque": pillow(np.dstack((PALETTE[regions(19)], np.full((96, 128), 255, np.uint8))), "PNG"),
    "colours, void is transparent": pillow(np.dstack((PALETTE[regions(19)], np.minimum(regions(19), 1) * 255)), "PNG"),
    "ids in all four channels": pillow(np.dstack((regions(9), regions(9), regions(2), regions(12))), "PNG"),
    "drawing, transparent around": pillow(np.dstack((PALETTE[regions(3)], regions(2) * 255)), "PNG"),
    "instances of 16 bits": pillow(regions(12).astype(np.uint16) * 1000 + 26, "PNG"),
    "disparity": pillow(disparity(), "PNG"),
    "optical flow": three(disparity() > 0, disparity() // 9 + 2**15, disparity()),
}

PHOTOGRAPHS = {
    "grey": pillow(CAMERA, "PNG"),
    "very dark": pillow(CAMERA // 16, "PNG"),
    "grey JPEG": pillow(CAMERA, "JPEG"),
    "label map as JPEG": pillow(regions(), "JPEG"),
    "16 bits": pillow(deep(CAMERA), "PNG"),
    "8 bits in 16": pillow(CAMERA.astype(np.uint16) * 257, "PNG"),
    "12 bits in 16, clipped": pillow(np.clip(CAMERA.astype(int) * 16 - 600, 0, 4095).astype(np.uint16), "PNG"),
    "round": pillow(deep(CAMERA) * (np.hypot(*np.mgrid[-1:1:512j, -1:1:512j]) < 0.9), "PNG"),
    "palette of 256": pillow(Image.fromarray(ASTRONAUT).quantize(256), "PNG"),
    "palette of 16": pillow(Image.fromarray(ASTRONAUT).quantize(16), "PNG"),
    "16 levels": pillow(CAMERA // 16 * 17, "PNG"),
    "8 levels, out of focus": pillow(cv2.GaussianBlur(CAMERA, (0, 0), 5) // 32 * 36, "PNG"),
    "scanned page": pillow(data.page(), "PNG"),
    "dithered to 1 bit": pillow(Image.fromarray(CAMERA).convert("1"), "PNG"),
    "drawing with smooth edges": pillow(cv2.resize(regions() * 50, (400, 300), interpolation=cv2.INTER_AREA), "PNG"),
    "16 bits without blue": three(0 * CAMERA, deep(CAMERA), deep(CAMERA)),
    "cut out": pillow(cut_out(ASTRONAUT), "PNG"),
    "grey, cut out": pillow(cut_out(CAMERA), "PNG"),
    "too small to tell": pillow(np.full((30, 40), 20, np.uint8), "PNG"),
} | {name: file for name, (file, *_) in LOSSLESS.items() if " 1" not in name.removesuffix("16") and "fax" not in name}


@pytest.mark.parametrize("name", MAPS)
def test_maps_are_told_by_their_pixels(name):
    assert ids_in(decode(MAPS[name]))


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_photographs_are_not_taken_for_maps(name):
    assert ids_in(decode(PHOTOGRAPHS[name])) is None


@given(seed=st.integers(0, 2**32 - 1), count=st.sampled_from([2, 3, *range(8, 21)]))
def test_any_ids_of_regions_are_a_map(seed, count):
    """Of four to seven, too many may border on the next one by chance."""
    ids = np.random.default_rng(seed).permutation(256).astype(np.uint8)[regions(count, (192, 256), seed)]
    _, occurring = np.unique(ids, return_counts=True)
    if occurring.min() > 100:
        assert ids_in(decode(pillow(ids, "PNG")))


@given(seed=st.integers(0, 2**32 - 1), level=st.integers(4, 255))
def test_noise_is_no_map(seed, level):
    noise = np.random.default_rng(seed).integers(0, level, (64, 96), dtype=np.uint8)
    assert ids_in(decode(pillow(noise, "PNG"))) is None


@pytest.fixture
def tree(tmp_path):
    """Photographs, and maps that are told by folder, by ending, and by content."""
    files = {
        "day/a.png": PHOTOGRAPHS["grey"],
        "day/bright.png": pillow(np.clip(CAMERA.astype(int) + 150, 0, 255).astype(np.uint8), "PNG"),
        "gtFine/a_gtFine_labelIds.png": MAPS["train ids"],
        "gtFine/broken.png": b"no image at all",
        "day/a_mask.png": MAPS["mask"],
        "day/ids.png": MAPS["palette"],
        "masks/photo.png": PHOTOGRAPHS["grey"],
        "old/a.png": PHOTOGRAPHS["grey"],
    }
    for path, content in files.items():
        (tmp_path / "in" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "in" / path).write_bytes(content)
    return tmp_path / "in"


def enhance(source, output, **options):
    """Run the job in this process; its rows by path."""
    settings = EnhanceSettings(str(source), str(output), device="cpu", **options)
    assert run_job(prepare, settings, InProcess()) == 0
    return {row["path"]: row for row in rows_of(output)}


def test_maps_are_copied_with_a_reason(tree, tmp_path, capsys):
    rows = enhance(tree, tmp_path / "out", only_darker_than=0.8, format="jpeg")
    said = capsys.readouterr().out
    assert "8 images: 2 enhanced, 6 copied (label map by name: 4, bright enough: 1, label map by content: 1)" in said, (
        said
    )
    reasons = {path: row["reason"] for path, row in rows.items() if row["status"] == "copied"}
    assert reasons == {
        "day/bright.png": "bright enough: mean luma 0.91",
        "gtFine/a_gtFine_labelIds.png": "label map by name: gtFine",
        "gtFine/broken.png": "label map by name: gtFine",
        "day/a_mask.png": "label map by name: _mask",
        "day/ids.png": "label map by content: 9 values in flat regions",
        "masks/photo.png": "label map by name: masks",
    }
    for path in reasons:
        assert (tmp_path / "out/images" / path).read_bytes() == (tree / path).read_bytes()
    assert {rows[path]["reason"] for path in ("day/a.png", "old/a.png")} == {None}
    assert rows["gtFine/broken.png"]["luma_mean_in"] is None


def test_include_and_exclude_decide_otherwise(tree, tmp_path, capsys):
    rows = enhance(tree, tmp_path / "out", include=("masks/", "ids.png"), exclude=("old", "gtFine/*", "!gtFine/a_*"))
    assert "2 files excluded: gtFine/broken.png, old/a.png" in capsys.readouterr().out
    assert {path: row["status"] for path, row in rows.items()} == {
        "day/a.png": "ok",
        "day/bright.png": "ok",
        "gtFine/a_gtFine_labelIds.png": "copied",
        "day/a_mask.png": "copied",
        "day/ids.png": "ok",
        "masks/photo.png": "ok",
    }
    # The same again is resumed, and other patterns are refused.
    enhance(tree, tmp_path / "out", include=("masks/", "ids.png"), exclude=("old", "gtFine/*", "!gtFine/a_*"))
    with pytest.raises(UsageError, match="--exclude"):
        enhance(tree, tmp_path / "out", include=("masks/", "ids.png"))


def test_a_pattern_that_is_none_is_one_sentence():
    with pytest.raises(UsageError, match=r"^--exclude is !; it must be a pattern as in \.gitignore"):
        EnhanceSettings("in", "out", exclude=("!",))
    assert "a" not in Patterns()


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["x/"], ["a.jpg", "b.png"]),
        (["/b.png"], ["a.jpg", "x/a.jpg", "x/y/b.png"]),
        (["**/y/**"], ["a.jpg", "b.png", "x/a.jpg"]),
        (["*", "!*/", "!*.png"], ["b.png", "x/y/b.png"]),
        (["*", "!x/"], []),  # whose files still match the star
        (["!*.png", "*.png"], ["a.jpg", "x/a.jpg"]),
        (["x/", "!x/y/"], ["a.jpg", "b.png", "x/y/b.png"]),  # git would not take it back
        (["y"], ["a.jpg", "b.png", "x/a.jpg"]),
        (["b.png/", "#a.jpg", ""], ["a.jpg", "b.png", "x/a.jpg", "x/y/b.png"]),
    ],
)
def test_patterns_are_those_of_gitignore(lines, kept):
    patterns = Patterns(lines)
    assert [path for path in ("a.jpg", "b.png", "x/a.jpg", "x/y/b.png") if path not in patterns] == kept


def test_patterns_that_leave_out_nothing_or_all_are_told(tree, tmp_path, capsys):
    enhance(tree, tmp_path / "out", exclude=("odl/",))
    assert "--exclude leaves out no file: odl/\n" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"^input .* holds no images \(8 files left out by --exclude\)$"):
        enhance(tree, tmp_path / "none", exclude=("*", "!day/"))


def test_maps_do_not_count_in_the_mean(tree, tmp_path):
    rows = enhance(tree, tmp_path / "out")
    means = [row["luma_mean_in"] for row in rows.values() if row["luma_mean_in"] is not None]
    assert len(means) == 3
    assert json.loads((tmp_path / "out/_SUCCESS").read_text())["luma_mean_in"] == pytest.approx(
        np.mean(means), abs=1e-4
    )


def test_only_photographs_are_trained_on_and_measured(tree, tmp_path, capsys):
    enhance(tree, tmp_path / "out")
    listing = Listing(str(tree), photographs_only=True)
    assert [entry.path for entry in listing] == ["day/a.png", "day/bright.png", "day/ids.png", "old/a.png"]
    assert listing.label_maps.count == 4
    for name, images in (("of a run", tmp_path / "out"), ("of a tree", tmp_path / "out/images")):
        capsys.readouterr()
        settings = EvaluateSettings(images=str(images), output=str(tmp_path / name), metrics="brightness")
        assert run_job(prepare_evaluation, settings, InProcess()) == 0
        said = capsys.readouterr().out
        # What is a map by its content is known from the rows of a run alone.
        maps, measured = (5, 3) if name == "of a run" else (4, 4)
        assert f"{maps} label maps among the images: not measured" in said
        assert f"{measured} images: {measured} measured" in said


def test_the_report_shows_photographs(tree, tmp_path):
    enhance(tree, tmp_path / "out")
    write_report(ReportSettings(str(tmp_path / "out")))
    page = (tmp_path / "out/report.html").read_text()
    assert "Copied as they were" in page
    assert "day/bright.png" in page
    assert "gtFine/broken.png" not in page


@pytest.mark.parametrize("kind", [np.uint8, np.uint16], ids=["8 bit", "16 bit"])
def test_a_large_map_takes_little_memory(kind):
    """It is looked at in bands: its own bytes are all that grows with it."""
    ids = np.repeat(np.repeat(np.arange(63 * 63).reshape(63, 63) * 3 % 7, 61, 0), 61, 1).astype(kind)
    image = decode(pillow(Image.fromarray(ids), "PNG"))
    tracemalloc.start()
    try:
        assert ids_in(image) == "7 values in flat regions"
        assert tracemalloc.get_traced_memory()[1] < 2 * 2**20 * 30 / 4 + 2**20
    finally:
        tracemalloc.stop()
