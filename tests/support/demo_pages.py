"""The page of `sgllie demo` for tests: started, and used in a browser as a person would."""

import os
import re
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

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


def download_to(browser, folder):
    folder.mkdir(exist_ok=True)
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(folder)})


def open_page(browser, address):
    browser.get(address)
    until(lambda: browser.find_elements("css selector", "#strength input[type=range]"))


def until(condition, seconds=SLOW):
    """Wait for a condition; what it found."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = condition()
        except Exception:  # the page has just drawn it anew
            found = None
        if found:
            return found
        time.sleep(0.1)
    pytest.fail("it did not happen")


def status(page):
    return page.find_element("id", "status").text


def drop(page, *paths):
    """Drop files, and wait until something is said about the first of them."""
    page.find_element("css selector", "#drop input[type=file]").send_keys("\n".join(map(str, paths)))
    until(lambda: Path(paths[0]).name in status(page))


def pictures(page):
    """The addresses of both pictures, once they are loaded."""

    def loaded():
        return page.execute_script(
            "const found = [...document.querySelectorAll('#pictures img')];"
            "return found.length == 2 && found.every((one) => one.complete && one.naturalWidth)"
            " && found.map((one) => one.src)"
        )

    return until(loaded)


def page_icons(page, address):
    """The widths of the pictures on the buttons of the samples, loaded anew."""
    open_page(page, address)
    script = "return [...document.querySelectorAll('button.sample img')].map((one) => one.complete && one.naturalWidth)"
    return until(
        lambda: all(width is not False for width in page.execute_script(script)) and page.execute_script(script)
    )


def slider(page, name):
    return page.find_element("css selector", f"#{name} input[type=range]")


def press(page, name, keys):
    slider(page, name).send_keys(keys)


def cut(page):
    """Where the line between the pictures is, in percent."""
    style = page.execute_script("return document.querySelectorAll('#pictures img')[1].style.clipPath")
    return float(re.fullmatch(r"inset\(0px 0px 0px ([\d.]+)%\)", style)[1])


def click(page, name):
    page.execute_script("document.querySelector(arguments[0]).click()", f"#{name}")


def downloaded(page, folder, name):
    """The bytes of the download, after a click on the button that offers it."""
    until(lambda: name in page.find_element("id", "download").text)
    click(page, "download")
    until(lambda: (folder / "downloads" / name).exists())
    return (folder / "downloads" / name).read_bytes()


def command_shown(page):
    click(page, "ask")
    return until(lambda: page.find_element("css selector", "#command textarea").get_property("value"))
