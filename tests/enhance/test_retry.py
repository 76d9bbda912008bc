"""`sgllie enhance IN OUT --retry-failed`, wherever it is killed."""

import hashlib
import json
import shutil
from contextlib import nullcontext

import pytest

from commands import make_corpus, rows_of
from disturbances import kill_after
from packs import make_tar, samples
from sgllie.corpus.packed import packed
from sgllie.enhance.pipeline import ImagePipeline
from sgllie.enhance.processor import ImageProcessor
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.runs.job import InProcess, run_job
from sgllie.storage import open_storage

pytestmark = pytest.mark.jobs


@pytest.fixture(params=["leave-out", "copy"])
def settings(request, tmp_path, monkeypatch):
    """A finished run over a tar and over files, an image of each of which failed, and no longer would."""
    files = sorted(make_corpus(tmp_path / "in", 9).rglob("*.jpg"))
    make_tar(tmp_path / "in/a.tar", samples(files[:3]))
    bad = {hashlib.sha256(path.read_bytes()).hexdigest() for path in (files[1], files[7])}
    for path in files[:3]:
        path.unlink()
    work = ImageProcessor._enhanced

    def fail_on_some(self, opened, row, is_included, level):
        if row["sha256_in"] in bad:
            raise OSError("for a moment")
        return work(self, opened, row, is_included, level)

    settings = EnhanceSettings(
        str(tmp_path / "in"), str(tmp_path / "out"), device="cpu", format="png", on_failure=request.param
    )
    with monkeypatch.context() as patch:
        patch.setattr(ImageProcessor, "_enhanced", fail_on_some)
        assert run_job(prepare, settings, InProcess()) == 3
    return settings


def failed_in(output):
    """How many images failed, by the rows; which agree with what is there, and with _SUCCESS."""
    rows, storage = rows_of(output), packed(open_storage(str(output)))
    assert len(rows) == len({row["path"] for row in rows}) == 9
    outputs = {row["output"]: row for row in rows if row["output"]}
    assert {f"images/{entry.path}" for entry in storage.list("images")} == outputs.keys()
    for name, row in outputs.items():
        assert hashlib.sha256(storage.read(name)).hexdigest() == row["sha256_out"]
    failed = sum(row["status"] == "failed" for row in rows)
    assert json.loads((output / "_SUCCESS").read_text())["failed"] == failed
    return failed


def test_a_retry_is_killed_and_the_command_given_without_it(settings, tmp_path, monkeypatch):
    """Whichever of its steps was its last: no image is there whose row says that it failed."""
    monkeypatch.setattr(ImagePipeline, "processor", lambda self, isolated: nullcontext(self.image_processor))
    output, first = tmp_path / "out", tmp_path / "first"
    assert failed_in(output) == 2
    spent = json.loads((output / "_SUCCESS").read_text())["core_seconds"]
    shutil.copytree(output, first)
    ends = set()
    for steps in range(60):
        shutil.rmtree(output)
        shutil.copytree(first, output)
        with monkeypatch.context() as patch:
            kill_after(patch, steps)
            try:
                run_job(prepare, EnhanceSettings(**vars(settings) | {"retry_failed": True}), InProcess())
                break
            except KeyboardInterrupt:
                pass
        again = steps % 3 == 0
        run_job(prepare, EnhanceSettings(**vars(settings) | {"retry_failed": again}), InProcess())
        ends.add(failed_in(output))
        assert not again or failed_in(output) == 0
        assert json.loads((output / "_SUCCESS").read_text())["core_seconds"] >= spent
    assert (steps > 10, ends) == (True, {0, 1, 2})
    assert failed_in(output) == 0
