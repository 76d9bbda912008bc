"""`sgllie demo` as a server: ended at any moment, for others only with a password, refused in a sentence."""

import re
import socket
import sys
import time
import urllib.error
import urllib.request
from urllib.parse import urlsplit

import pytest

from commands import sgllie
from demo_pages import page_of
from places import ROOT

pytest.importorskip("gradio")
pytestmark = [pytest.mark.jobs, pytest.mark.slow]


@pytest.mark.parametrize("number", range(3))
def test_it_may_be_ended_as_soon_as_it_is_there(tmp_path, number):
    """While it still loads what the first photograph needs; `page_of` looks at the exit code."""
    with page_of(tmp_path / "tmp"):
        time.sleep(0.5 * number)


def test_a_page_for_others_asks_for_a_password(tmp_path):
    (tmp_path / "people").write_text("ada:secret\n")
    with page_of(tmp_path / "tmp", "--host", "0.0.0.0", "--auth-file", tmp_path / "people") as address:
        local = f"http://127.0.0.1:{urlsplit(address).port}/"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{local}config")
        assert caught.value.code == 401
        body = b"username=ada&password=wrong"
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{local}login", data=body)
        assert caught.value.code == 400
        assert urllib.request.urlopen(f"{local}login", data=b"username=ada&password=secret").status == 200


def test_a_page_for_others_without_a_password_is_refused():
    refused = sgllie("demo", "--host", "0.0.0.0")
    assert refused.returncode == 2
    assert refused.stderr.startswith("sgllie demo: --host 0.0.0.0 ")
    assert refused.stderr.count("\n") == 1


def test_a_wrong_password_file_is_one_sentence(tmp_path):
    refused = sgllie("demo", "--auth-file", tmp_path / "absent")
    assert refused.returncode == 2
    assert refused.stderr.startswith("sgllie demo: --auth-file ")
    assert refused.stderr.count("\n") == 1


def test_the_lines_for_a_space_run(tmp_path):
    (lines,) = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs/demo.md").read_text(), re.DOTALL | re.MULTILINE)
    assert len(list(filter(None, lines.splitlines()))) == 3
    lines = lines.replace("DemoSettings(max", "DemoSettings(port=0, max")
    with page_of(tmp_path / "tmp", line=[sys.executable, "-c", lines]) as address:
        assert urllib.request.urlopen(f"http://127.0.0.1:{urlsplit(address).port}/").status == 200


def test_a_port_that_is_taken_is_one_sentence():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = sgllie("demo", "--port", taken.getsockname()[1])
    assert refused.returncode == 2
    assert refused.stderr.startswith("sgllie demo: --port ")
    assert refused.stderr.count("\n") == 1
