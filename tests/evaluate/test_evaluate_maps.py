"""`sgllie evaluate --task segmentation`: colours and ids that are of no class, and files that are no label maps."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from commands import rows_of
from sgllie.errors import ImageError, UsageError
from sgllie.evaluate.map_measures import MOST_UNKNOWN, label_scheme
from sgllie.evaluate.measures import Measurer
from sgllie.evaluate.settings import EvaluateSettings
from sgllie.metrics.labels import SCHEMES, LabelScheme, decode_labels
from sgllie.metrics.segmentation import IGNORE

ROAD, CAR, TRAILER, STRANGE = (128, 64, 128), (0, 0, 142), (0, 0, 110), (9, 9, 9)
IDS = SCHEMES["cityscapes-ids"]
TRUTH = np.where(np.arange(60) < 30, 7, 26)[np.newaxis].repeat(40, axis=0).astype(np.uint8)


def encoded(pixels, format="PNG", **options):
    file = io.BytesIO()
    (pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)).save(file, format, **options)
    return file.getvalue()


def coloured(ids, **colours):
    """A map of ids as a colour map."""
    table = np.zeros((256, 3), np.uint8)
    table[[7, 26]] = ROAD, CAR
    for number, colour in colours.items():
        table[int(number.removeprefix("id"))] = colour
    return table[ids]


def row_of(prediction, label=TRUTH, **settings):
    """The row of one prediction and its label, encoded or as arrays."""
    settings = EvaluateSettings(
        task="segmentation", predictions="a", labels="b", **{"classes": "cityscapes-ids", **settings}
    )
    files = {"after": prediction, "truth": label}
    files = {side: data if isinstance(data, bytes) else encoded(data) for side, data in files.items()}
    return Measurer(settings, set(files))(files, [])


LOSSY = {
    "jpeg": encoded(coloured(TRUTH), "JPEG", quality=95),
    "jpeg-grey": encoded(TRUTH, "JPEG", quality=95),
    "webp": encoded(coloured(TRUTH), "WEBP", quality=95),
    "tiff-jpeg": encoded(coloured(TRUTH), "TIFF", compression="jpeg"),
}


@pytest.mark.parametrize("kind", LOSSY)
@pytest.mark.parametrize("side", ["prediction", "label"])
def test_formats_that_change_colours_are_refused(kind, side):
    row = row_of(LOSSY[kind]) if side == "prediction" else row_of(TRUTH, LOSSY[kind])
    assert (row["status"], row["error_type"]) == ("failed", "not_a_label_map")
    assert row["error"].startswith(f"the {side}: a label map ")
    assert "store it as PNG" in row["error"]
    assert ("is stored as JPEG" in row["error"]) == kind.startswith("jpeg")
    assert "miou" not in row


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
@pytest.mark.parametrize("pixels", [TRUTH, coloured(TRUTH)], ids=["ids", "colours"])
def test_formats_that_keep_colours_are_read(format, pixels):
    row = row_of(encoded(pixels, format))
    assert (row["status"], row["miou"], row["unknown"], row["unknown_label"]) == ("ok", 1, 0, 0)


def smoothed(scale):
    """The colour map as it is after a resize that mixes colours, by more mixed pixels the smaller the scale."""
    image = Image.fromarray(coloured(TRUTH))
    small = image.resize((max(1, round(60 * scale)), max(1, round(40 * scale))), Image.Resampling.BILINEAR)
    return np.asarray(small.resize((60, 40), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(
    "prediction",
    [
        np.asarray(Image.open(io.BytesIO(LOSSY["jpeg"]))),
        smoothed(0.25),
        coloured(np.where(np.arange(40)[:, np.newaxis] < 5, 99, TRUTH), id99=STRANGE),
        np.where(np.arange(40)[:, np.newaxis] < 5, 99, TRUTH).astype(np.uint8),
        np.where(np.arange(40)[:, np.newaxis] < 5, 2**31 - 1, TRUTH.astype(np.int32)),
        np.where(np.arange(40)[:, np.newaxis] < 5, 26_000, TRUTH.astype(np.uint16)),
    ],
    ids=["jpeg-as-png", "smoothed", "strange-colour", "strange-id", "huge-id", "instance-id"],
)
@pytest.mark.parametrize("side", ["prediction", "label"])
def test_a_map_with_many_unknown_pixels_fails(prediction, side):
    data = encoded(prediction, "TIFF" if prediction.dtype == np.int32 else "PNG")
    row = row_of(data) if side == "prediction" else row_of(TRUTH, data)
    share = row["unknown" if side == "prediction" else "unknown_label"]
    assert share > MOST_UNKNOWN
    assert (row["status"], row["error_type"]) == ("failed", "not_a_label_map")
    assert row["error"].startswith(f"the {side}: {share:.1%} of its pixels have a colour or an id that --classes")
    assert "such as the " in row["error"]
    assert "miou" not in row


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF"])
def test_a_palette_of_the_colours_of_the_scheme_may_have_any_order(format):
    saved = Image.fromarray(coloured(TRUTH)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert decode_labels(encoded(saved, format), IDS).unknown == 0
    np.testing.assert_array_equal(decode_labels(encoded(saved, format), IDS).classes, np.where(TRUTH == 7, 0, 13))


@pytest.mark.parametrize("palette", [[0] * 768, [*range(256)] * 3, [*ROAD, *STRANGE] * 128])
def test_the_indices_of_any_other_palette_are_ids(palette):
    image = Image.fromarray(TRUTH)
    image.putpalette(palette)
    np.testing.assert_array_equal(decode_labels(encoded(image), IDS).classes, np.where(TRUTH == 7, 0, 13))


def test_a_few_unknown_pixels_are_told_and_count_as_no_class():
    prediction = TRUTH.copy()
    prediction[0, :24] = 99
    for pixels in (prediction, coloured(prediction, id99=STRANGE)):
        row = row_of(pixels)
        assert (row["status"], row["unknown"]) == ("ok", 24 / 2400)
        assert row["pixel_accuracy"] == pytest.approx(1 - 24 / 2400)


def test_what_is_void_on_purpose_is_not_unknown():
    half = np.where(np.arange(40)[:, np.newaxis] < 20, 29, TRUTH).astype(np.uint8)
    black = np.where(np.arange(40)[:, np.newaxis] < 20, 255, TRUTH).astype(np.uint8)
    for label in (half, black, coloured(half, id29=TRAILER), coloured(black)):
        row = row_of(TRUTH, label)
        assert (row["status"], row["unknown_label"], row["miou"]) == ("ok", 0, 1)


def test_an_ignored_number_beyond_the_classes_is_not_unknown():
    label = np.where(TRUTH == 7, 0, 200).astype(np.uint8)
    row = row_of(np.zeros_like(TRUTH), label, classes="cityscapes-train-ids", ignore_label=200)
    assert (row["status"], row["unknown_label"], row["miou"]) == ("ok", 0, 1)
    assert row_of(np.zeros_like(TRUTH), label, classes="cityscapes-train-ids")["status"] == "failed"


def scheme(tmp_path, classes):
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    return label_scheme(
        EvaluateSettings(task="detection", predictions="a", labels="b", classes=str(tmp_path / "classes.json"))
    )


def test_values_under_no_name_are_void(tmp_path):
    classes = [{"name": "flat", "ids": [7]}, {"name": None, "ids": [26], "colours": [[1, 2, 3]]}]
    found = scheme(tmp_path, classes)
    assert found == LabelScheme(("flat",), {7: 0}, {}, frozenset({26}), frozenset({(1, 2, 3)}))
    assert decode_labels(encoded(TRUTH), found).unknown == 0
    assert decode_labels(encoded(TRUTH), scheme(tmp_path, classes[:1])).unknown == 0.5


@pytest.mark.parametrize(
    ("classes", "why"),
    [
        ([{"name": "a", "ids": [1]}, {"name": "b", "ids": [1]}], "1 is listed twice"),
        ([{"name": "a", "colours": [[1, 2, 3]]}, {"name": None, "colours": [[1, 2, 3]]}], "is listed twice"),
        ([{"name": "a", "ids": [10**12]}], "ids must lie between 0 and 65535"),
        ([{"name": "a", "ids": [-1]}], "ids must lie between 0 and 65535"),
        ([{"name": "a", "colours": [[1, 2, 300]]}], "is no colour"),
        ([{"ids": [1]}], "is no JSON list of"),
    ],
)
def test_classes_that_make_no_sense_are_refused(tmp_path, classes, why):
    with pytest.raises(UsageError, match=why):
        scheme(tmp_path, classes)


def png_of_size(width, height):
    """The beginning of a PNG that promises many pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(header)) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 8) + b"IDAT" + zlib.compress(b"\0")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 60 40\n%%EndComments\n"


@pytest.mark.parametrize(
    ("data", "kind", "sentence"),
    [
        (POSTSCRIPT, "not_a_label_map", "it is not a PNG, BMP or TIFF"),
        (b"P5 60 40 255\n" + bytes(2400), "not_a_label_map", "it is not a PNG, BMP or TIFF"),
        (encoded(TRUTH, "GIF"), "not_a_label_map", "it is not a PNG, BMP or TIFF"),
        (b"", "not_a_label_map", "it is not a PNG, BMP or TIFF"),
        (encoded(TRUTH)[:60], "not_a_label_map", "cannot be read"),
        (encoded(TRUTH.astype(np.float32), "TIFF"), "not_a_label_map", "must hold ids, a palette or RGB colours"),
        (encoded(np.dstack([TRUTH, TRUTH])), "not_a_label_map", "must hold ids, a palette or RGB colours"),
        (encoded(Image.fromarray(coloured(TRUTH)).convert("CMYK"), "TIFF"), "not_a_label_map", "must hold ids"),
        (png_of_size(70, 40), "too_large", "70 x 40 pixels; at most 2500"),
        (png_of_size(2**31 - 1, 2**31 - 1), "too_large", "2147483647 pixels; at most 2500"),
        (
            encoded(Image.fromarray(TRUTH), "TIFF", save_all=True, append_images=[Image.fromarray(TRUTH)]),
            "multi_frame",
            "holds several images",
        ),
    ],
    ids=["eps", "pgm", "gif", "empty", "truncated", "float", "grey-alpha", "cmyk", "large", "huge", "pages"],
)
def test_what_is_no_label_map_is_a_row(monkeypatch, data, kind, sentence):
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: pytest.fail("another program is run"))
    row = row_of(data, max_pixels=2500)
    assert (row["status"], row["error_type"]) == ("failed", kind)
    assert row["error"].startswith("the prediction: a label map ")
    assert sentence in row["error"]
    assert "0x" not in row["error"], "no address in memory"


def test_a_high_id_takes_no_more_memory():
    high = TRUTH.astype(np.int32)
    high[0, 0], high[0, 1] = 2**31 - 1, -5
    found = decode_labels(encoded(high, "TIFF"), IDS)
    assert (found.classes[0, :2] == IGNORE).all()
    assert (found.classes[1:] == decode_labels(encoded(TRUTH), IDS).classes[1:]).all()
    assert found.unknown == 2 / 2400


def test_maps_are_upright_as_their_exif_says():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(np.ascontiguousarray(np.rot90(TRUTH)), exif=exif)
    assert row_of(turned)["miou"] == 1
    with pytest.raises(ImageError, match="at most 100"):
        decode_labels(turned, IDS, max_pixels=100)


def test_unknown_pixels_are_told_at_the_end(here, tmp_path):
    for side in ("labels", "predictions"):
        (tmp_path / side).mkdir()
        for name in "abc":
            (tmp_path / side / f"{name}.png").write_bytes(encoded(TRUTH))
    few, many = TRUTH.copy(), TRUTH.copy()
    few[0, :24], many[:20] = 99, 99
    (tmp_path / "predictions/a.png").write_bytes(encoded(few))
    (tmp_path / "predictions/b.png").write_bytes(encoded(many))
    (tmp_path / "predictions/c.png").unlink()
    (tmp_path / "predictions/c.jpg").write_bytes(LOSSY["jpeg"])
    options = ("--labels", tmp_path / "labels", "--classes", "cityscapes-ids", "--num-actors", 1)
    result = here("evaluate", "--task", "segmentation", "--predictions", tmp_path / "predictions", *options)
    assert result.returncode == 3, result.stderr
    sentence = "Pixels with a colour or an id that --classes does not list, which count as no class"
    assert f"{sentence}: 1 % of the predictions (1 image)." in result.stdout
    rows = {row["path"]: row for row in rows_of(tmp_path / "predictions-evaluation")}
    assert [rows[f"{name}.png"]["status"] for name in "abc"] == ["ok", "failed", "failed"]
    assert [rows[f"{name}.png"]["unknown"] for name in "abc"] == [0.01, 0.5, None]
    summary = json.loads((tmp_path / "predictions-evaluation/summary.json").read_text())
    assert summary["unknown"] == {"unknown": {"share": 0.01, "images": 1}}
