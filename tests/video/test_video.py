"""One video: all that is around the pixels is kept."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest

from clips import decoded, packets, photograph, static, timestamps, varying, write_clip
from sgllie.errors import UsageError, VideoError
from sgllie.video.clip import Encoding, enhance_video
from sgllie.video.encoder import pixel_format
from sgllie.video.formats import output_name

LOSSLESS = Encoding("ffv1")
FAST = Encoding(preset="superfast", threads=1)
BT601_FULL, UNKNOWN = (2, 5, 6, 6), (0, 2, 2, 2)
PQ, HLG = (1, 9, 9, 16), (1, 9, 9, 18)


def properties(path):
    """What a player must be told."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        tags = (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc)
        return frame.width, frame.height, frame.rotation, tuple(map(int, tags)), frame.format.name


@pytest.mark.parametrize(
    ("suffix", "clip", "settings"),
    [
        (".mp4", {}, FAST),
        (".mov", {"rotation": 90, "colour": UNKNOWN}, FAST),
        (
            ".mp4",
            {"rotation": 180, "colour": BT601_FULL, "subtitles": ["one", "two"]},
            Encoding("h265", preset="superfast"),
        ),
        (".mkv", {"subtitles": ["one", "two"]}, LOSSLESS),
        (".mp4", {"options": {"crf": "10", "bf": "3", "g": "12"}}, Encoding("h265", preset="fast")),
        (".ts", {}, FAST),
    ],
)
def test_everything_around_the_pixels_is_kept(tmp_path, enhancer, suffix, clip, settings):
    times = varying(40, start=777) if suffix in (".mp4", ".mov") else None
    metadata = {"title": "A ride", "creation_time": "2020-02-03T04:05:06.000000Z"} if suffix != ".ts" else {}
    source = write_clip(tmp_path / f"in{suffix}", static(40), times, metadata=metadata, **clip)
    target = tmp_path / f"out{suffix}"
    rows = enhance_video(str(source), target, enhancer, encoding=settings)

    assert timestamps(target) == timestamps(source)
    assert len(rows) == 40
    assert [row.time for row in rows] == [float(time) for time in timestamps(source)]
    assert packets(target, "audio") == packets(source, "audio") != []
    assert packets(target, "subtitle") == packets(source, "subtitle")
    assert len(packets(target, "subtitle")) >= len(clip.get("subtitles", []))
    before, after = properties(source), properties(target)
    assert after[:3] == before[:3]
    if settings.codec != "ffv1":
        assert after[3:] == before[3:]
    with av.open(str(source)) as one, av.open(str(target)) as other:
        assert metadata.items() <= other.metadata.items()
        assert [stream.language for stream in other.streams] == [stream.language for stream in one.streams]
        assert other.streams.video[0].duration == one.streams.video[0].duration


@pytest.mark.parametrize("size", [(95, 161), (96, 161), (95, 160), (65, 67)])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_odd_sizes(tmp_path, enhancer, size, codec):
    source = write_clip(tmp_path / "in.mp4", static(4, size), pixels="yuv444p")
    enhance_video(str(source), tmp_path / "out.mp4", enhancer, encoding=Encoding(codec, preset="superfast"))
    assert properties(tmp_path / "out.mp4")[:2] == size[::-1]


@pytest.mark.parametrize(
    ("codec", "expected"), [("h264", "yuv420p10le"), ("h265", "yuv420p10le"), ("ffv1", "gbrp10le")]
)
def test_ten_bits_stay_ten_bits(tmp_path, enhancer, codec, expected):
    ramp = np.linspace(0, 9000, 160).astype(np.uint16)
    frames = [np.broadcast_to(ramp[None, :, None], (96, 160, 3)).copy()] * 4
    source = write_clip(tmp_path / "in.mp4", frames, pixels="yuv420p10le", options={"crf": "1"})
    enhance_video(str(source), tmp_path / "out.mp4", enhancer, encoding=Encoding(codec, crf=1))
    with av.open(str(tmp_path / "out.mp4")) as container:
        frame = next(container.decode(video=0))
        levels = np.unique(frame.to_ndarray(format="rgb48le")[..., 1] >> 6)
    assert frame.format.name == expected
    assert len(levels) > len(np.unique(levels >> 2)) * 1.3  # more than 8 bits could hold


@pytest.mark.parametrize(
    ("codec", "size", "depth", "expected"),
    [
        ("h264", (160, 96), 8, "yuv420p"),
        ("h264", (160, 96), 12, "yuv420p10le"),
        ("h265", (160, 96), 12, "yuv420p12le"),
        ("h264", (161, 96), 10, "yuv444p10le"),
        ("h264", (160, 96), 1, "yuv420p"),
        ("ffv1", (161, 95), 8, "bgr0"),
        ("ffv1", (160, 96), 9, "bgr0"),
    ],
)
def test_pixel_format(codec, size, depth, expected):
    assert pixel_format(codec, *size, depth) == expected


@pytest.mark.parametrize(("colour", "name"), [(PQ, "PQ"), (HLG, "HLG")])
def test_hdr_is_refused_unless_forced(tmp_path, enhancer, colour, name):
    frames = [frame.astype(np.uint16) * 257 for frame in static(3)]
    source = write_clip(tmp_path / "in.mp4", frames, pixels="yuv420p10le", colour=colour)
    with pytest.raises(VideoError, match=f"HDR \\({name}\\).*--force-sdr") as caught:
        enhance_video(str(source), tmp_path / "out.mp4", enhancer)
    assert caught.value.error_type == "hdr"
    assert not (tmp_path / "out.mp4").exists()
    enhance_video(str(source), tmp_path / "out.mp4", enhancer, force_sdr=True)
    assert properties(tmp_path / "out.mp4")[3] == colour


@pytest.mark.parametrize(("codec", "suffix"), [("libvpx-vp9", ".webm"), ("libvpx", ".webm"), ("mpeg4", ".avi")])
def test_other_codecs_and_containers(tmp_path, enhancer, codec, suffix):
    source = write_clip(tmp_path / f"in{suffix}", static(20), codec=codec, options={"b": "1000000"}, sound=False)
    assert output_name(f"a/in{suffix}") == "a/in.mkv"
    enhance_video(str(source), tmp_path / "in.mkv", enhancer, encoding=FAST)
    found, wanted = timestamps(tmp_path / "in.mkv"), timestamps(source)
    assert len(found) == len(wanted)
    assert max(abs(a - b) for a, b in zip(found, wanted, strict=True)) <= Fraction(1, 2000)


def test_a_stream_that_the_container_cannot_hold(tmp_path, enhancer):
    source = write_clip(tmp_path / "in.mkv", static(4), subtitles=["one"])
    with pytest.raises(VideoError, match=r"\.mp4 cannot hold its stream 2 \(subtitle, srt\); choose another suffix"):
        enhance_video(str(source), tmp_path / "out.mp4", enhancer)


def test_a_frame_too_small_for_its_encoder(tmp_path, enhancer):
    source = write_clip(tmp_path / "in.mp4", static(3, (17, 33)), pixels="yuv444p")
    with pytest.raises(VideoError, match="33x17, which is too small"):
        enhance_video(str(source), tmp_path / "out.mp4", enhancer, encoding=Encoding("h265"))
    enhance_video(str(source), tmp_path / "out.mp4", enhancer)
    assert properties(tmp_path / "out.mp4")[:2] == (33, 17)


def test_an_unknown_suffix(tmp_path, enhancer):
    with pytest.raises(UsageError, match="suffix must be one of"):
        enhance_video("in.mp4", tmp_path / "out.gif", enhancer)


def test_a_file_object_will_do(tmp_path, enhancer):
    source = write_clip(tmp_path / "in.mp4", static(6))
    enhance_video(io.BytesIO(source.read_bytes()), tmp_path / "out.mp4", enhancer, encoding=FAST)
    assert timestamps(tmp_path / "out.mp4") == timestamps(source)


@pytest.mark.parametrize("deep", [False, True])
def test_dark_colours_are_read_without_bias(tmp_path, deep):
    frame = np.round(photograph() * 0.25).astype(np.uint8)
    if deep:
        frame = frame.astype(np.uint16) * 257
    pixels = "yuv444p10le" if deep else "yuv420p"
    source = write_clip(
        tmp_path / "in.mkv", [frame] * 2, codec="ffv1", pixels=pixels, options={"level": "3"}, sound=False
    )
    errors = (decoded(source)[0].astype(float) - frame) / (257 if deep else 1)
    assert np.abs(errors.mean(axis=(0, 1))).max() < 0.3  # the usual conversion is 0.8 to 1.1 levels too dark
