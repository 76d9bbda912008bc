"""What `docs/python.md` promises can be imported, and its examples run as they stand."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_docs import ROOT, first_cells

import sgllie
from clips import pan, write_clip

PAGE = "docs/python.md"


def test_the_page_lists_what_is_public():
    named = {name for cell in first_cells(PAGE) for name in cell}
    assert named == set(sgllie.__all__) == set(sgllie._MODULES)


@pytest.mark.parametrize("name", sgllie.__all__)
def test_every_name_can_be_imported(name):
    assert callable(getattr(sgllie, name)) or name == "METRICS"


@pytest.fixture
def known(tmp_path, monkeypatch) -> dict:
    """The files and the arrays that the examples name, in the present folder."""
    monkeypatch.chdir(tmp_path)
    image = np.random.default_rng(0).integers(0, 60, (192, 200, 3), np.uint8)
    cv2.imwrite("dark.jpg", image)
    write_clip(Path("dark.mp4"), pan(4, (48, 64)), sound=False)
    return {"image": image, "reference": image + 20}


@pytest.mark.parametrize(
    "example", re.findall(r"^```python\n(.*?)^```", (ROOT / PAGE).read_text(), re.MULTILINE | re.DOTALL)
)
def test_the_examples_run(example, known):
    names = dict(known)
    exec(example, names)
    if "bright" in names:
        assert names["bright"].shape == known["image"].shape
    if "encode" in names:
        assert cv2.imread("bright.jpg").mean() > cv2.imread("dark.jpg").mean()
    if "rows" in names:
        assert len(names["rows"]) == 4
        assert Path("bright.mp4").stat().st_size
