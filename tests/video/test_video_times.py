"""Times of pictures: how long each is shown, clocks that begin below zero or wrap, and files that were cut off."""

from fractions import Fraction

import av
import pytest

from clips import packets, pan, pictures, static, timestamps, write_clip
from sgllie.video import join as joining
from sgllie.video.clip import Encoding, enhance_video
from sgllie.video.reader import VideoReader
from video_jobs import row_of, rows, settings_for, work

pytestmark = pytest.mark.jobs

FAST = Encoding(preset="superfast", threads=1)
SMALL = (64, 96)
WRAP = 2**33
"""Ticks of 1/90000 s after which the clock of MPEG-TS begins anew."""


def muxed(path, count=24, *, start=0, held=0, time_base=Fraction(1, 90000), shown=None, rate=24, **options):
    """A clip of nothing but pictures of 1/24 s from `start` on, the last of which is shown `held` ticks longer."""
    with av.open(str(path), "w", container_options=options) as output:
        video = output.add_stream("libx264", rate=rate, options={"bf": "0", "g": "12"})
        video.height, video.width = SMALL
        video.time_base = video.codec_context.time_base = time_base
        step = round(1 / (24 * time_base))
        encoded = []
        for number, picture in enumerate(shown or static(count, SMALL)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = start + number * step, time_base
            encoded += video.encode(frame)
        for packet in [*encoded, *video.encode(None)]:
            packet.duration = step
            if packet.pts == start + (count - 1) * step:
                packet.duration += held
            output.mux(packet)
    return path


@pytest.mark.parametrize(("rate", "frames"), [(3, 0), (25, 24), (500, 0), (100_000, 0)])
def test_frames_are_estimated_by_a_rate_that_can_be(tmp_path, rate, frames):
    """Matroska stores no number of frames, and any rate."""
    path = str(muxed(tmp_path / "a.mkv", time_base=Fraction(1, 1000), rate=rate))
    with VideoReader(path) as reader:
        assert reader.info.frames == pytest.approx(frames, abs=1)


def length(path):
    with av.open(str(path)) as container:
        return container.duration / av.time_base


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
@pytest.mark.parametrize("other", [".mp4", ".mkv"])
def test_a_picture_that_is_held_at_the_end_stays_as_long(tmp_path, enhancer, suffix, other):
    source = muxed(tmp_path / f"in{suffix}", held=5 * 90000)
    enhance_video(str(source), tmp_path / f"out{other}", enhancer, encoding=FAST)
    assert length(source) == pytest.approx(6, abs=0.05)
    assert length(tmp_path / f"out{other}") == pytest.approx(length(source), abs=0.002)


@pytest.mark.parametrize("codec", ["h264", "h265"])
@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv"])
def test_a_picture_is_held_at_the_end_where_pictures_are_reordered(tmp_path, enhancer, suffix, codec):
    is_reordered = []
    for count in range(20, 26):  # the encoder chooses the order
        held, output = tmp_path / f"{count}.mp4", tmp_path / f"{count}-bright{suffix}"
        muxed(held, count, held=5 * 90000, shown=pan(count, SMALL))
        enhance_video(str(held), output, enhancer, encoding=Encoding(codec=codec, preset="medium"))
        with av.open(str(output)) as container:
            times = [packet.pts for packet in container.demux(video=0) if packet.pts is not None]
        is_reordered.append(times[-1] < max(times))
        assert length(output) == pytest.approx(length(held), abs=0.002)
    assert any(is_reordered), "the last picture is stored last in all of them, so this shows nothing"


def test_mpeg_ts_has_no_place_for_how_long_the_last_picture_is_held(tmp_path):
    source = muxed(tmp_path / "in.mp4", held=5 * 90000)
    assert row_of(source, tmp_path / "out.ts")["left_out"] == "how long the last picture is held"


def test_the_durations_of_pictures_are_in_their_rows(tmp_path):
    source = muxed(tmp_path / "in.mp4", 6, held=90000)
    row_of(source, tmp_path / "out.mp4", segment_seconds=0.1)
    found = [row["duration"] for row in rows(tmp_path / ".out.mp4.run", "frames")]
    assert sorted(found) == pytest.approx([1 / 24] * 5 + [1 + 1 / 24])


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts"])
@pytest.mark.parametrize("seconds", [0.7, 60])
@pytest.mark.parametrize("start", [WRAP - 67500, -67500, -67500 + WRAP // 2])
def test_a_clock_that_wraps(tmp_path, suffix, seconds, start):
    source = muxed(tmp_path / "in.ts", 36, start=start, mpegts_copyts="1", avoid_negative_ts="disabled")
    totals = work(settings_for(source, tmp_path / f"out{suffix}", segment_seconds=seconds))
    assert (totals["ok"], totals["frames"]) == (1, 36)
    before, after = timestamps(source), timestamps(tmp_path / f"out{suffix}")
    shift = max(-before[0], 0)
    assert len(after) == 36
    assert max(abs(a + shift - b) for a, b in zip(before, after, strict=True)) <= Fraction(1, 1999)
    assert after[0] >= 0


def test_all_streams_are_moved_together(tmp_path, enhancer):
    """Pictures and sound, whose times are those of the same clock, begin 0.8 s before its zero."""
    plain = write_clip(tmp_path / "plain.ts", static(30, SMALL))
    source = tmp_path / "in.ts"
    options = {"mpegts_copyts": "1", "avoid_negative_ts": "disabled"}
    with av.open(str(plain)) as one, av.open(str(source), "w", container_options=options) as other:
        streams = [other.add_stream_from_template(stream, opaque=True) for stream in one.streams]
        for packet in one.demux():
            if packet.size:
                packet.pts, packet.dts = packet.pts - 72000, packet.dts - 72000
                packet.stream = streams[packet.stream_index]
                other.mux(packet)
    enhance_video(str(source), tmp_path / "out.mp4", enhancer, encoding=FAST)
    distance = [packets(path, "audio")[0][0] - timestamps(path)[0] for path in (source, tmp_path / "out.mp4")]
    assert timestamps(source)[0] < 0 == timestamps(tmp_path / "out.mp4")[0]
    assert abs(distance[0] - distance[1]) < 0.001


def test_a_joined_file_that_does_not_show_all_pictures_is_no_success(tmp_path, monkeypatch):
    source = muxed(tmp_path / "in.mp4")
    written = joining.encoded_packets
    monkeypatch.setattr(joining, "encoded_packets", lambda *arguments: list(written(*arguments))[:-1])
    totals = work(settings_for(source, tmp_path / "out.mp4"))
    assert totals["errors"] == {"unsupported": 1}
    assert totals["failures"] == ["in.mp4: .mp4 would show 23 of its 24 pictures; choose another suffix"]
    assert not (tmp_path / "out.mp4").exists()


def front_loaded(source, target):
    """A copy of an MP4 file whose index comes first, so that it can be read without its end."""
    with av.open(str(source)) as one, av.open(str(target), "w", container_options={"movflags": "faststart"}) as other:
        streams = [other.add_stream_from_template(stream, opaque=True) for stream in one.streams]
        for packet in one.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                other.mux(packet)
    return target


CUT_OFF = {
    ".mp4": {"options": {"crf": "10", "bf": "2", "g": "12"}},
    ".mov": {"sound": False},
    ".mkv": {},
    ".webm": {"codec": "libvpx", "options": {"b": "300000"}, "sound": False},
    ".avi": {"codec": "mjpeg", "pixels": "yuvj420p", "options": {"q": "5"}, "sound": False},
    ".flv": {"options": {"bf": "0", "g": "12"}, "sound": False},
}


@pytest.mark.parametrize("suffix", CUT_OFF)
def test_a_file_that_was_cut_off_says_so(tmp_path, suffix):
    source = write_clip(tmp_path / f"whole{suffix}", static(30, SMALL), **CUT_OFF[suffix])
    if suffix in (".mp4", ".mov"):
        source = front_loaded(source, tmp_path / f"front{suffix}")
    data = source.read_bytes()
    short = tmp_path / f"short{suffix}"
    short.write_bytes(data[: len(data) * 6 // 10])
    row = row_of(short, tmp_path / "out.mkv")
    assert row["status"] == "ok"
    assert 0 < row["frames"] < 30
    assert "which the file lacks" in row["left_out"]
    assert length(tmp_path / "out.mkv") < 0.85
    assert "which the file lacks" not in (row_of(source, tmp_path / "all.mkv")["left_out"] or "")
    assert len(pictures(tmp_path / "all.mkv")) == 30


def test_the_command_names_a_file_that_was_cut_off(here, tmp_path):
    source = front_loaded(write_clip(tmp_path / "whole.mp4", static(30, SMALL)), tmp_path / "front.mp4")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mp4").write_bytes(source.read_bytes()[: source.stat().st_size * 6 // 10])
    result = here("video", tmp_path / "in", tmp_path / "out", "--preset", "superfast")
    assert result.returncode == 0, result.stderr
    assert "Not in the output: a.mp4: the last 0." in result.stdout
    assert " of 1.00 s, which the file lacks" in result.stdout


def test_pictures_that_an_edit_list_hides_are_not_missing(tmp_path):
    """The first six are before time zero, and the player begins with the seventh."""
    source = muxed(tmp_path / "in.mp4", start=-6 * 3750, avoid_negative_ts="disabled")
    row = row_of(source, tmp_path / "out.mp4")
    assert (row["frames"], row["left_out"]) == (18, None)
    assert timestamps(tmp_path / "out.mp4") == timestamps(source)
    assert length(tmp_path / "out.mp4") == pytest.approx(0.75)


class Unseekable:
    """A container in which nothing can be sought, such as a Matroska file whose times are below zero."""

    def __init__(self, container):
        self.container = container

    def __getattr__(self, name):
        return getattr(self.container, name)

    def seek(self, *_, **__):
        raise av.error.PermissionError(1, "Operation not permitted")


def test_a_file_in_which_nothing_can_be_sought_is_read_from_its_beginning(tmp_path):
    with VideoReader(str(muxed(tmp_path / "in.mkv", time_base=Fraction(1, 24)))) as reader:
        times = [picture.pts for picture in reader.pictures()]
        reader.container = Unseekable(reader.container)
        reader.key_times()
        reader.container = Unseekable(reader.container)
        assert [picture.pts for picture in reader.pictures(times[22])] == times
