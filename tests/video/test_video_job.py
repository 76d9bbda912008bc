"""The video job: many files in segments, resumed, refused, killed; one row for each video whatever happens."""

import dataclasses
import io
import json
import shutil

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from clips import noisy, packets, pan, pictures, static, timestamps, varying, write_clip
from commands import kill_all, sgllie, start
from devices import on_each_device, taken_for_gpu
from disturbances import wait_for
from places import HOOKS
from sgllie import Enhancer
from sgllie.errors import StorageError, UsageError
from sgllie.runs.commits import commit_table
from sgllie.runs.job import InProcess, finish, run_job
from sgllie.runs.journal import Journal
from sgllie.runs.names import part_name
from sgllie.runs.run_file import identity_of
from sgllie.runs.schemas import SEGMENTS_SCHEMA
from sgllie.runs.shard_runner import MOST_ATTEMPTS_WITHOUT_PROGRESS, ShardRunner
from sgllie.storage import open_storage
from sgllie.video.clip import Encoding, enhance_video
from sgllie.video.pipeline import VideoPipeline
from sgllie.video.run import prepare
from video_jobs import pipeline_of, rows, settings_for, work

pytestmark = pytest.mark.jobs


@pytest.fixture
def rides(tmp_path):
    """Two good videos, one of them long, one in HDR, one that is none, and a stray file."""
    folder = tmp_path / "rides"
    (folder / "sub").mkdir(parents=True)
    write_clip(folder / "a.mp4", pan(60), varying(60))
    write_clip(folder / "sub/b.avi", static(15), codec="mpeg4", options={"b": "900000"}, sound=False)
    deep = [frame.astype(np.uint16) * 257 for frame in static(2)]
    write_clip(folder / "hdr.mov", deep, pixels="yuv420p10le", colour=(1, 9, 9, 16), sound=False)
    (folder / "broken.mp4").write_bytes(b"no video")
    (folder / "notes.txt").write_text("no video either")
    return folder


def test_a_folder_of_videos(rides, tmp_path):
    output = tmp_path / "out"
    totals = work(settings_for(rides, output, segment_seconds=0.8))
    assert (totals["videos"], totals["ok"], totals["errors"]) == (4, 2, {"not_a_video": 1, "hdr": 1})
    found = rows(output)
    assert [row["path"] for row in found] == ["a.mp4", "broken.mp4", "hdr.mov", "sub/b.avi"]
    good = found[0]
    assert (good["status"], good["output"], good["frames"], good["width"], good["height"]) == (
        "ok",
        "videos/a.mp4",
        60,
        160,
        96,
    )
    assert good["segments"] > 2
    assert good["bytes_out"] == (output / "videos/a.mp4").stat().st_size
    assert 0 < good["luma_mean_in"] < good["luma_mean_out"] < 1
    assert "--force-sdr" in found[2]["error"]
    assert found[3]["output"] == "videos/sub/b.mkv"
    assert {str(path.relative_to(output / "videos")) for path in (output / "videos").rglob("*.*")} == {
        "a.mp4",
        "sub/b.mkv",
    }
    assert timestamps(output / "videos/a.mp4") == timestamps(rides / "a.mp4")
    assert packets(output / "videos/a.mp4", "audio") == packets(rides / "a.mp4", "audio")
    frames = [row for row in rows(output, "frames") if row["path"] == "a.mp4"]
    assert sorted(row["time"] for row in frames) == [float(time) for time in timestamps(rides / "a.mp4")]
    assert len(rows(output, "segments")) == sum(row["segments"] for row in found)
    assert json.loads((output / "_SUCCESS").read_text()) == totals
    done = [row for row in found if row["status"] == "ok"]
    assert totals["frames"] == sum(row["frames"] for row in done)
    assert totals["bytes_in"] == sum(row["bytes_in"] for row in found)
    luma = sum(row["luma_mean_out"] * row["frames"] for row in done) / totals["frames"]
    assert totals["luma_mean_out"] == pytest.approx(luma, abs=1e-4)
    assert totals["core_seconds"] > sum(row["seconds"] for row in rows(output, "segments")) * 0.9
    left = {path.name for path in output.iterdir()}
    assert left == {"manifest", "segments", "frames", "commits", "stats", "videos", "run.json", "_SUCCESS"}


def test_the_end_reads_the_rows_of_few_videos(rides, tmp_path, monkeypatch):
    output = tmp_path / "out"
    totals = work(settings_for(rides, output))
    read = []
    table = commit_table
    monkeypatch.setattr(
        "sgllie.video.run.commit_table", lambda output, video, *rest: read.append(video) or table(output, video, *rest)
    )
    (output / "_SUCCESS").unlink()
    again = work(settings_for(rides, output))
    assert read == [1, 2], "those that failed, of which the first few are named"
    assert {name for name in totals if totals[name] != again[name]} <= {"finished", "wall_seconds"}


def test_segments_and_a_single_pass_give_the_same_pixels(tmp_path):
    source = write_clip(tmp_path / "in.mp4", pan(40) + static(40), varying(80))
    work(settings_for(source, tmp_path / "out.mp4", segment_seconds=0.7, codec="ffv1"))
    enhancer = Enhancer.load(device="cpu")
    enhance_video(str(source), tmp_path / "whole.mp4", enhancer, encoding=Encoding("ffv1"))
    assert timestamps(tmp_path / "out.mp4") == timestamps(source)
    for one, other in zip(pictures(tmp_path / "out.mp4"), pictures(tmp_path / "whole.mp4"), strict=True):
        assert np.array_equal(one, other)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.mp4.run", "in.mp4", "out.mp4", "whole.mp4"]


@on_each_device
def test_a_gpu_gives_the_frames_that_the_cpu_gives(tmp_path, device):
    source = write_clip(tmp_path / "in.mp4", pan(10), sound=False)
    options = ("--device", "cuda", "--codec", "ffv1")
    result = sgllie("video", source, tmp_path / "gpu.mp4", *options, **taken_for_gpu(device))
    assert result.returncode == 0, result.stderr
    assert "Computing on the GPUs, with up to" in result.stdout
    work(settings_for(source, tmp_path / "cpu.mp4", codec="ffv1"))
    found, expected = (np.array(pictures(tmp_path / name), int) for name in ("gpu.mp4", "cpu.mp4"))
    assert found.shape == expected.shape
    assert abs(found - expected).max() <= 2  # a level of the enhanced frame, and what YUV makes of it


def test_the_noise_of_a_still_scene_moves_less_and_its_brightness_no_more(tmp_path):
    still = np.linspace(12, 40, 160)[None, :, None] * np.ones((96, 1, 3))
    frames = [noisy(still, np.random.default_rng(number)) for number in range(12)]
    source = write_clip(tmp_path / "in.mkv", frames, codec="ffv1", sound=False)
    made = {}
    for on in (False, True):
        work(settings_for(source, tmp_path / f"{on}.mkv", denoise=on, codec="ffv1"))
        made[on] = np.array(pictures(tmp_path / f"{on}.mkv"), float)
    assert made[True].std(axis=0).mean() < 0.8 * made[False].std(axis=0).mean()
    assert made[True].mean(axis=(1, 2, 3)) == pytest.approx(made[False].mean(axis=(1, 2, 3)), rel=0.02)


def test_a_stopped_job_goes_on_where_it_was(rides, tmp_path):
    output = tmp_path / "out"
    settings = settings_for(rides, output, segment_seconds=0.8)
    run = prepare(settings)
    pipeline = pipeline_of(run)
    for shard in list(run.shards)[:2]:
        pipeline.run(shard)
    before = {path: path.stat().st_mtime_ns for path in (output / "segments").iterdir()}
    assert len(before) == 2
    again = prepare(settings)
    assert again.resumed
    assert list(again.shards) == list(run.shards)[2:]
    assert work(settings)["ok"] == 2
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert prepare(settings).shards == {}


def test_a_video_of_which_only_the_joining_is_missing(rides, tmp_path):
    output = tmp_path / "out"
    settings = settings_for(rides, output, segment_seconds=0.8)
    run = prepare(settings)
    pipeline = pipeline_of(run)
    mine = [segment for segment in run.segments if segment.path == "a.mp4"]
    for segment in mine:
        ShardRunner.run(pipeline, segment.shard)  # and then the process was killed
    assert mine[-1].shard in prepare(settings).shards
    assert mine[0].shard not in prepare(settings).shards
    assert work(settings)["ok"] == 2
    assert timestamps(output / "videos/a.mp4") == timestamps(rides / "a.mp4")


def test_other_settings_are_refused(rides, tmp_path):
    settings = settings_for(rides, tmp_path / "out", limit=1)
    prepare(settings)
    for change in ({"temporal_smoothing": 0.5}, {"codec": "h265"}, {"crf": 20}, {"segment_seconds": 3.0}):
        with pytest.raises(UsageError, match=f"--{next(iter(change)).replace('_', '-')}"):
            prepare(settings_for(rides, tmp_path / "out", limit=1, **change))
    write_clip(rides / "a.mp4", static(3))
    assert prepare(settings).resumed
    with pytest.raises(UsageError, match="the input"):
        prepare(settings_for(rides, tmp_path / "out", limit=1, check_input=True))


def test_one_video_that_is_done_is_not_done_again(rides, tmp_path):
    output = tmp_path / "out.mp4"
    settings = settings_for(rides / "a.mp4", output)
    assert work(settings)["ok"] == 1
    assert len(rows(tmp_path / ".out.mp4.run", "frames")) == 60
    written = output.stat().st_mtime_ns
    again = prepare(settings)
    assert (again.shards, again.resumed) == ({}, True)
    assert finish(again, {}, InProcess())["frames"] == 60
    assert output.stat().st_mtime_ns == written
    with pytest.raises(UsageError, match="--crf"):
        prepare(settings_for(rides / "a.mp4", output, crf=30))
    output.unlink()
    assert work(settings)["ok"] == 1
    assert timestamps(output) == timestamps(rides / "a.mp4")
    write_clip(rides / "a.mp4", static(3))
    with pytest.raises(UsageError, match="the input"):
        prepare(settings_for(rides / "a.mp4", output, check_input=True))
    assert work(settings_for(rides / "a.mp4", output, overwrite=True))["frames"] == 3


def test_one_video_killed_between_its_file_and_its_row(rides, tmp_path, monkeypatch):
    settings = settings_for(rides / "a.mp4", tmp_path / "out.mp4")
    pipeline = pipeline_of(prepare(settings))
    commit = pipeline.output.commit

    def kill(path, data):
        if path.startswith("commits/"):
            raise KeyboardInterrupt
        commit(path, data)

    monkeypatch.setattr(pipeline.output, "commit", kill)
    with pytest.raises(KeyboardInterrupt):
        pipeline.run(0)
    assert (tmp_path / "out.mp4").exists()
    assert work(settings)["ok"] == 1


def test_one_video_that_failed_leaves_nothing_in_the_way(rides, tmp_path):
    assert work(settings_for(rides / "hdr.mov", tmp_path / "out.mp4"))["errors"] == {"hdr": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["rides"]
    assert work(settings_for(rides / "hdr.mov", tmp_path / "out.mp4", force_sdr=True))["ok"] == 1


def test_failed_videos_are_tried_again(rides, tmp_path):
    output = tmp_path / "out"
    settings = settings_for(rides, output)
    hidden = rides / "a.mp4"
    run = prepare(settings)
    shutil.move(hidden, tmp_path / "aside.mp4")  # after the listing
    for shard in run.shards:
        pipeline_of(run).run(shard)
    assert finish(run, {}, InProcess())["errors"] == {"not_a_video": 1, "hdr": 1, "missing": 1}
    shutil.move(tmp_path / "aside.mp4", hidden)
    kept = (output / "commits" / part_name(3)).stat().st_mtime_ns
    totals = work(settings_for(rides, output, retry_failed=True))
    assert (totals["ok"], totals["failed"]) == (2, 2)
    assert (output / "commits" / part_name(3)).stat().st_mtime_ns == kept
    assert (output / "videos/a.mp4").exists()


def test_a_video_that_kills_its_worker_is_given_up(rides, tmp_path):
    output = tmp_path / "out"
    settings = settings_for(rides, output)
    run = prepare(settings)
    for _ in range(MOST_ATTEMPTS_WITHOUT_PROGRESS):
        Journal(run.output, 0, SEGMENTS_SCHEMA, identity_of(run.output))  # begun, and never heard of again
    assert work(settings)["errors"] == {"crash": 1, "not_a_video": 1, "hdr": 1}
    assert "ended with the death of the worker" in rows(output)[0]["error"]


def test_output_that_cannot_be_written_stops_the_job(rides, tmp_path, monkeypatch):
    run = prepare(settings_for(rides, tmp_path / "out"))
    pipeline = pipeline_of(run)

    def refuse(path, file):
        raise StorageError("the disk is full")

    monkeypatch.setattr(pipeline.output, "upload", refuse)
    with pytest.raises(StorageError, match="disk is full"):
        pipeline.run(0)
    assert not list((tmp_path / "out").rglob("stats/*"))


def test_damage_is_counted(tmp_path):
    (tmp_path / "in").mkdir()
    source = write_clip(tmp_path / "in/a.mp4", static(30))
    data = bytearray(source.read_bytes())
    with av.open(str(source)) as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    place, size = places[7]
    data[place : place + size] = bytes(size)
    source.write_bytes(data)
    totals = work(settings_for(tmp_path / "in", tmp_path / "out"))
    assert (totals["ok"], totals["frames"], totals["repeated"]) == (1, 30, 1)


@pytest.mark.parametrize(
    ("source", "output", "sentence"),
    [
        ("rides/a.mp4", "out.gif.avi", "suffix must be one of"),
        ("rides", "out.mp4", "is one file, but input"),
        ("rides/*.mp4", "out.mp4", "is one file, but input"),
        ("rides/notes.txt", "out.mp4", "is one file, but input"),
        ("rides/a.mp4", "rides/a.mp4", "is the input itself"),
        ("rides/none.mp4", "out.mp4", "does not exist"),
        ("rides/a.mp4", "rides/hdr.mov", "--overwrite replaces it"),
        ("nowhere", "out", "does not exist"),
        ("rides/sub", "rides", "holds other files"),
    ],
)
def test_wrong_usage(rides, tmp_path, source, output, sentence):
    with pytest.raises(UsageError, match=sentence):
        prepare(settings_for(tmp_path / source, tmp_path / output))


def test_a_dry_run_writes_nothing(rides, tmp_path):
    assert prepare(settings_for(rides, tmp_path / "out", dry_run=True)).segments
    assert prepare(settings_for(rides / "a.mp4", tmp_path / "out.mp4", dry_run=True)).segments
    assert [path.name for path in tmp_path.iterdir()] == ["rides"]


def test_from_bucket_to_bucket(rides, s3):
    source, output = open_storage("s3://bucket/in", s3), open_storage("s3://bucket/out", s3)
    for path in rides.rglob("*.*"):
        source.upload(str(path.relative_to(rides)), path)
    totals = work(settings_for("s3://bucket/in/", "s3://bucket/out/", segment_seconds=0.8, s3=s3))
    assert (totals["ok"], totals["errors"]) == (2, {"not_a_video": 1, "hdr": 1})
    found = [entry.path for entry in output.list()]
    assert {"videos/a.mp4", "videos/sub/b.mkv", "_SUCCESS"} <= set(found)
    assert not any(path.startswith(".partial") for path in found)
    with av.open(io.BytesIO(output.read("videos/a.mp4"))) as container:
        assert len(list(container.decode(video=0))) == 60
    row = pq.read_table(io.BytesIO(output.read(f"stats/{part_name(0)}"))).to_pylist()[0]
    assert (row["path"], row["status"]) == ("a.mp4", "ok")
    work(settings_for("s3://bucket/in/a.mp4", "s3://bucket/one.mp4", s3=s3))
    assert open_storage("s3://bucket", s3).exists("one.mp4")


# The command, with Ray.


def test_the_command_on_a_folder_and_again(here, rides, tmp_path):
    arguments = ("video", rides, tmp_path / "out", "--segment-seconds", 0.8, "--preset", "superfast")
    result = here(*arguments)
    assert result.returncode == 3, result.stderr
    assert "4 videos: 2 enhanced, 2 failed (1 hdr, 1 not_a_video)" in result.stdout
    assert "1 other file ignored: notes.txt" in result.stdout
    again = here(*arguments)
    assert (again.returncode, "All of it was there already" in again.stdout) == (3, True)
    other = here(*arguments, "--crf", 30)
    assert (other.returncode, other.stderr.count("\n")) == (2, 1)


def test_the_command_on_one_video_and_again(here, rides, tmp_path):
    arguments = ("video", rides / "a.mp4", tmp_path / "out.mp4", "--preset", "superfast")
    result = here(*arguments)
    assert result.returncode == 0, result.stderr
    assert f"A row for each of its frames in {tmp_path}/.out.mp4.run/frames" in result.stdout
    again = here(*arguments)
    assert (again.returncode, "All of it was there already" in again.stdout) == (0, True)


def test_two_videos_of_one_name(rides, tmp_path):
    for suffix in (".avi", ".webm"):
        (rides / f"twin{suffix}").write_bytes(b"")
    with pytest.raises(UsageError, match=r"'twin.avi' and 'twin.webm' would both be written to 'twin.mkv'"):
        prepare(settings_for(rides, tmp_path / "out"))


def test_too_many_failures_stop_the_job(here, rides, tmp_path, monkeypatch):
    monkeypatch.setattr("sgllie.distributed.pool.POLL_SECONDS", 0)
    for name in "cdefgh":
        (rides / f"0{name}.mp4").write_bytes(b"no video")
    arguments = ("video", rides, tmp_path / "out", "--preset", "superfast", "--num-actors", 1)
    result = here(*arguments, "--max-failures", 1)
    assert (result.returncode, "--max-failures 1 allows" in result.stdout) == (1, True)
    assert not (tmp_path / "out/_SUCCESS").exists()
    assert here(*arguments).returncode == 3
    assert len(rows(tmp_path / "out")) == 10


def test_failures_are_counted_at_the_end_too(tmp_path):
    """Those of videos stand in their rows alone."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.mp4").write_bytes(b"no video")
    settings = dataclasses.replace(settings_for(tmp_path / "in", tmp_path / "out"), max_failures="0")
    assert [run_job(prepare, settings, InProcess()) for _ in range(2)] == [1, 1]
    assert run_job(prepare, dataclasses.replace(settings, max_failures="1"), InProcess()) == 3


def test_of_two_workers_that_join_a_video_the_later_one_spoils_nothing(tmp_path, monkeypatch):
    settings = settings_for(write_clip(tmp_path / "in.mp4", static(3)), tmp_path / "out.mp4")
    run = prepare(settings)
    joined, other = VideoPipeline._joined, pipeline_of(run)

    def late(pipeline, segment, rows):
        monkeypatch.setattr(VideoPipeline, "_joined", joined)
        other.run(segment.shard)
        return joined(pipeline, segment, rows)

    monkeypatch.setattr(VideoPipeline, "_joined", late)
    pipeline_of(run).run(0)
    assert finish(run, {}, InProcess())["ok"] == 1


@pytest.mark.slow
def test_the_command_is_killed_and_started_again(tmp_path):
    source = write_clip(tmp_path / "in.mp4", pan(60) * 3)
    arguments = ("video", source, tmp_path / "out.mp4", "--segment-seconds", 1)
    job = start(*arguments, PYTHONPATH=HOOKS, HOLD="segments/*.parquet")  # it waits to be killed
    segments = tmp_path / ".out.mp4.run/segments"
    wait_for(lambda: any(segments.glob("*.parquet")))
    kill_all(job)
    (tmp_path / "first-in-.out.mp4.run").unlink()  # of the hook
    done = {path: path.stat().st_mtime_ns for path in segments.iterdir()}
    assert not (tmp_path / "out.mp4").exists()
    result = sgllie(*arguments)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"{len(timestamps(source)):,} frames" in result.stdout
    assert "of them left" in result.stdout
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert timestamps(tmp_path / "out.mp4") == timestamps(source)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.mp4.run", "in.mp4", "out.mp4"]
