"""Enhancement from and to what is neither a folder nor S3: in memory, at Azure's and at Google's emulators."""

import hashlib
import http.server
import json
import threading
from functools import partial

import pytest
from test_enhance_s3 import rows_below

from commands import make_corpus
from packs import make_tar, members_of, samples
from sgllie.enhance.run import prepare
from sgllie.enhance.settings import EnhanceSettings
from sgllie.errors import UnreachableError
from sgllie.runs.job import InProcess, run_job
from sgllie.storage import open_storage
from sgllie.storage.fsspec import FsspecStorage

pytestmark = pytest.mark.jobs

IMAGES = 12


def enhance(source: str, output: str) -> int:
    return run_job(prepare, EnhanceSettings(source, output, device="cpu", shard_images=8), InProcess())


@pytest.mark.parametrize("elsewhere", ["memory", "azure", "gcs"], indirect=True)
def test_stopped_in_the_middle_and_resumed(elsewhere, tmp_path, monkeypatch, capsys):
    """No image is lost or made twice, and nothing of the run is left but its result."""
    source, output = open_storage(f"{elsewhere}/in"), open_storage(f"{elsewhere}/out")
    for path in make_corpus(tmp_path / "in", IMAGES).rglob("*.jpg"):
        source.write(f"a b/{path.name}", path.read_bytes())
    write, written = FsspecStorage.write, []

    def goes_away(self, path, data):
        if path.startswith("images/"):
            written.append(path)
            if len(written) == 5:
                raise UnreachableError("the storage went away")
        write(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(FsspecStorage, "write", goes_away)
        assert enhance(source.uri, output.uri) == 1
    assert "Stopped: the storage went away" in capsys.readouterr().out
    assert not output.exists("_SUCCESS")
    assert enhance(source.uri, output.uri) == 0
    rows = rows_below(output)
    assert sorted(row["path"] for row in rows) == sorted(entry.path for entry in source.list())
    assert {row["status"] for row in rows} == {"ok"}
    for row in rows:
        assert hashlib.sha256(output.read(row["output"])).hexdigest() == row["sha256_out"]
    found = {entry.path.split("/")[0] for entry in output.list()}
    assert found == {"images", "commits", "stats", "manifest", "run.json", "_SUCCESS"}
    assert json.loads(output.read("_SUCCESS"))["ok"] == IMAGES
    assert "AccountKey" not in output.read("run.json").decode()


class Plain(http.server.SimpleHTTPRequestHandler):
    """Knows no ranges, and says nothing of dates."""

    def send_header(self, keyword, value):
        if keyword != "Last-Modified":
            super().send_header(keyword, value)


def test_a_list_of_web_addresses(tmp_path):
    """Also a name that is not there, and a tar on a server that sends whole files alone and tells no date of them."""
    files = sorted(make_corpus(tmp_path / "in", 3).rglob("*.jpg"))
    make_tar(tmp_path / "in/a.tar", [("large.bin", bytes(9 * 2**20)), *samples(files)])
    handler = partial(Plain, directory=str(tmp_path / "in"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    names = ["000/00000.jpg", "000/00001.jpg", "000/absent.jpg", "a.tar"]
    (tmp_path / "list.txt").write_text("".join(f"{address}/{name}\n" for name in names))
    try:
        assert enhance(str(tmp_path / "list.txt"), str(tmp_path / "out")) == 3
    finally:
        server.shutdown()
    rows = {row["path"]: row["error_type"] for row in rows_below(open_storage(str(tmp_path / "out")))}
    packed = {f"a.tar/{file.name}": None for file in files}
    assert rows == {"000/00000.jpg": None, "000/00001.jpg": None, "000/absent.jpg": "missing"} | packed
    assert members_of(tmp_path / "out/images/a.tar")[0] == ("large.bin", bytes(9 * 2**20))
