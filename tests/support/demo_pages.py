"""Starts the page of `sgllie demo` for tests."""

import os
import re
import subprocess
from contextlib import contextmanager

from commands import command

SLOW = 120
"""Seconds to wait on a machine that is busy with other tests."""


@contextmanager
def page_of(folder, *options, line=None):
    """The address of a page whose files lie in a folder; at the end there must be nothing in it."""
    folder.mkdir(exist_ok=True)
    environment = os.environ | {"TMPDIR": str(folder)}
    line = line or command("demo", "--port", "0", *options)
    errors = (folder.parent / f"{folder.name}.log").open("w+")
    server = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    try:
        found = re.search(r"http://\S+", server.stdout.readline())
        errors.seek(0)
        assert found, errors.read()
        yield found[0]
    finally:
        server.terminate()
        said = server.communicate(timeout=SLOW)[0]
    assert (server.returncode, said) == (0, "")
    errors.seek(0)
    assert errors.read() == "", "nothing is logged"
    assert list(folder.glob("sgllie*")) == []
