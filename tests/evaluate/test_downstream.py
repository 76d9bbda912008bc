"""The table of benchmarks/downstream.py: what counts as found, and which images are together."""

import numpy as np
import pytest
from downstream import Found, as_one_class, cells

from sgllie.metrics.boxes import gather


def frame(*names):
    """A BDD100K frame with one box of each name, all at one place."""
    box = {"x1": 10, "y1": 10, "x2": 49, "y2": 39}
    return {"labels": [{"category": name, "box2d": box, "score": 0.9} for name in names]}


def test_a_box_of_another_class_is_not_found():
    truth = {"a": as_one_class(frame("car")), "b": as_one_class(frame("motorcycle"))}
    boxes = {
        "input": {"a": as_one_class(frame("car")), "b": as_one_class(frame("car"))},
        "better": {"a": as_one_class(frame("car")), "b": as_one_class(frame("motorbike"))},
        "nothing": {"a": gather([]), "b": as_one_class(frame("kite"))},
    }
    found = Found(np.array(["a", "b"]), np.array([0.1, 0.2]), truth, boxes)
    first, better, nothing = cells(found, np.array([True, True]))
    assert float(first) == pytest.approx(0.5, abs=0.02)
    assert float(better.split()[0]) == pytest.approx(1 - float(first), abs=0.001)
    assert float(nothing.split()[0]) == pytest.approx(-float(first), abs=0.001)


def test_copies_of_one_photograph_are_drawn_together():
    # The wanted box is found in one of two copies: drawn by themselves they would give differences from 0 to 1.
    truth = {name: as_one_class(frame("car")) for name in ("a -1", "a -2")}
    nothing, one = dict.fromkeys(truth, gather([])), {"a -1": truth["a -1"], "a -2": gather([])}
    found = Found(np.array(["a", "a"]), np.zeros(2), truth, {"input": nothing, "one": one})
    _, cell = cells(found, np.array([True, True]))
    difference, low, _, high = cell.replace("(", "").replace(")", "").split()
    assert difference == low == high
