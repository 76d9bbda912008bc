"""GPUs as a job sees them; they are pretended."""

import os

import pytest

from commands import make_corpus
from places import HOOKS
from sgllie.enhance.isolated import isolated_processor
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.memory import budgets


@pytest.mark.jobs
def test_an_isolated_image_is_enhanced_where_the_gpu_has_no_room_for_its_process(tmp_path, monkeypatch):
    for name, value in {"PRETEND_CUDA": "yes", "BROKEN_GPU": "full"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", HOOKS, prepend=os.pathsep)
    data = (make_corpus(tmp_path, 1) / "000/00000.jpg").read_bytes()
    settings = EnhanceSettings("in", "out", device="cuda", half=True)
    with isolated_processor(settings, budgets(None)[1].total) as processor:
        row = processor("a.jpg", data).row
    assert (row["status"], row["device"]) == ("ok", "cpu")
