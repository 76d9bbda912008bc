"""One video: what must be kept is kept, damage is survived, brightness does not flicker, parts make the whole."""

import io
import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import (
    RATE,
    TICKS,
    packets,
    pan,
    photograph,
    pictures,
    static,
    timestamps,
    varying,
    write_clip,
)
from hypothesis import given
from hypothesis import strategies as st

from sgllie import Enhancer
from sgllie.metrics.flicker import measure_flicker
from sgllie.storage import UsageError
from sgllie.video.ahead import ahead
from sgllie.video.clip import Encoding, enhance_segment, enhance_video
from sgllie.video.reader import VideoError, VideoReader
from sgllie.video.segments import Span, cut, join, output_name, pixel_format
from sgllie.video.smoothing import Smoother

LOSSLESS = Encoding("ffv1")
FAST = Encoding(preset="ultrafast", threads=1)
BT709, BT601_FULL, UNKNOWN = (1, 1, 1, 1), (2, 5, 6, 6), (0, 2, 2, 2)
PQ, HLG = (1, 9, 9, 16), (1, 9, 9, 18)


@pytest.fixture(scope="module")
def enhancer():
    return Enhancer.load(device="cpu")


def smoothed(enhancer, frames, smoothing):
    """The frames enhanced one after another, without a file."""
    smoother = Smoother(smoothing)
    return [enhancer.apply(frame, smoother(frame, enhancer.factor_map(frame))[0]) for frame in frames]


def decoded(path):
    """The pixels as the network gets them."""
    with VideoReader(str(path)) as reader:
        return [picture.pixels for picture in reader.pictures()]


def properties(path):
    """What a player must be told."""
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        tags = (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc)
        return frame.width, frame.height, frame.rotation, tuple(map(int, tags)), frame.format.name


# What is kept.


@pytest.mark.parametrize(
    ("suffix", "clip", "settings"),
    [
        (".mp4", {}, FAST),
        (".mov", {"rotation": 90, "colour": UNKNOWN}, FAST),
        (
            ".mp4",
            {"rotation": 180, "colour": BT601_FULL, "subtitles": ["one", "two"]},
            Encoding("h265", preset="ultrafast"),
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
    enhance_video(str(source), tmp_path / "out.mp4", enhancer, encoding=Encoding(codec, preset="ultrafast"))
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


# Damage.


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
    assert [path.name for path in tmp_path.iterdir()] == ["in.mp4"]


# Flicker.


@pytest.mark.parametrize("clip", [static, pan])
@pytest.mark.parametrize("name", ["coffee.jpg", "chelsea.webp"])
def test_smoothing_takes_two_thirds_of_the_flicker(enhancer, clip, name):
    frames = clip(50, name=name)
    alone = measure_flicker(smoothed(enhancer, frames, 0), frames)
    together = measure_flicker(smoothed(enhancer, frames, 0.9), frames)
    assert together.change <= alone.change / 3
    assert together.change_ratio <= alone.change_ratio / 3
    assert together.warping_error <= alone.warping_error
    if clip is static:
        assert together.variance_ratio <= alone.variance_ratio / 3


@pytest.mark.parametrize("names", [("coffee.jpg", "rocket.jpg"), ("chelsea.webp", "coffee.jpg")])
def test_a_new_scene_has_its_full_brightness_at_once(tmp_path, enhancer, names):
    frames = static(20, name=names[0]) + static(20, name=names[1], seed=5)
    source = write_clip(tmp_path / "in.mp4", frames)
    rows = enhance_video(str(source), tmp_path / "out.mkv", enhancer, encoding=LOSSLESS)
    assert [number for number, row in enumerate(rows) if row.cut] == [20]
    alone = [enhancer(frame) for frame in decoded(source)]
    assert np.array_equal(pictures(tmp_path / "out.mkv")[20], alone[20])


def test_a_pan_is_no_cut(enhancer):
    frames = pan(40, name="coffee.jpg")
    smoother = Smoother(0.9)
    assert not any(smoother(frame, enhancer.factor_map(frame))[1] for frame in frames[::4])


def test_without_smoothing_each_frame_is_enhanced_by_itself(tmp_path, enhancer):
    source = write_clip(tmp_path / "in.mp4", pan(12))
    enhance_video(str(source), tmp_path / "out.mkv", enhancer, temporal_smoothing=0, encoding=LOSSLESS)
    for found, frame in zip(pictures(tmp_path / "out.mkv"), decoded(source), strict=True):
        assert np.array_equal(found, enhancer(frame))


def test_the_map_is_smoothed_and_not_the_frame(tmp_path, enhancer):
    """A bright square jumps over a dark scene: where it has been nothing is left of it but its own map's glow."""
    frames = []
    for number in range(10):
        frame = np.full((96, 160, 3), 20, np.uint8)
        frame[40:56, 8 + 14 * number : 24 + 14 * number] = 220
        frames.append(frame)
    source = write_clip(tmp_path / "in.mkv", frames, codec="ffv1", pixels="bgr0", options={"level": "3"}, sound=False)
    enhance_video(str(source), tmp_path / "out.mkv", enhancer, encoding=LOSSLESS)
    out, smoother = pictures(tmp_path / "out.mkv"), Smoother(0.9)
    for frame, found in zip(frames, out, strict=True):
        factor, _ = smoother(frame, enhancer.factor_map(frame))
        assert np.array_equal(found, enhancer.apply(frame, factor))
    edges = np.abs(np.diff(out[-1].astype(int), axis=1)).max(axis=2)[48]
    assert {int(column) for column in np.flatnonzero(edges > 40)} == {8 + 14 * 9 - 1, 24 + 14 * 9 - 1}


def test_smoothing_zero_is_the_map_itself():
    factors = np.random.default_rng(0).uniform(-1, 1, (5, 4, 6, 3)).astype(np.float32)
    smoother = Smoother(0)
    assert smoother.lead == 0
    for factor in factors:
        assert np.array_equal(smoother(np.zeros((48, 72, 3), np.uint8), factor)[0], factor)


@given(st.floats(0.05, 0.95), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_smoothing_is_an_exponential_mean(smoothing, count, seed):
    factors = np.random.default_rng(seed).uniform(-1, 1, (count, 2, 3, 3)).astype(np.float32)
    image = np.zeros((24, 36, 3), np.uint8)
    smoother = Smoother(smoothing)
    last = [smoother(image, factor)[0] for factor in factors][-1]
    remembered = factors[::-1][: smoother.lead + 1]
    weights = smoothing ** np.arange(len(remembered))
    assert np.allclose(last, np.average(remembered, axis=0, weights=weights), atol=1e-5)
    assert smoothing ** (smoother.lead + 1) <= 0.0101


@given(st.floats(0, 0.9, allow_subnormal=False), st.integers(0, 40), st.lists(st.booleans(), min_size=60, max_size=60))
def test_smoothing_needs_no_more_than_its_lead(smoothing, skipped, scenes):
    """Begun anywhere, it gives the same maps to the last bit once it has seen `lead` frames, cuts or no cuts."""
    generator = np.random.default_rng(1)
    factors = generator.uniform(-1, 1, (60, 2, 2, 3)).astype(np.float32)
    images = [np.full((24, 24), 10 if scene else 200, np.uint8) for scene in scenes]
    whole, part = Smoother(smoothing), Smoother(smoothing)
    everything = [whole(image, factor)[0] for image, factor in zip(images, factors, strict=True)]
    late = [part(image, factor)[0] for image, factor in zip(images[skipped:], factors[skipped:], strict=True)]
    for one, other in zip(everything[skipped + part.lead :], late[part.lead :], strict=True):
        assert np.array_equal(one, other)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_out_of_range(smoothing):
    with pytest.raises(UsageError, match="temporal smoothing"):
        Smoother(smoothing)


# Segments.


def in_segments(source, target, spans, enhancer, encoding, scratch, smoothing=0.9):
    """Each span by a reader and a smoother of its own, then joined."""
    files, rows = [], []
    for number, span in enumerate(spans):
        with VideoReader(str(source)) as reader:
            files.append(str(scratch / f"{number}.mp4"))
            rows += enhance_segment(reader, scratch / f"{number}.mp4", span, enhancer, Smoother(smoothing), encoding)
    with VideoReader(str(source)) as reader:
        join(target, reader, files, encoding.codec)
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


# Threads.


def test_ahead_passes_items_and_errors_on():
    def failing():
        yield from (1, 2)
        raise KeyError("three")

    found = []
    with pytest.raises(KeyError, match="three"):
        found.extend(ahead(failing(), 1))
    assert list(ahead(range(100), 3)) == list(range(100))


def test_ahead_stops_its_producer():
    closed = []

    def endless():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    items = ahead(endless(), 2)
    assert next(items) == 0
    items.close()
    assert closed == [True]
