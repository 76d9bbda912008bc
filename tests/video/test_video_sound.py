"""Sound that the container of the output cannot hold: converted or named, before the first picture is encoded."""

import av
import numpy as np
import pytest

from clips import packets, sine, static, timestamps, write_clip
from sgllie.errors import VideoError
from sgllie.video import clip
from sgllie.video.clip import enhance_video
from sgllie.video.formats import output_name
from video_jobs import row_of, rows, settings_for, work

SMALL = (48, 64)


def with_sound(path, codec, rate=48000, layout="stereo"):
    """A clip of half a second with a tone."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=24)
        video.height, video.width = SMALL
        audio = output.add_stream(codec, rate=rate, layout=layout)
        audio.codec_context.options = {"strict": "experimental"}
        for picture in static(12, SMALL):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(video.encode(None))
        tone = np.repeat(sine(0.5, rate), 1 if layout == "mono" else 2, axis=0)
        frame = av.AudioFrame.from_ndarray(tone, "fltp", layout)
        frame.sample_rate, frame.pts = rate, 0
        output.mux(audio.encode(frame))
        output.mux(audio.encode(None))
    return path


def sound_of(path):
    """Codec, seconds, and how loud it is in the middle: the root mean square of its samples."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler("fltp", "stereo", 48000)
        frames = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
        samples = np.concatenate([frame.to_ndarray()[0] for frame in frames])
        return stream.codec_context.name, len(samples) / 48000, np.sqrt(np.mean(samples[4800:19200] ** 2))


@pytest.mark.parametrize(
    ("codec", "rate", "layout", "source", "target", "expected"),
    [
        ("amr_nb", 8000, "mono", ".3gp", ".mp4", "aac"),
        ("amr_nb", 8000, "mono", ".3gp", ".mkv", "aac"),
        ("amr_nb", 8000, "mono", ".3gp", ".mov", "amrnb"),
        ("vorbis", 48000, "stereo", ".mkv", ".mov", "aac"),
        ("vorbis", 48000, "stereo", ".mkv", ".ts", "aac"),
        ("flac", 48000, "stereo", ".mkv", ".mp4", "flac"),
        ("pcm_s16le", 48000, "stereo", ".mkv", ".mp4", "aac"),
        ("pcm_s16le", 48000, "stereo", ".mkv", ".ts", "aac"),
        ("adpcm_ms", 22050, "mono", ".avi", ".mkv", "aac"),
        ("ac3", 48000, "stereo", ".mkv", ".mp4", "ac3"),
        ("mp2", 48000, "stereo", ".ts", ".ts", "mp2"),
    ],
)
def test_sound_is_copied_or_converted(tmp_path, codec, rate, layout, source, target, expected):
    clip = with_sound(tmp_path / f"in{source}", codec, rate, layout)
    row = row_of(clip, tmp_path / f"out{target}")
    (before, seconds, level), (after, *written) = sound_of(clip), sound_of(tmp_path / f"out{target}")
    assert (row["status"], after) == ("ok", expected)
    assert row["left_out"] == (None if before == after else f"the encoding of audio stream 1 ({before}, now aac)")
    assert written == [pytest.approx(seconds, abs=0.2), pytest.approx(level, rel=0.15)]
    assert level > 0.1
    assert len(timestamps(tmp_path / f"out{target}")) == 12


def with_unknown(path):
    """A clip whose second sound is of a codec that nobody knows."""
    with av.open(str(path), "w") as output:
        video = output.add_stream("libx264", rate=24)
        video.height, video.width = SMALL
        sounds = [output.add_stream("aac", rate=48000, layout="mono") for _ in range(2)]
        for picture in static(12, SMALL):
            output.mux(video.encode(av.VideoFrame.from_ndarray(picture, "rgb24")))
        output.mux(video.encode(None))
        for stream in sounds:
            frame = av.AudioFrame.from_ndarray(sine(0.5), "fltp", "mono")
            frame.sample_rate, frame.pts = 48000, 0
            output.mux(stream.encode(frame))
            output.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    for name, other in ((b"mp4a", b"apac"), (b"esds", b"dapa")):
        place = data.rfind(name)
        data[place : place + 4] = other
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".ts"])
def test_sound_of_an_unknown_codec_is_left_out_and_named(tmp_path, suffix):
    source = with_unknown(tmp_path / "in.mp4")
    row = row_of(source, tmp_path / f"out{suffix}")
    assert (row["status"], row["left_out"]) == ("ok", "audio stream 2 (unknown codec)")
    first = [data for *_, data in packets(source, "audio")][: len(packets(tmp_path / f"out{suffix}", "audio"))]
    assert len(first) > 20
    with av.open(str(tmp_path / f"out{suffix}")) as container:
        assert [stream.codec_context.name for stream in container.streams] == ["h264", "aac"]


def test_a_folder_of_telephone_videos(here, tmp_path):
    (tmp_path / "in").mkdir()
    with_sound(tmp_path / "in/a.3gp", "amr_nb", 8000, "mono")
    with_unknown(tmp_path / "in/b.mp4")
    result = here("video", tmp_path / "in", tmp_path / "out", "--preset", "superfast")
    assert result.returncode == 0, result.stderr
    assert "Not in the output: b.mp4: audio stream 2 (unknown codec)\n" in result.stdout
    found = rows(tmp_path / "out")
    assert [(row["output"], row["left_out"]) for row in found] == [
        ("videos/a.mov", None),
        ("videos/b.mp4", "audio stream 2 (unknown codec)"),
    ]
    assert sound_of(tmp_path / "out/videos/a.mov")[0] == "amrnb"


@pytest.mark.parametrize(
    ("path", "codec", "expected"),
    [
        ("a/b.3gp", "h264", "a/b.mov"),
        ("a/b.QT", "h264", "a/b.mov"),
        ("a/b.f4v", "h265", "a/b.mp4"),
        ("a/b.MOV", "h264", "a/b.MOV"),
        ("a/b.mov", "ffv1", "a/b.mkv"),
        ("a/b.ts", "ffv1", "a/b.mkv"),
        ("a/b.mp4", "ffv1", "a/b.mp4"),
        ("a/b.wmv", "h264", "a/b.mkv"),
    ],
)
def test_output_names(path, codec, expected):
    assert output_name(path, codec) == expected


def test_what_cannot_be_held_is_told_before_the_first_picture(tmp_path, enhancer, monkeypatch):
    source = write_clip(tmp_path / "in.mkv", static(4, SMALL), subtitles=["one"])

    def refuse(*arguments):
        raise AssertionError("a picture was encoded")

    monkeypatch.setattr(clip.SegmentWriter, "add", refuse)
    sentence = r"\.mp4 cannot hold its stream 2 \(subtitle, srt\); choose another suffix"
    with pytest.raises(VideoError, match=sentence):
        enhance_video(str(source), tmp_path / "out.mp4", enhancer)
    totals = work(settings_for(source, tmp_path / "out.mp4"))
    assert totals["errors"] == {"unsupported": 1}
    assert "cannot hold its stream 2" in totals["failures"][0]
