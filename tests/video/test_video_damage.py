"""Videos that are broken, or put together as no encoder would: no picture is lost, and what is repeated is counted."""

import itertools

import av
import numpy as np
import pytest

from clips import RATE, TICKS, packets, pan, pictures, static, timestamps, write_clip
from sgllie.errors import VideoError
from sgllie.video.clip import Encoding, enhance_video
from sgllie.video.reader import VideoReader

pytestmark = pytest.mark.jobs

FAST = Encoding(preset="superfast", threads=1)


def damage(source, target, *numbers, with_zeros=False):
    """A copy of which the packets of these numbers (in the order of the file) are noise."""
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    generator = np.random.default_rng(0)
    for place, size in (places[number] for number in numbers):
        noise = b"" if with_zeros else generator.integers(0, 256, size, dtype=np.uint8).tobytes()
        data[place : place + size] = noise.ljust(size, b"\0")
    target.write_bytes(data)
    return target


@pytest.mark.parametrize(
    ("numbers", "options"),
    [((10,), {}), ((24,), {}), ((0,), {}), ((5, 12, 19, 40), {}), ((59,), {"with_zeros": True}), ((30, 31, 32), {})],
)
def test_damaged_frames_are_repeated_and_counted(tmp_path, enhancer, numbers, options):
    source = write_clip(tmp_path / "in.mp4", static(60))
    broken = damage(source, tmp_path / "broken.mp4", *numbers, **options)
    rows = enhance_video(str(broken), tmp_path / "out.mp4", enhancer, encoding=FAST)
    assert timestamps(tmp_path / "out.mp4") == timestamps(source)
    assert sum(row.repeated for row in rows) >= len(numbers)
    assert packets(tmp_path / "out.mp4", "audio") == packets(source, "audio")


def test_no_frame_is_there_twice(tmp_path):
    """Where a decoder gets on its feet again, it may bring pictures late that have been replaced already."""
    source = write_clip(tmp_path / "in.mp4", static(30), options={"crf": "20", "g": "10", "bf": "2"})
    broken = damage(source, tmp_path / "broken.mp4", *range(5, 11), with_zeros=True)
    with VideoReader(str(broken)) as reader:
        found = list(reader.pictures())
    assert [picture.pts * TICKS for picture in found] == timestamps(source)


def test_a_repeated_frame_shows_the_one_before_it(tmp_path):
    source = write_clip(tmp_path / "in.mp4", pan(20), codec="mjpeg", pixels="yuvj420p", options={"q": "2"}, sound=False)
    broken = damage(source, tmp_path / "broken.mp4", 7, with_zeros=True)
    with VideoReader(str(broken)) as reader:
        found = list(reader.pictures())
    assert [number for number, picture in enumerate(found) if picture.repeated] == [7]
    assert np.array_equal(found[7].pixels, found[6].pixels)
    assert not np.array_equal(found[8].pixels, found[7].pixels)


def test_a_file_that_ends_too_early(tmp_path, enhancer):
    source = write_clip(tmp_path / "in.ts", static(60))
    (tmp_path / "short.ts").write_bytes(source.read_bytes()[: source.stat().st_size // 2])
    rows = enhance_video(str(tmp_path / "short.ts"), tmp_path / "out.ts", enhancer, encoding=FAST)
    assert 10 < len(rows) < 60
    found = timestamps(tmp_path / "out.ts")
    assert set(found) < set(timestamps(source))


@pytest.mark.parametrize("content", [b"", b"no video", bytes(range(256)) * 40])
def test_no_video_at_all(tmp_path, enhancer, content):
    (tmp_path / "in.mp4").write_bytes(content)
    with pytest.raises(VideoError) as caught:
        enhance_video(str(tmp_path / "in.mp4"), tmp_path / "out.mp4", enhancer)
    assert caught.value.error_type == "not_a_video"
    with (tmp_path / "in.mp4").open("rb") as file, pytest.raises(VideoError, match=r"opened as a video|is empty"):
        VideoReader(file)
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


def test_an_avi_file_tells_decoding_times_only(tmp_path):
    """Those of B-frames are no times to show pictures at: taken for that, they go back and forth."""
    source = tmp_path / "in.avi"
    with av.open(str(source), "w") as output:
        video = output.add_stream("libx264", rate=RATE, options={"bf": "2", "b-adapt": "0"})
        video.height, video.width, video.pix_fmt = 96, 160, "yuv420p"
        for picture in pan(20):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(video.encode(None))
    shown = timestamps(source)
    assert shown != sorted(shown)
    with VideoReader(str(source)) as reader:
        times = [picture.pts for picture in reader.pictures()]
        assert [after - before for before, after in itertools.pairwise(times)] == [reader.info.step] * 19


def test_one_recording_after_another_in_the_same_file(tmp_path, enhancer):
    source = write_clip(tmp_path / "once.ts", static(30))
    (tmp_path / "twice.ts").write_bytes(source.read_bytes() * 2)
    enhance_video(str(tmp_path / "twice.ts"), tmp_path / "out.ts", enhancer, encoding=FAST)
    once, twice = timestamps(source), timestamps(tmp_path / "out.ts")
    assert twice[:30] == once
    assert [after - before for before, after in itertools.pairwise(twice)] == [once[1] - once[0]] * 59
    sound, both = packets(source, "audio"), packets(tmp_path / "out.ts", "audio")
    assert both[: len(sound)] == sound
    assert [data for *_, data in both] == 2 * [data for *_, data in sound]
    assert abs(both[len(sound)][0] - twice[30] - (sound[0][0] - once[0])) < 0.05


def test_a_size_that_changes_midway(tmp_path, enhancer):
    wide, small = write_clip(tmp_path / "a.ts", static(10)), write_clip(tmp_path / "b.ts", static(10, (64, 96)))
    (tmp_path / "in.ts").write_bytes(wide.read_bytes() + small.read_bytes())
    rows = enhance_video(str(tmp_path / "in.ts"), tmp_path / "out.ts", enhancer, encoding=FAST)
    assert len(rows) == 20
    assert {picture.shape for picture in pictures(tmp_path / "out.ts")} == {(96, 160, 3)}
