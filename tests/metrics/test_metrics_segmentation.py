"""Confusion matrices, scores, label maps."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from sgllie.evaluate.summary import score
from sgllie.metrics.labels import SCHEMES, LabelScheme, decode_labels
from sgllie.metrics.segmentation import IGNORE, confusion, dark_cityscape_score, segmentation_scores

MAPS = arrays(np.uint8, (5, 6), elements=st.integers(0, 3))


def png(array, palette=None):
    image = Image.fromarray(array)
    if palette:
        image.putpalette(palette)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_scores_of_a_small_map_by_hand():
    label = np.array([[0, 0, 0, 1], [1, 1, IGNORE, 2]], np.uint8)
    guess = np.array([[0, 0, 1, 1], [1, 0, 0, IGNORE]], np.uint8)
    counts = confusion(guess, label, classes=4)
    assert counts.tolist() == [[2, 1, 0, 0, 0], [1, 2, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    scores = segmentation_scores(counts)
    assert scores.class_iou[:3] == pytest.approx([0.5, 0.5, 0])
    assert np.isnan(scores.class_iou[3])
    assert scores.class_accuracy[:3] == pytest.approx([2 / 3, 2 / 3, 0])
    assert scores.miou == pytest.approx(1 / 3)
    assert scores.mpa == pytest.approx(4 / 9)
    assert scores.pixel_accuracy == pytest.approx(4 / 7)
    assert scores.fwiou == pytest.approx((3 * 0.5 + 3 * 0.5) / 7)


@given(MAPS, MAPS)
def test_iou_is_that_of_sets(guess, label):
    scores = segmentation_scores(confusion(guess, label, classes=4))
    for number in range(4):
        union = ((guess == number) | (label == number)).sum()
        if union:
            assert scores.class_iou[number] == pytest.approx(((guess == number) & (label == number)).sum() / union)
    assert scores.pixel_accuracy == pytest.approx((guess == label).mean())
    assert segmentation_scores(confusion(label, label, classes=4)).miou == 1


@given(st.lists(st.tuples(MAPS, MAPS), min_size=2, max_size=4))
def test_a_set_is_the_sum_of_its_images(pairs):
    counts = np.array([confusion(guess, label, classes=4) for guess, label in pairs])
    whole = confusion(*(np.vstack(maps) for maps in zip(*pairs, strict=True)), classes=4)
    assert (counts.sum(axis=0) == whole).all()
    once_and_twice_the_first = np.ones((2, len(pairs)), int)
    once_and_twice_the_first[1, 0] = 2
    expected = [segmentation_scores(total).miou for total in (whole, whole + counts[0])]
    assert score("miou")(counts.astype(float), once_and_twice_the_first) == pytest.approx(expected)


def test_real_labels_are_counted_pixel_by_pixel(shared):
    paths = sorted((shared / "data/labels/BDD").iterdir())[:2]
    first, second = (decode_labels(path.read_bytes(), SCHEMES["cityscapes-train-ids"]).classes for path in paths)
    counts = confusion(first, second, classes=19)
    valid = second != IGNORE
    for truth in (0, 8, 13):
        for guess in (0, 2, 10):
            assert counts[truth, guess] == ((second == truth) & (first == guess) & valid).sum()
    assert counts.sum() == valid.sum()
    assert counts[:, 19].sum() == ((first == IGNORE) & valid).sum()


def test_a_set_without_labels_has_no_score():
    empty = np.full((2, 2), IGNORE)
    assert np.isnan(segmentation_scores(confusion(empty, empty, classes=2)).miou)


def test_bad_maps_are_refused():
    with pytest.raises(ValueError, match="same size, got 2x2 and 2x3"):
        confusion(np.zeros((2, 2), int), np.zeros((2, 3), int), classes=2)
    with pytest.raises(ValueError, match="label 7 is neither one of 2 classes"):
        confusion(np.zeros((1, 2), int), np.array([[0, 7]]), classes=2)


def test_dark_cityscape_score_by_hand():
    label = np.zeros((1100, 2100, 3), np.uint8)
    label[:510] = 255
    guess = label.copy()
    guess[:, 1020:] = 255
    guess[1020:] = 90
    # In the crop of 1020 x 2040 white is right in a half, black in a quarter; the last quarter is guessed white.
    miou, precision = dark_cityscape_score(guess, label)
    assert miou == pytest.approx((0.5 / 0.75 + 0.25 / 0.5) / 2)
    assert precision == pytest.approx((0.5 / 0.75 + 1) / 2)
    assert dark_cityscape_score(np.full((4, 4, 3), 126, np.uint8), np.full((4, 4, 3), 126, np.uint8)) == (1, 1)
    assert dark_cityscape_score(np.full((4, 4, 3), 126, np.uint8), np.full((4, 4, 3), 125, np.uint8)) == (0, 0)


def test_ids_palettes_and_colours_give_the_same_classes():
    train = np.array([[0, 13, 18], [IGNORE, 10, 0]], np.uint8)
    ids = np.array([[7, 26, 33], [0, 23, 7]], np.uint8)
    colours = np.array(
        [[(128, 64, 128), (0, 0, 142), (119, 11, 32)], [(1, 2, 3), (70, 130, 180), (128, 64, 128)]], np.uint8
    )
    assert (decode_labels(png(train), SCHEMES["cityscapes-train-ids"]).classes == train).all()
    assert (decode_labels(png(ids), SCHEMES["cityscapes-ids"]).classes == train).all()
    assert (decode_labels(png(ids.astype(np.uint16)), SCHEMES["cityscapes-ids"]).classes == train).all()
    for scheme in SCHEMES.values():
        assert (decode_labels(png(colours), scheme).classes == train).all()
        opaque = np.dstack([colours, np.full(train.shape, 255, np.uint8)])
        assert (decode_labels(png(opaque), scheme).classes == train).all()
    palette = [value for index in range(256) for value in (index, 0, 255 - index)]
    assert (decode_labels(png(ids, palette), SCHEMES["cityscapes-ids"]).classes == train).all()


def test_a_generic_mapping_merges_classes():
    scheme = LabelScheme(("ground", "other"), ids={3: 0, 4: 0, 9: 1}, colours={(1, 1, 1): 1})
    assert decode_labels(png(np.array([[3, 4, 9, 200]], np.uint8)), scheme).classes.tolist() == [[0, 0, 1, IGNORE]]


def test_label_files_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="cannot be read"):
        decode_labels(b"nothing", SCHEMES["cityscapes-ids"])
    with pytest.raises(ValueError, match="none of the colours"):
        decode_labels(png(np.full((2, 2, 3), 9, np.uint8)), SCHEMES["cityscapes-ids"])
    with pytest.raises(ValueError, match="lists none"):
        decode_labels(png(np.full((2, 2, 3), 9, np.uint8)), LabelScheme(("thing",)))
    with pytest.raises(ValueError, match="must hold ids"):
        decode_labels(png(np.full((2, 2), True)), SCHEMES["cityscapes-ids"])
