"""Files that are made to harm: FFmpeg would open others for them, listen at ports, or fill the memory."""

import io
import socket

import av
import pytest

from clips import static, write_clip
from sgllie.errors import VideoError
from sgllie.video import reader as reading
from sgllie.video.reader import VideoReader
from video_jobs import rows, settings_for, work

SMALL = (48, 64)


def free_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def naming(kind, other, port):
    """The content of a file that names another one, or a port."""
    return {
        "ffconcat": f"ffconcat version 1.0\nfile '{other}'\n",
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n",
        "dash": f'<?xml version="1.0"?><MPD><Period><BaseURL>{other}</BaseURL></Period></MPD>',
        "sdp": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
        "a=rtpmap:96 H264/90000\n",
        "ssa": "[Script Info]\nScriptType: v4.00+\n[Events]\nDialogue: 0,0:00:00.00,0:00:01.00,,x\n",
    }[kind].encode()


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        *((kind, "of a format that is not read") for kind in ("ffconcat", "sdp", "ssa")),
        *((kind, "cannot be opened as a video") for kind in ("hls", "dash")),  # not every build of FFmpeg knows them
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_what_names_other_files_or_ports_is_no_video(tmp_path, kind, sentence, suffix):
    secret = write_clip(tmp_path / "secret.mp4", static(3, SMALL), sound=False)
    port = free_port()
    path = tmp_path / f"in{suffix}"
    path.write_bytes(naming(kind, secret, port))
    for source in (str(path), io.BytesIO(path.read_bytes())):
        with pytest.raises(VideoError, match=sentence) as caught:
            VideoReader(source)
        assert caught.value.error_type == "not_a_video"


def test_the_row_of_such_a_file(tmp_path):
    (tmp_path / "in").mkdir()
    secret = write_clip(tmp_path / "secret.mp4", static(3, SMALL), sound=False)
    (tmp_path / "in/a.mp4").write_bytes(naming("ffconcat", secret, 0))
    assert work(settings_for(tmp_path / "in", tmp_path / "out"))["errors"] == {"not_a_video": 1}
    assert "of a format that is not read" in rows(tmp_path / "out")[0]["error"]


WRITTEN = {
    **dict.fromkeys((".264", ".3gp", ".avi", ".f4v", ".flv", ".h264", ".m2ts", ".m4v", ".mkv", ".mov"), "libx264"),
    **dict.fromkeys((".mp4", ".mts", ".ts", ".nut"), "libx264"),
    **dict.fromkeys((".m2v", ".mpeg", ".mpg", ".mxf", ".vob"), "mpeg2video"),
    **{
        ".asf": "msmpeg4",
        ".wmv": "wmv2",
        ".webm": "libvpx",
        ".ivf": "libvpx",
        ".mjpeg": "mjpeg",
        ".y4m": "wrapped_avframe",
    },
    **{".hevc": "libx265", ".265": "libx265"},
}
FORMATS = {".264": "h264", ".265": "hevc", ".f4v": "mp4", ".m4v": "mp4"}


@pytest.mark.parametrize("suffix", sorted(WRITTEN))
def test_the_formats_of_videos_are_read(tmp_path, suffix):
    path = tmp_path / f"in{suffix}"
    codec = WRITTEN[suffix]
    with av.open(str(path), "w", format=FORMATS.get(suffix)) as output:
        stream = output.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for picture in static(5, (64, 96)):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format=stream.pix_fmt)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with VideoReader(str(path)) as reader:
        assert len(list(reader.pictures())) == 5


def test_pictures_of_too_many_pixels_are_refused(tmp_path, monkeypatch):
    """By the size that the container says, before any memory is taken for them."""
    source = write_clip(tmp_path / "in.mkv", static(2, SMALL), codec="ffv1", options={}, sound=False)
    monkeypatch.setattr(reading, "MAX_PIXELS", 48 * 64)
    VideoReader(str(source)).close()
    monkeypatch.setattr(reading, "MAX_PIXELS", 48 * 64 - 1)
    with pytest.raises(VideoError, match=r"64 x 48 pixels; at most 3071 are allowed") as caught:
        VideoReader(str(source))
    assert caught.value.error_type == "too_large"


def test_a_picture_larger_than_the_container_says(tmp_path, monkeypatch):
    """A raw stream of MJPEG may hold a picture of any size: the decoder has the same limit."""
    parts = b""
    for size in (SMALL, (64, 64), SMALL):
        plain = {"codec": "mjpeg", "pixels": "yuvj420p", "options": {}, "sound": False}
        parts += write_clip(tmp_path / "part.mjpeg", static(1, size), **plain).read_bytes()
    (tmp_path / "in.mjpeg").write_bytes(parts)
    monkeypatch.setattr(reading, "MAX_PIXELS", 48 * 64)
    with VideoReader(str(tmp_path / "in.mjpeg")) as reader:
        assert [picture.repeated for picture in reader.pictures()] == [False, True, False]


def test_what_looks_like_a_file_and_cannot_seek_is_a_row(tmp_path):
    (tmp_path / "list.txt").write_text("/proc/self/mem\n")
    work(settings_for(tmp_path / "list.txt", tmp_path / "out"))
    assert [row["error_type"] for row in rows(tmp_path / "out")] == ["not_a_video"]
