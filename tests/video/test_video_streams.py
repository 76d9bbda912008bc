"""What a video holds beside ordinary pictures and sound: streams of data, and fields in the place of frames."""

from fractions import Fraction

import av
import numpy as np
import pytest

from clips import pan, pictures, static, timestamps, write_clip
from sgllie import Enhancer
from sgllie.errors import VideoError
from sgllie.video.clip import Encoding, enhance_video
from sgllie.video.join import Encoded, join
from sgllie.video.reader import VideoReader
from video_jobs import row_of

FAST = Encoding(preset="ultrafast", threads=1)


@pytest.fixture
def located(tmp_path):
    """A clip with a stream of positions, as dashcams write them."""
    path = tmp_path / "in.mp4"
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        positions = output.add_data_stream("bin_data")
        for number, picture in enumerate(static(5)):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
            packet = av.Packet(b"48.2N %d" % number)
            packet.stream, packet.time_base = positions, Fraction(1, 10)
            packet.pts = packet.dts = number
            output.mux(packet)
        output.mux(video.encode(None))
    return path


def data_of(path):
    with av.open(str(path)) as container:
        streams = [stream for stream in container.streams if stream.type == "data"]
        return [bytes(packet) for packet in container.demux(streams) if packet.size] if streams else []


def test_data_is_copied_where_the_container_takes_it(located, enhancer, tmp_path):
    enhance_video(str(located), tmp_path / "out.mp4", enhancer, encoding=FAST)
    assert data_of(tmp_path / "out.mp4") == data_of(located) != []


def test_data_that_the_container_cannot_hold_is_named(located, enhancer, tmp_path):
    enhance_video(str(located), tmp_path / "out.mkv", enhancer, encoding=FAST)
    assert len(timestamps(tmp_path / "out.mkv")) == 5
    with VideoReader(str(located)) as reader:
        left_out = join(tmp_path / "again.mkv", reader, [Encoded(str(tmp_path / "out.mkv"), 5, 0.5)], "h264", ".mkv")
    assert left_out == ["data stream 1"]


def fields_of(path):
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return frame.interlaced_frame, container.streams.video[0].codec_context.field_order


@pytest.mark.parametrize("first", ["tff", "bff"])
def test_interlaced_stays_interlaced(enhancer, tmp_path, first):
    """Rows of the two fields come from two moments, and are shown one after the other."""
    moments = pan(16)
    rows = np.arange(96)[:, None, None] % 2
    frames = [np.where(rows, one, other) for one, other in zip(moments[::2], moments[1::2], strict=True)]
    options = {"crf": "1", "x264-params": f"{first}=1"}
    source = write_clip(tmp_path / "in.mp4", frames, options=options, sound=False)
    target = tmp_path / "out.mp4"
    enhance_video(str(source), target, Enhancer.load(strength=0, device="cpu"), encoding=Encoding(crf=1, threads=1))
    assert fields_of(target) == fields_of(source)
    assert fields_of(source)[0]
    for before, after in zip(pictures(source), pictures(target), strict=True):
        assert np.abs(before.astype(int) - after).mean() < 1.5
    with pytest.raises(VideoError, match="only --codec h264"):
        enhance_video(str(source), tmp_path / "out.mkv", enhancer, encoding=Encoding("ffv1"))


def test_a_cover_is_kept_and_is_not_the_video(enhancer, tmp_path):
    source, target = tmp_path / "in.mp4", tmp_path / "out.mp4"
    with av.open(str(source), "w") as output:
        video = output.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 160, 96, "yuv420p"
        cover = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        for stream, frames in ((cover, static(1, (48, 64))), (video, static(5))):
            for picture in frames:
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=stream.pix_fmt)))
            output.mux(stream.encode(None))
    enhance_video(str(source), target, enhancer, encoding=FAST)
    assert cover_of(target) == cover_of(source) != []
    assert len(pictures(target)) == 5


def cover_of(path):
    with av.open(str(path)) as container:
        covers = [s for s in container.streams if s.disposition & av.stream.Disposition.attached_pic]
        return [bytes(packet) for packet in container.demux(covers) if packet.size] if covers else []


def test_the_first_of_several_videos_is_enhanced(enhancer, tmp_path):
    source, target = tmp_path / "in.mkv", tmp_path / "out.mkv"
    with av.open(str(source), "w") as output:
        front, rear = (output.add_stream("libx264", rate=10) for _ in range(2))
        for stream in (front, rear):
            stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for picture in static(5):
            for stream in (front, rear):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        for stream in (front, rear):
            output.mux(stream.encode(None))
    enhance_video(str(source), target, enhancer, encoding=FAST)
    found = []
    for path in (source, target):
        with av.open(str(path)) as container:
            found.append([[bytes(packet) for packet in container.demux(video=number)] for number in range(2)])
    assert found[0][0] != found[1][0]
    assert found[0][1] == found[1][1] != []


def test_what_transport_streams_have_no_place_for_is_named(enhancer, tmp_path, caplog):
    source = tmp_path / "in.mkv"
    with av.open(str(source), "w") as output:
        video = output.add_stream("libx264", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        output.add_attachment("a.ttf", "application/x-truetype-font", b"a font")
        output.metadata["title"] = "A ride"
        chapter = {"id": 1, "start": 0, "end": 200, "time_base": Fraction(1, 1000), "metadata": {"title": "one"}}
        output.set_chapters([chapter])
        for picture in static(5, (48, 64)):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(video.encode(None))
    enhance_video(str(source), tmp_path / "out.mkv", enhancer, encoding=FAST)
    assert caplog.messages == []
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video", "attachment"]
        assert [chapter["metadata"] for chapter in container.chapters()] == [{"title": "one"}]
    target = tmp_path / "out.ts"
    enhance_video(str(source), target, enhancer, encoding=FAST)
    assert caplog.messages == [f"{target}: not in the output: chapters, metadata (title), attachment stream 1"]


@pytest.mark.parametrize("source", [".mov", ".mp4"])
@pytest.mark.parametrize("target", [".mov", ".mp4", ".mkv"])
def test_the_timecode_of_the_first_picture_is_kept(tmp_path, source, target):
    """Cameras for film and broadcasting write it into a track of QuickTime, other containers into their metadata."""
    clip = tmp_path / f"in{source}"
    with av.open(str(clip), "w") as output:
        video = output.add_stream("libx264", rate=24)
        video.height, video.width = 48, 64
        video.metadata["timecode"] = "10:00:00:05"
        for picture in static(4, (48, 64)):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(video.encode(None))
    row = row_of(clip, tmp_path / f"out{target}")
    assert (row["status"], row["frames"]) == ("ok", 4)
    for path in (clip, tmp_path / f"out{target}"):
        with av.open(str(path)) as container:
            told = {key.lower(): value for key, value in container.streams.video[0].metadata.items()}
            assert told["timecode"] == "10:00:00:05"
            assert [stream.type for stream in container.streams].count("data") == (path.suffix != ".mkv")
