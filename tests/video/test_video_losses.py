"""What pictures carry beside their plain colours: kept where the codec can, and named where it cannot."""

from fractions import Fraction

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type

from clips import pictures, static, write_clip
from sgllie.video.info import side_data_of
from video_jobs import row_of

pytestmark = pytest.mark.jobs

SMALL, SQUARE = (48, 64), (64, 64)


def first_frame(path):
    with av.open(str(path)) as container:
        return next(container.decode(video=0))


@pytest.mark.parametrize(
    ("codec", "source", "pixels", "expected", "left_out"),
    [
        ("h264", "libx264", "yuv422p", "yuv422p", None),
        ("h264", "libx264", "yuv422p10le", "yuv422p10le", None),
        ("h264", "libx264", "yuv444p", "yuv444p", None),
        ("h264", "ffv1", "yuv411p", "yuv422p", None),
        ("h264", "ffv1", "yuv440p", "yuv444p", None),
        ("h264", "ffv1", "gbrp12le", "yuv444p10le", "2 of 12 bits of each colour"),
        ("h264", "libx265", "yuv420p12le", "yuv420p10le", "2 of 12 bits of each colour"),
        ("h264", "ffv1", "gray", "yuv420p", None),
        ("h265", "libx265", "yuv420p12le", "yuv420p12le", None),
        ("h265", "libx264", "yuv422p10le", "yuv422p10le", None),
        ("h265", "ffv1", "yuv444p16le", "yuv444p12le", "4 of 16 bits of each colour"),
        ("ffv1", "ffv1", "yuv444p16le", "gbrp16le", None),
    ],
)
def test_chroma_and_depth(tmp_path, codec, source, pixels, expected, left_out):
    options = {} if source == "ffv1" else {"crf": "10"}
    clip = write_clip(tmp_path / "in.mkv", static(3, SQUARE), codec=source, pixels=pixels, options=options, sound=False)
    row = row_of(clip, tmp_path / "out.mkv", codec=codec)
    assert first_frame(tmp_path / "out.mkv").format.name == expected
    assert (row["status"], row["left_out"]) == ("ok", left_out)


def test_colour_of_4_2_2_is_where_it_was(tmp_path):
    """Rows of different colours, which 4:2:0 would mix."""
    rows = np.zeros((*SMALL, 3), np.uint8)
    rows[::2], rows[1::2] = (120, 20, 20), (20, 20, 120)
    clip = write_clip(tmp_path / "in.mkv", [rows] * 3, codec="ffv1", pixels="yuv422p", options={}, sound=False)
    row_of(clip, tmp_path / "out.mkv", strength=0.0, crf=1)
    before, after = pictures(clip)[1], pictures(tmp_path / "out.mkv")[1]
    assert np.abs(before.astype(int) - after).mean() < 3


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix"),
    [
        ("ffv1", "yuva420p", ".mkv"),
        ("ffv1", "gbrap16le", ".mkv"),
        ("prores_ks", "yuva444p10le", ".mov"),
        ("qtrle", "argb", ".mov"),
        ("png", "rgba", ".mov"),
    ],
)
def test_transparency(tmp_path, codec, pixels, suffix):
    source = transparent(tmp_path / f"in{suffix}", codec, pixels)
    assert row_of(source, tmp_path / "out.mkv", codec="ffv1")["left_out"] is None
    alpha = [first_frame(path).to_ndarray(format="rgba")[..., 3] for path in (source, tmp_path / "out.mkv")]
    assert np.abs(alpha[0].astype(int) - alpha[1]).max() <= 1
    assert len(np.unique(alpha[0])) > 1
    assert row_of(source, tmp_path / "out.mp4")["left_out"].startswith("transparency")


def test_transparency_that_is_not_decoded_is_named_and_not_promised(tmp_path):
    source = transparent(tmp_path / "in.webm", "libvpx-vp9", "yuva420p")
    assert row_of(source, tmp_path / "out.mkv", codec="ffv1")["left_out"] == "transparency"
    with av.open(str(tmp_path / "out.mkv")) as container:
        assert "alpha_mode" not in {name.lower() for name in container.streams.video[0].metadata}


def transparent(path, codec, pixels):
    """A clip whose left half lets through what is behind it."""
    with av.open(str(path), "w") as output:
        video = output.add_stream(codec, rate=24)
        video.height, video.width = SMALL
        video.pix_fmt = pixels
        for picture in static(3, SMALL):
            alpha = np.where(np.arange(SMALL[1]) < SMALL[1] // 2, 60, 255).astype(np.uint8)
            samples = np.dstack([picture, np.broadcast_to(alpha, SMALL)])
            output.mux(video.encode(av.VideoFrame.from_ndarray(samples, "rgba").reformat(format=pixels)))
        output.mux(video.encode(None))
    return path


def test_colours_of_rgb_video_are_tagged_as_what_they_become(tmp_path):
    clip = write_clip(tmp_path / "in.mov", static(3, SMALL), codec="png", pixels="rgb24", options={}, sound=False)
    row_of(clip, tmp_path / "out.mp4", strength=0.0, crf=1)
    assert int(first_frame(clip).colorspace) == 0
    assert int(first_frame(tmp_path / "out.mp4").colorspace) == 1
    before, after = pictures(clip)[1], pictures(tmp_path / "out.mp4")[1]
    assert np.abs(before.astype(int).mean(axis=(0, 1)) - after.mean(axis=(0, 1))).max() < 2


CAPTION = bytes.fromhex("b5003147413934 03 c1 ff fc9420 ff")
"""CEA-708, 4.3: one byte pair of CEA-608, in the user data of ATSC A/53."""


def captioned(path, first=0, pixels="yuv420p"):
    """An H.264 clip with a caption before each picture from `first` on, as broadcasters send them."""
    encoder = av.CodecContext.create("libx264", "w")
    encoder.height, encoder.width, encoder.pix_fmt = *SQUARE, pixels
    encoder.time_base, encoder.framerate = Fraction(1, 24), 24
    encoder.options = {"bf": "0", "x264-params": "repeat-headers=1:slices=1"}
    sei = b"\x00\x00\x00\x01\x06\x04" + bytes([len(CAPTION)]) + CAPTION + b"\x80"
    with av.open(str(path), "w") as output:
        stream = output.add_mux_stream("h264", rate=24, width=SMALL[1], height=SMALL[0])
        frames = [
            av.VideoFrame.from_ndarray(picture, "rgb24").reformat(format="yuv420p") for picture in static(6, SMALL)
        ]
        for number, frame in enumerate(frames):
            frame.pts = number
        encoded = [packet for frame in [*frames, None] for packet in encoder.encode(frame)]
        for packet in encoded:
            data = bytes(packet)
            slice_at = max(data.rfind(b"\0\0\1\x65"), data.rfind(b"\0\0\1\x41"))  # of a key frame, or another
            data = data[:slice_at] + (sei if packet.pts >= first else b"") + b"\0" + data[slice_at:]
            written = av.Packet(data)
            written.stream, written.time_base = stream, packet.time_base
            written.pts = written.dts = packet.pts
            written.is_keyframe = packet.is_keyframe
            output.mux(written)
    return path


def captions(path):
    with av.open(str(path)) as container:
        return [side_data_of(frame).get(Type.A53_CC) for frame in container.decode(video=0)]


@pytest.mark.parametrize("first", [0, 3])
@pytest.mark.parametrize("codec", ["h264", "h265"])
def test_closed_captions_stay_with_their_pictures(tmp_path, codec, first):
    source = captioned(tmp_path / "in.ts", first)
    row = row_of(source, tmp_path / "out.mp4", codec=codec, segment_seconds=0.1)
    assert captions(tmp_path / "out.mp4") == captions(source)
    assert sum(found is not None for found in captions(source)) == 6 - first
    assert row["left_out"] is None


@pytest.mark.parametrize("pixels", ["yuv420p", "yuvj420p", "yuv422p10le", "yuv444p"])
def test_captions_change_no_pixel(tmp_path, pixels):
    """They come with a frame of the input, whose own pixels must not come with them."""
    for name, first in (("with", 0), ("without", 6)):
        row_of(captioned(tmp_path / f"{name}.ts", first, pixels), tmp_path / f"{name}.mp4")
    assert all(captions(tmp_path / "with.mp4"))
    assert not any(captions(tmp_path / "without.mp4"))
    for one, other in zip(pictures(tmp_path / "with.mp4"), pictures(tmp_path / "without.mp4"), strict=True):
        assert np.array_equal(one, other)


def test_captions_that_cannot_be_kept_are_named(tmp_path):
    source = captioned(tmp_path / "in.ts", first=3)
    assert row_of(source, tmp_path / "out.mkv", codec="ffv1", segment_seconds=0.1)["left_out"] == "closed captions"


def boxed(name, content):
    return (len(content) + 8).to_bytes(4, "big") + name + content


def spherical(path):
    """An MP4 clip whose pictures are the inside of a sphere (Google's Spherical Video V2)."""
    source = write_clip(path.with_name("plain.mp4"), static(3, SQUARE), sound=False)
    view = boxed(b"prhd", bytes(16)) + boxed(b"equi", bytes(20))
    added = boxed(b"sv3d", boxed(b"svhd", bytes(4) + b"test\0") + boxed(b"proj", view))
    data = bytearray(source.read_bytes())
    for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl", b"stsd", b"avc1"):
        place = data.rfind(name) - 4 if name != b"moov" else data.find(name) - 4
        size = int.from_bytes(data[place : place + 4], "big")
        data[place : place + 4] = (size + len(added)).to_bytes(4, "big")
        end = place + size
    path.write_bytes(data[:end] + added + data[end:])
    return path


@pytest.mark.parametrize(
    ("codec", "suffix", "left_out"),
    [
        ("h264", ".mp4", None),
        ("h264", ".mov", None),
        ("h264", ".mkv", None),
        ("h264", ".ts", "the projection of 360-degree pictures"),
        ("h265", ".mp4", "the projection of 360-degree pictures"),
    ],
)
def test_pictures_of_360_degrees(tmp_path, codec, suffix, left_out):
    source = spherical(tmp_path / "in.mp4")
    row = row_of(source, tmp_path / f"out{suffix}", codec=codec)
    assert row["left_out"] == left_out
    before, after = (side_data_of(first_frame(path)) for path in (source, tmp_path / f"out{suffix}"))
    assert Type.SPHERICAL in before
    assert after.get(Type.SPHERICAL) == (None if left_out else before[Type.SPHERICAL])


@pytest.mark.parametrize(("codec", "left_out"), [("h264", None), ("h265", "the layout of stereo pictures")])
def test_stereo_pictures(tmp_path, codec, left_out):
    options = {"crf": "10", "x264-params": "frame-packing=3"}  # side by side
    source = write_clip(tmp_path / "in.ts", static(3, SQUARE), options=options, sound=False)
    assert row_of(source, tmp_path / "out.ts", codec=codec)["left_out"] == left_out
    found = [Type.STEREO3D in side_data_of(first_frame(path)) for path in (source, tmp_path / "out.ts")]
    assert found == [True, left_out is None]


def test_the_command_names_what_is_lost(here, tmp_path):
    (tmp_path / "in").mkdir()
    transparent(tmp_path / "in/a.mkv", "ffv1", "yuva420p")
    result = here("video", tmp_path / "in", tmp_path / "out", "--preset", "superfast")
    assert result.returncode == 0, result.stderr
    assert "Not in the output: a.mkv: transparency\n" in result.stdout
