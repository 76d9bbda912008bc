"""The whole command on real files: formats and storages, options, resume, refusals."""

import dataclasses
import json
import shutil
import subprocess
import sys

import cv2
import duckdb
import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pytest
import torch
from PIL import Image

from clips import noisy, photograph
from commands import assert_complete, make_corpus, rows_of, sgllie
from places import ROOT, SAMPLES
from sgllie import Enhancer, decode
from sgllie.cli import main
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UsageError
from sgllie.runs.job import InProcess, run_job
from sgllie.runs.schemas import STATS_SCHEMA

pytestmark = pytest.mark.jobs


@pytest.fixture
def enhance(ray_session, capsys):
    """Run the command in this process, on the shared Ray; its exit code, standard output and standard error."""

    def run(*arguments):
        code = main(["enhance", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def photographs(tmp_path):
    """Every format and depth, from one dark photograph, beside files that are no images."""
    folder = tmp_path / "in"
    dark = cv2.resize(cv2.imread(str(SAMPLES / "coffee.jpg")), (150, 100))
    for name in ("a.jpg", "b/c.JPEG", "b/d.png", "b/e.webp", "f.bmp", "g.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), dark)
    cv2.imwrite(str(folder / "deep.png"), dark.astype(np.uint16) * 257)
    cv2.imwrite(str(folder / "grey.png"), dark[..., 0])
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([dark, np.arange(150, dtype=np.uint8) + 0 * dark[..., 0]]))
    Image.fromarray(dark).convert("CMYK").save(folder / "cmyk.jpg")
    for name in ("readme.txt", ".DS_Store", "a.jpg:Zone.Identifier"):
        (folder / name).write_bytes(b"x")
    return folder


def pixels_of(path):
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)


def test_every_format_comes_out_as_it_went_in(enhance, photographs, tmp_path):
    code, out, _ = enhance(photographs, tmp_path / "out")
    assert code == 0
    assert "3 other files (0.0 MB) carried as they are: .DS_Store, a.jpg:Zone.Identifier, readme.txt" in out
    for name in ("readme.txt", ".DS_Store", "a.jpg:Zone.Identifier"):
        (photographs / name).unlink()
        (tmp_path / "out/images" / name).unlink()
    shutil.rmtree(tmp_path / "out/others")
    for row in assert_complete(photographs, tmp_path / "out"):
        before, after = pixels_of(photographs / row["path"]), pixels_of(tmp_path / "out" / row["output"])
        assert (before.shape, before.dtype) == (after.shape, after.dtype) or row["mode"] == "CMYK"
        assert row["luma_mean_out"] > 1.5 * row["luma_mean_in"]
        assert (row["width"], row["height"], row["status"], row["error"]) == (150, 100, "ok", None)
        assert row["factor_min"] <= row["factor_mean"] <= row["factor_max"] < 0
    alpha = pixels_of(tmp_path / "out/images/alpha.png")[..., 3]
    assert np.array_equal(alpha, pixels_of(photographs / "alpha.png")[..., 3])


@pytest.mark.parametrize("format", ["jpeg", "png", "webp"])
def test_one_format_for_all(enhance, photographs, tmp_path, format):
    (photographs / "alpha.png").unlink()  # a JPEG has no alpha
    assert enhance(photographs, tmp_path / "out", "--format", format, "--quality", 80)[0] == 0
    formats = {Image.open(tmp_path / "out" / row["output"]).format for row in rows_of(tmp_path / "out")}
    assert formats == {format.upper()}


def test_bad_images_are_rows(enhance, tmp_path):
    folder = tmp_path / "in"
    good = shutil.copytree(SAMPLES, folder) / "coffee.jpg"
    whole = good.read_bytes()
    bad = {
        "empty.jpg": (b"", "empty"),
        "half.jpg": (whole[: len(whole) // 2], "truncated"),
        "page.jpg": (b"<!DOCTYPE html>", "not_an_image"),
    }
    for name, (data, _) in bad.items():
        (folder / name).write_bytes(data)
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    bad["moving.webp"] = (b"", "multi_frame")
    Image.new("L", (1000, 700)).save(folder / "large.png")
    bad["large.png"] = (b"", "too_large")
    code, out, _ = enhance(folder, tmp_path / "out", "--max-pixels", 500_000)
    assert code == 3
    assert "6 enhanced, 5 failed" in out
    assert out.endswith(f"sgllie report {tmp_path / 'out'} writes {tmp_path / 'out'}/report.html.\n")
    failed = {row["path"]: row for row in rows_of(tmp_path / "out") if row["status"] == "failed"}
    assert {name: row["error_type"] for name, row in failed.items()} == {name: kind for name, (_, kind) in bad.items()}
    assert all(row["error"] and row["output"] is None for row in failed.values())

    (folder / "half.jpg").write_bytes(whole)
    again = (folder, tmp_path / "out", "--max-pixels", 500_000)
    assert enhance(*again)[0] == 3, "the input is not listed again"
    code, _, err = enhance(*again, "--check-input")
    assert code == 2, "the input has changed"
    assert "the input" in err


def test_bright_images_are_copied_byte_for_byte(enhance, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    cv2.imwrite(str(folder / "bright.jpg"), np.full((30, 40, 3), 200, np.uint8))
    cv2.imwrite(str(folder / "dark.jpg"), np.full((30, 40, 3), 20, np.uint8))
    assert enhance(folder, tmp_path / "out", "--only-darker-than", 0.5, "--format", "png")[0] == 0
    rows = {row["path"]: row for row in rows_of(tmp_path / "out")}
    assert (rows["bright.jpg"]["status"], rows["dark.jpg"]["status"]) == ("copied", "ok")
    assert (tmp_path / "out/images/bright.jpg").read_bytes() == (folder / "bright.jpg").read_bytes()
    assert rows["dark.jpg"]["output"] == "images/dark.png"


def test_noise_is_kept_from_being_amplified_as_by_the_enhancer(enhance, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    dark = noisy(photograph(size=(160, 240)) / 3, np.random.default_rng(0))
    cv2.imwrite(str(folder / "a.jpg"), dark, [cv2.IMWRITE_JPEG_QUALITY, 98])
    cv2.imwrite(str(folder / "alpha.png"), np.dstack([dark, dark[..., 0]]))
    cv2.imwrite(str(folder / "grey.png"), dark[..., 0])
    cv2.imwrite(str(folder / "bright.png"), dark + 128)
    options = ("--denoise", "--only-darker-than", 0.4, "--format", "png")
    assert enhance(folder, tmp_path / "out", *options)[0] == 0
    plain, quiet = (Enhancer.load(device="cpu", denoise=on) for on in (False, True))
    rows = {row["path"]: row for row in assert_complete(folder, tmp_path / "out")}
    assert rows.pop("bright.png")["status"] == "copied"
    for name, row in rows.items():
        before, after = (decode(path.read_bytes()).pixels for path in (folder / name, tmp_path / "out" / row["output"]))
        assert np.array_equal(after, quiet(before))
        assert after.std() < plain(before).std()
    assert np.array_equal(pixels_of(tmp_path / "out/images/alpha.png")[..., 3], dark[..., 0])


def test_statistics_are_read_by_others(enhance, tmp_path):
    assert enhance(SAMPLES, tmp_path / "out")[0] == 0
    table = ds.dataset(tmp_path / "out/stats").to_table()
    assert table.schema.equals(STATS_SCHEMA)
    assert len(duckdb.sql(f"select * from '{tmp_path}/out/stats/*.parquet'").fetchall()) == 6
    assert len(pd.read_parquet(tmp_path / "out/stats")) == 6
    row = next(row for row in table.to_pylist() if row["path"] == "camera.png")
    grey = pixels_of(SAMPLES / "camera.png") / 255
    assert row["luma_mean_in"] == pytest.approx(grey.mean(), abs=1e-3)
    assert row["contrast_in"] == pytest.approx(grey.std(), abs=1e-3)
    assert row["luma_p95_in"] == pytest.approx(np.percentile(grey, 95), abs=1 / 255)


def test_a_second_run_touches_nothing(enhance, tmp_path):
    source, output = make_corpus(tmp_path / "in", 50), tmp_path / "out"
    assert enhance(source, output)[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (output / "images").rglob("*") if path.is_file()}
    code, out, _ = enhance(source, output)
    assert code == 0
    assert "All of it was there already" in out
    assert before == {path: path.stat().st_mtime_ns for path in (output / "images").rglob("*") if path.is_file()}


def test_overwrite_begins_anew(enhance, tmp_path):
    source, output = make_corpus(tmp_path / "in", 20), tmp_path / "out"
    assert enhance(source, output, "--limit", 15)[0] == 0
    code, _, err = enhance(source, output, "--quality", 50)
    assert code == 2
    assert "--quality (95 then, 50 now)" in err
    assert "--limit (15 then, None now)" in err
    assert enhance(source, output, "--quality", 50, "--overwrite")[0] == 0
    assert_complete(source, output)


@pytest.mark.parametrize("content", ["{}", "[]", '{"learning_rate": 1}', '{"data": {}, "outcome": {}, "settings": {}}'])
def test_the_run_of_another_program_is_never_replaced(enhance, tmp_path, content):
    source, output = make_corpus(tmp_path / "in", 2), tmp_path / "out"
    (output / "images").mkdir(parents=True)
    (output / "images/precious.jpg").write_text("mine")
    (output / "run.json").write_text(content)
    for options in ((), ("--overwrite",)):
        code, _, err = enhance(source, output, *options)
        assert (code, err.count("\n")) == (2, 1)
        assert "run.json" in err
    assert (output / "images/precious.jpg").read_text() == "mine"


def test_an_output_of_another_job_is_refused(enhance, tmp_path):
    source, output = make_corpus(tmp_path / "in", 2), tmp_path / "out"
    output.mkdir()
    run = {"schema_version": 4, "command": "video", "settings": {}, "versions": {}, "shards": []}
    (output / "run.json").write_text(json.dumps(run))
    assert "belongs to a run of sgllie video" in enhance(source, output)[2]


def test_overwrite_never_removes_its_own_input(enhance, tmp_path):
    source, output = make_corpus(tmp_path / "in", 4), tmp_path / "out"
    assert enhance(source, output)[0] == 0
    (tmp_path / "link").symlink_to(output / "images")
    (output / "images/list.txt").write_text("000/00000.jpg\n")
    for inside in (
        output,
        output / "images",
        output / "images/000/*.jpg",
        tmp_path / "link",
        output / "images/list.txt",
    ):
        code, _, err = enhance(inside, output, "--overwrite")
        assert (code, err.count("\n")) == (2, 1)
        assert "--overwrite would remove the input" in err
    assert len(list((output / "images").rglob("*.jpg"))) == 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("option", ["--device=cuda", "--half"])
def test_a_gpu_that_is_not_there(tmp_path, option):
    result = sgllie("enhance", make_corpus(tmp_path / "in", 2), tmp_path / "out", option)
    assert (result.returncode, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "this machine has no GPU" in result.stderr
    assert not (tmp_path / "out").exists()


class NoGpu(InProcess):
    """Finds no GPU where it is to begin."""

    def begin(self):
        raise UsageError("there is no GPU")


@pytest.mark.parametrize("option", ["overwrite", "retry_failed", "update"])
def test_a_gpu_is_looked_for_before_anything_of_a_finished_run_is_touched(tmp_path, option):
    settings = EnhanceSettings(str(make_corpus(tmp_path / "in", 2)), str(tmp_path / "out"))
    assert run_job(prepare, settings, InProcess()) == 0
    settings = dataclasses.replace(settings, device="cuda")
    assert run_job(prepare, settings, NoGpu()) == 0  # all of it is there
    with pytest.raises(UsageError, match="there is no GPU"):
        run_job(prepare, dataclasses.replace(settings, **{option: True}), NoGpu())
    assert_complete(tmp_path / "in", tmp_path / "out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_is_looked_for_where_a_run_only_looks_finished(tmp_path):
    source, output = make_corpus(tmp_path / "in", 2), tmp_path / "out"
    assert run_job(prepare, EnhanceSettings(str(source), str(output)), InProcess()) == 0
    (output / "commits/part-00000.parquet").write_bytes(b"damaged")
    result = sgllie("enhance", source, output, "--device", "cuda")
    assert (result.returncode, "this machine has no GPU" in result.stderr) == (2, True)


def test_dry_run_writes_nothing(enhance, tmp_path):
    source = make_corpus(tmp_path / "in", 20)
    code, out, _ = enhance(source, tmp_path / "out", "--dry-run")
    assert code == 0
    assert "20 images" in out
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("source", "output", "options", "sentence"),
    [
        ("absent", "out", (), "does not exist"),
        ("empty", "out", (), "holds no images"),
        ("in", "full", (), "holds other files (mine.txt)"),
        ("in", "full/mine.txt", (), "mine.txt/run.json cannot be read: Not a directory"),
        ("in", "out", ("--weights", "x.pth"), "not a checkpoint"),
        ("in", "out", ("--weights", "absent"), "give a bundled name (sgllie, sgllie-without-sa)"),
        ("in", "out", ("--strength", 2), "--strength is 2.0; it must lie between 0 and 1"),
        ("in", "out", ("--max-failures", "x"), "--max-failures is x"),
        ("in", "out", ("--retry-failed",), "there is no run"),
        ("in", "out", ("--format", "webp"), "would both be written to '000/00000.webp'"),
        ("in", "ftp://x/y", (), "nothing can be written to ftp://; take a folder, or one of s3://"),
        ("nowhere://x", "out", (), "no storage is known by nowhere://"),
        ("", "out", (), "IN is empty"),
        ("in", "", (), "OUT is empty"),
        ("in", "out", ("--half", "--device", "cpu"), "--half is on; it needs --device cuda"),
        ("s3://CANARY:secret@bucket/in", "out", (), "must not hold credentials"),
        ("in", "out", ("--s3.endpoint-url", "http://CANARY:secret@host"), "must not hold credentials"),
    ],
)
def test_a_mistake_is_one_sentence(enhance, tmp_path, monkeypatch, source, output, options, sentence):
    monkeypatch.chdir(tmp_path)
    corpus = make_corpus(tmp_path / "in", 2)
    cv2.imwrite(str(corpus / "000/00000.png"), np.zeros((4, 4, 3), np.uint8))
    for name in ("empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "full/mine.txt").write_text("mine")
    (tmp_path / "x.pth").write_bytes(b"no weights")
    code, out, err = enhance(source, output, *options)
    assert (code, out, err.count("\n")) == (2, "", 1), (out, err)
    assert sentence in err
    assert "CANARY" not in err
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "full/mine.txt").read_text() == "mine"


def test_overwrite_never_removes_what_a_list_names(enhance, tmp_path):
    source, output = make_corpus(tmp_path / "data/in", 2), tmp_path / "data/out"
    assert enhance(source, output)[0] == 0
    (tmp_path / "list.txt").write_text("data/in/000/00000.jpg\ndata/out/images/000/00001.jpg\n")
    code, _, err = enhance(tmp_path / "list.txt", output, "--overwrite", "--quality", 90)
    assert (code, err.count("\n")) == (2, 1)
    assert "--overwrite would remove the input" in err
    assert len(list((output / "images").rglob("*.jpg"))) == 2


def test_what_leads_into_the_output_is_no_input(enhance, tmp_path):
    """A link among the input, and a wildcard above an output that is named by a link."""
    source, output = make_corpus(tmp_path / "data/in", 2), tmp_path / "data/out"
    assert enhance(source, output)[0] == 0
    (source / "linked").symlink_to(output / "images")
    assert enhance(source, output, "--overwrite", "--quality", 90)[0] == 0
    assert len(rows_of(output)) == 2
    (tmp_path / "elsewhere").symlink_to(output)
    assert enhance(tmp_path / "data/**/*1.jpg", tmp_path / "elsewhere", "--overwrite", "--quality", 80)[0] == 0
    assert [row["path"] for row in rows_of(output)] == ["in/000/00001.jpg"]
    assert len(list((tmp_path / "data/in/000").glob("*.jpg"))) == 2


def test_names_do_not_steer_the_terminal(enhance, tmp_path):
    (tmp_path / "in").mkdir()
    make_corpus(tmp_path / "in", 1)
    (tmp_path / "in/\x1b[2J\x07.txt").write_text("x")
    code, out, _ = enhance(tmp_path / "in", tmp_path / "out")
    assert code == 0
    assert "\x1b" not in out
    assert r"\x1b[2J\x07.txt" in out


def test_exif_orientation(enhance, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    picture = Image.open(SAMPLES / "coffee.jpg").resize((60, 40))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.save(folder / "turned.jpg", exif=exif)
    assert enhance(folder, tmp_path / "keep")[0] == 0
    assert enhance(folder, tmp_path / "apply", "--exif-orientation", "apply")[0] == 0
    kept, applied = (Image.open(tmp_path / name / "images/turned.jpg") for name in ("keep", "apply"))
    assert (kept.size, kept.getexif()[0x0112]) == ((60, 40), 6)
    assert (applied.size, applied.getexif()[0x0112]) == ((40, 60), 1)


def test_published_weights_through_the_command(enhance, shared, tmp_path):
    arguments = ("--weights", shared / "reference/sgz_Epoch99.pth", "--scale-factor", 12, "--format", "png")
    assert enhance(shared / "data/eval/lowCUT", tmp_path / "out", *arguments)[0] == 0
    for expected in (shared / "reference/expected_lowCUT").iterdir():
        found = pixels_of(tmp_path / "out/images" / expected.name).astype(int)
        assert np.abs(found - pixels_of(expected)).max() <= 1


def test_the_job_script_is_the_command(tmp_path):
    script = ROOT / "jobs/enhance.py"
    line = [sys.executable, script, SAMPLES, tmp_path / "out"]
    result = subprocess.run(line, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 0, result.stderr
    run = json.loads((tmp_path / "out/run.json").read_text())
    assert run["input"]["items"] == 6
    assert run["versions"]["ray"]
    assert "secret" not in json.dumps(run).lower()
