"""What is shown of each video while a job works: lines in a log, bars on a terminal."""

import pytest

from sgllie.video.plan import Segment
from sgllie.video.progress import FrameCounts, LogVideoDisplay, display


@pytest.fixture
def segments():
    """A video of two segments, and one whose container does not tell its frames."""
    long = [Segment(shard, 0, "a.mp4", None, None, None, 300, 0, 1) for shard in range(2)]
    return [*long, Segment(2, 1, "b.ts", None, None, None, 0, 2, 2)]


def test_lines_in_a_log(segments, monkeypatch, capsys):
    moments = iter([0.0, 0.0, 0.0, 10.0, 10.0, 10.0, 10.0, 20.0, 20.0, 20.0, 20.0])
    monkeypatch.setattr("sgllie.video.progress.time.monotonic", lambda: next(moments))
    shown = LogVideoDisplay(FrameCounts(segments))
    shown.update({"a.mp4": (0, 0)})
    assert capsys.readouterr().out == ""
    shown.update({"a.mp4": (200, 0), "b.ts": (5, 0)})
    assert capsys.readouterr().out == ("a.mp4: 200 of 600 frames, 20.0 frames/s, 20 s left\nb.ts: 5 frames\n")
    shown.update({"a.mp4": (200, 0), "b.ts": (25, 0)})
    assert capsys.readouterr().out == "b.ts: 25 frames, 2.0 frames/s\n"


def test_a_clip_that_is_done_when_it_is_first_seen(segments, monkeypatch, capsys):
    moments = iter([0.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr("sgllie.video.progress.time.monotonic", lambda: next(moments))
    LogVideoDisplay(FrameCounts(segments)).update({"a.mp4": (600, 0)})
    assert capsys.readouterr().out == "a.mp4: 600 of 600 frames\n"


def test_bars_on_a_terminal(segments, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with display(segments) as shown:
        shown.update({"a.mp4": (150, 0), "b.ts": (5, 0)})
    bars = capsys.readouterr().out
    for words in ("a.mp4", "150 of 600 frames, ", " frames/s, ", "left", "b.ts", " 5 frames, "):
        assert words in bars
    with display(segments) as shown:
        shown.update({"a.mp4": (600, 0), "b.ts": (5, 0)})
    drawn = [line for line in capsys.readouterr().out.splitlines() if "frames" in line]
    assert "b.ts" in drawn[-1]
    assert "a.mp4" not in drawn[-1]  # it is done
    assert "a.mp4" not in drawn[-2]


NAME = "\x1b[2J[/]\x07.mp4"
"""Steers a terminal, and holds what closes a style in the markup of the bars."""


def test_names_do_not_steer_a_log(monkeypatch, capsys):
    shown = LogVideoDisplay(FrameCounts([Segment(0, 0, NAME, None, None, None, 300, 0, 1)]))
    monkeypatch.setattr("sgllie.video.progress.LOG_SECONDS", 0)
    shown.update({NAME: (0, 0)})
    assert capsys.readouterr().out == "\\x1b[2J[/]\\x07.mp4: 0 of 300 frames\n"


def test_names_do_not_steer_the_bars(monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    with display([Segment(0, 0, NAME, None, None, None, 300, 0, 1)]) as shown:
        shown.update({NAME: (100, 0)})
    bars = capsys.readouterr().out
    assert "\\x1b[2J[/]\\x07.mp4" in bars
    assert "\x1b[2J" not in bars
