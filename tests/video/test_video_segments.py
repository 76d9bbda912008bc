"""A video in parts: where it is cut, and that the joined parts are what a single pass makes."""

import itertools

import av
import numpy as np
import pytest

from clips import RATE, TICKS, packets, pan, pictures, static, timestamps, varying, write_clip
from sgllie.video.clip import Encoding, encoded, enhance_segment, enhance_video
from sgllie.video.join import join
from sgllie.video.reader import VideoReader
from sgllie.video.smoothing import Smoother
from sgllie.video.spans import Span, cut

pytestmark = pytest.mark.jobs

LOSSLESS = Encoding("ffv1")


def in_segments(source, target, spans, enhancer, encoding, scratch, smoothing=0.9):
    """Each span by a reader and a smoother of its own, then joined."""
    files, rows = [], []
    for number, span in enumerate(spans):
        with VideoReader(str(source)) as reader:
            file = scratch / f"{number}.mp4"
            own = list(enhance_segment(reader, file, span, enhancer, Smoother(smoothing), encoding))
            files.append(encoded(file, own, reader))
            rows += own
    with VideoReader(str(source)) as reader:
        join(target, reader, files, encoding.codec, target.suffix)
    return rows


CLIPS = {
    "steady": {},
    "varying": {"times": varying(90)},
    "open groups": {"options": {"crf": "10", "g": "20", "x264-params": "open-gop=1:bframes=3"}},
    "no sound": {"sound": False, "times": varying(90, start=5000)},
}


@pytest.mark.parametrize("name", CLIPS)
@pytest.mark.parametrize("smoothing", [0, 0.8])
def test_segments_make_the_same_video(tmp_path, enhancer, name, smoothing):
    frames = pan(45) + static(45)
    source = write_clip(tmp_path / "in.mp4", frames, **CLIPS[name])
    enhance = {"temporal_smoothing": smoothing, "encoding": LOSSLESS}
    whole = enhance_video(str(source), tmp_path / "whole.mp4", enhancer, **enhance)
    with VideoReader(str(source)) as reader:
        spans = cut(reader, 0.6)
    assert len(spans) > 3
    parts = in_segments(source, tmp_path / "joined.mp4", spans, enhancer, LOSSLESS, tmp_path, smoothing)
    assert parts == whole
    assert timestamps(tmp_path / "joined.mp4") == timestamps(tmp_path / "whole.mp4") == timestamps(source)
    assert packets(tmp_path / "joined.mp4", "audio") == packets(source, "audio")
    for one, other in zip(pictures(tmp_path / "joined.mp4"), pictures(tmp_path / "whole.mp4"), strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("encoding", [Encoding(preset="fast"), Encoding("h265", preset="fast")])
def test_lossy_segments_are_joined_without_a_seam(tmp_path, enhancer, suffix, encoding):
    times = None if suffix == ".ts" else [time // 15 * 15 + 15 for time in varying(90)]  # what .ts and .mkv can hold
    source = write_clip(tmp_path / f"in{suffix}", pan(90), times)
    target = tmp_path / f"out{suffix}"
    with VideoReader(str(source)) as reader:
        step = reader.info.duration // 4
        begins = [reader.info.start + step * number + 1 for number in range(1, 4)]
    spans = [Span(*pair) for pair in itertools.pairwise([None, *begins, None])]
    in_segments(source, target, spans, enhancer, encoding, tmp_path)
    whole = tmp_path / f"whole{suffix}"
    enhance_video(str(source), whole, enhancer, encoding=encoding)
    assert timestamps(target) == timestamps(source)
    with av.open(str(target)) as container:
        found = [(packet.dts, packet.pts) for packet in container.demux(video=0) if packet.size]
    if suffix != ".mkv":  # which does not hold decoding times
        assert all(one[0] < other[0] for one, other in itertools.pairwise(found))
        assert all(dts <= pts for dts, pts in found)
    for one, other in zip(pictures(target), pictures(whole), strict=True):
        assert np.abs(one.astype(int) - other).mean() < 6  # two encodings of one picture


def test_decoding_times_rise_where_frames_become_rare(tmp_path, enhancer):
    """The second encoder begins further back in time than the last frames of the first are apart."""
    times = [*range(0, 8000, 200), *range(8000, 98000, 3000)]
    source = write_clip(tmp_path / "in.mp4", pan(len(times)), times)
    spans = [Span(None, 8000), Span(8000, None)]
    in_segments(source, tmp_path / "out.mp4", spans, enhancer, Encoding(preset="fast"), tmp_path)
    assert timestamps(tmp_path / "out.mp4") == timestamps(source)
    with av.open(str(tmp_path / "out.mp4")) as container:
        found = [(packet.dts, packet.pts) for packet in container.demux(video=0) if packet.size]
    assert all(one[0] < other[0] for one, other in itertools.pairwise(found))
    assert all(dts <= pts for dts, pts in found)


def test_spans_begin_at_key_frames(tmp_path):
    source = write_clip(tmp_path / "in.mp4", static(90), options={"crf": "20", "g": "10", "bf": "0"}, sound=False)
    with VideoReader(str(source)) as reader:
        keys, spans = reader.key_times(), cut(reader, 1.0)
    assert [key * RATE * TICKS for key in keys] == list(range(0, 90, 10))
    assert spans == [Span(None, keys[3]), Span(keys[3], keys[6]), Span(keys[6], None)]


def test_a_short_video_is_one_span(tmp_path):
    with VideoReader(str(write_clip(tmp_path / "in.mp4", static(30)))) as reader:
        assert cut(reader, 0.6) == [Span(None, None)]
