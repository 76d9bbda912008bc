"""The page of `sgllie demo` in a real browser: upload, sliders, downloads, refusals, two people, a phone, no requests.

    SGLLIE_SCREENSHOT=docs/demo.jpg pytest tests/demo/test_demo_browser.py -k picture

draws the picture in the docs anew.
"""

import json
import os
import re
import shlex
import time
import urllib.error
import urllib.request
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from browsers import emulate, started
from clips import static, write_clip
from commands import sgllie
from demo_pages import (
    click,
    command_shown,
    cut,
    download_to,
    downloaded,
    drop,
    open_page,
    page_icons,
    page_of,
    pictures,
    press,
    slider,
    status,
    until,
)
from image_files import RGB, pillow
from places import SAMPLES

pytest.importorskip("gradio")
pytestmark = [pytest.mark.jobs, pytest.mark.slow]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("page") / "tmp"


@pytest.fixture(scope="module")
def address(folder):
    with page_of(folder, "--max-pixels", "3000000", "--max-seconds", "2", "--max-megabytes", "3") as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def page(browser, address, tmp_path):
    """The page, opened anew; at the end there must be no error in the console, and no request to anywhere else."""
    emulate(browser, 1280, 900)
    download_to(browser, tmp_path / "downloads")
    browser.get("about:blank")
    browser.get_log("performance")
    browser.get_log("browser")
    open_page(browser, address)
    first = browser.current_window_handle
    yield browser
    for other in {*browser.window_handles} - {first}:
        browser.switch_to.window(other)
        browser.close()
    browser.switch_to.window(first)
    assert [entry["message"] for entry in browser.get_log("browser") if entry["level"] == "SEVERE"] == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert any(request.startswith(address) for request in requests)
    local = ("data:", "blob:", "about:", "chrome:", "chrome-untrusted:")
    assert [request for request in requests if not request.startswith((address, *local))] == []


def test_a_photograph_is_shown_before_and_after(page):
    drop(page, SAMPLES / "coffee.jpg")
    before, after = pictures(page)
    assert before != after
    assert "600 x 400 pixels" in status(page)
    facts = until(lambda: "…" not in page.find_element("id", "facts").text and page.find_element("id", "facts").text)
    rows = [re.findall(r"[\d.]+%?$|[\d.]+%? (?=[\d.]+%?$)", line) for line in facts.splitlines()[1:]]
    assert len(rows) == 3
    dark, bright = (float(value) for value in rows[0])
    assert bright > dark + 0.2
    assert len(page.find_elements("css selector", "#chart path")) == 2
    assert page.find_element("css selector", "#factor img").get_property("naturalWidth") > 0


def test_strength_by_keys_changes_the_picture_and_the_command(page):
    from selenium.webdriver.common.keys import Keys

    drop(page, SAMPLES / "coffee.jpg")
    full = pictures(page)[1]
    facts = page.find_element("id", "facts").text
    press(page, "strength", Keys.ARROW_LEFT * 30)
    assert until(lambda: command_shown(page).endswith("--strength 0.7"))
    until(lambda: pictures(page)[1] != full)
    assert pictures(page)[0] != pictures(page)[1]
    until(
        lambda: page.find_element("id", "facts").text.count("…") == 0 and page.find_element("id", "facts").text != facts
    )


def test_the_line_between_the_pictures_moves_by_keys(page):
    from selenium.webdriver.common.keys import Keys

    drop(page, SAMPLES / "coffee.jpg")
    pictures(page)
    assert cut(page) == pytest.approx(50, abs=1)
    press(page, "divider", Keys.ARROW_RIGHT * 20)
    until(lambda: cut(page) == pytest.approx(70, abs=1))


@pytest.mark.parametrize("way", ["mouse", "touch"])
def test_the_line_between_the_pictures_follows_the_pointer(page, address, way):
    from selenium.webdriver.common.action_chains import ActionChains

    page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": way == "touch"})
    open_page(page, address)
    drop(page, SAMPLES / "coffee.jpg")
    pictures(page)
    handle = page.find_element("css selector", "#pictures [data-testid=slider]")
    width = page.find_element("css selector", "#pictures .content").size["width"]
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", handle)
    if way == "mouse":
        ActionChains(page).drag_and_drop_by_offset(handle, round(0.2 * width), 0).perform()
    else:
        middle = (
            "const box = arguments[0].getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]"
        )
        x, y = page.execute_script(middle, handle)
        for kind, share in (("touchStart", 0), ("touchMove", 0.1), ("touchMove", 0.2), ("touchEnd", None)):
            points = [] if share is None else [{"x": x + share * width, "y": y}]
            page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": False})
    until(lambda: cut(page) == pytest.approx(70, abs=3))


def test_the_download_is_what_the_shown_command_writes(page, tmp_path):
    from selenium.webdriver.common.keys import Keys

    source = tmp_path / "in"
    source.mkdir()
    exif = Image.Exif()
    exif[0x010E] = "a dark room"
    dark = cv2.resize(RGB // 4, (1700, 1300))
    (source / "photo.jpg").write_bytes(pillow(dark, "JPEG", exif=exif, quality=92))
    drop(page, source / "photo.jpg")
    press(page, "strength", Keys.ARROW_LEFT * 25)
    until(lambda: command_shown(page).endswith("0.75"))
    click(page, "make")
    data = downloaded(page, tmp_path, "photo.jpg")
    words = shlex.split(command_shown(page))
    assert words[0] == "sgllie"
    places = {"PHOTOGRAPHS": str(source), "BRIGHT": str(tmp_path / "out")}
    job = sgllie(*[places.get(word, word) for word in words[1:]], "--device", "cpu", "--num-actors", "1")
    assert job.returncode == 0, job.stderr
    assert data == (tmp_path / "out/images/photo.jpg").read_bytes()
    assert Image.open(source / "photo.jpg").getexif()[0x010E] == "a dark room"


def test_several_photographs_come_as_one_archive(page, tmp_path):
    drop(page, SAMPLES / "coffee.jpg", SAMPLES / "rocket.jpg")
    names = [label.text for label in page.find_elements("css selector", "#names label")]
    assert names == ["coffee.jpg", "rocket.jpg"]
    _, first = pictures(page)
    page.find_elements("css selector", "#names input")[1].click()
    until(lambda: "rocket.jpg" in status(page))
    until(lambda: pictures(page)[1] != first)
    click(page, "make")
    data = downloaded(page, tmp_path, "bright.zip")
    assert data[:2] == b"PK"
    assert len(data) > 100_000


def test_a_new_setting_takes_an_older_download_away(page, tmp_path):
    from selenium.webdriver.common.keys import Keys

    drop(page, SAMPLES / "coffee.jpg")
    click(page, "make")
    downloaded(page, tmp_path, "coffee.jpg")
    press(page, "strength", Keys.ARROW_LEFT * 10)
    until(lambda: not page.find_elements("id", "download") or not page.find_element("id", "download").is_displayed())


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("notes.txt", lambda path: path.write_text("hello"), "neither a photograph nor a clip"),
        ("broken.jpg", lambda path: path.write_bytes(b"\xff\xd8\xff\xe0 no"), "broken.jpg: "),
        (
            "large.png",
            lambda path: path.write_bytes(pillow(np.zeros((2000, 2000, 3), np.uint8), "PNG")),
            "at most 3000000 are allowed",
        ),
        ("long.mp4", lambda path: write_clip(path, static(90), sound=False), "at most 2 s"),
        ("hdr.mp4", lambda path: write_clip(path, static(9), sound=False, colour=(1, 9, 9, 16)), "HDR"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(page, tmp_path, name, make, said):
    make(tmp_path / name)
    drop(page, tmp_path / name)
    assert said in status(page)
    click(page, "make")
    until(lambda: said in status(page) or "no photograph" in status(page))
    drop(page, SAMPLES / "coffee.jpg")
    pictures(page)


def test_a_file_that_is_too_large_is_refused(browser, address, tmp_path):
    """By the server, which says so with an error that the console repeats."""
    open_page(browser, address)
    (tmp_path / "vast.jpg").write_bytes(bytes(4_000_000))
    browser.find_element("css selector", "#drop input[type=file]").send_keys(str(tmp_path / "vast.jpg"))
    until(lambda: "exceed the maximum allowed size" in browser.find_element("css selector", "body").text)


def test_without_a_photograph_it_asks_for_one(page):
    click(page, "make")
    until(lambda: "There is no photograph yet" in status(page))


def test_a_clip_is_shown_and_enhanced(page, tmp_path):
    write_clip(tmp_path / "clip.mp4", static(30))
    drop(page, tmp_path / "clip.mp4")
    pictures(page)
    assert command_shown(page) == "sgllie video PHOTOGRAPHS BRIGHT"
    click(page, "make")
    assert downloaded(page, tmp_path, "clip.mp4")[4:8] == b"ftyp"


def test_samples_can_be_tried(page):
    page.find_element("css selector", "button.sample").click()
    until(lambda: "coffee.jpg" in status(page))
    pictures(page)


def test_two_people_do_not_see_each_other(page, address):
    """Two tabs drop the same file; one is closed, and the other goes on."""
    from selenium.webdriver.common.keys import Keys

    mine = page.current_window_handle
    page.switch_to.new_window("window")
    other = page.current_window_handle
    open_page(page, address)
    for tab in (mine, other):
        page.switch_to.window(tab)
        page.find_element("css selector", "#drop input[type=file]").send_keys(str(SAMPLES / "coffee.jpg"))
    shown = []
    for tab in (mine, other):
        page.switch_to.window(tab)
        until(lambda: "coffee.jpg" in status(page))
        shown.append(set(pictures(page)))
    assert not shown[0] & shown[1]
    press(page, "strength", Keys.ARROW_LEFT * 50)
    page.switch_to.window(mine)
    assert slider(page, "strength").get_property("value") == "1"
    assert set(pictures(page)) == shown[0]
    page.switch_to.window(other)
    page.close()
    page.switch_to.window(mine)
    time.sleep(2)
    full = pictures(page)[1]
    press(page, "strength", Keys.ARROW_LEFT * 50)
    until(lambda: pictures(page)[1] != full)


def test_files_go_with_the_tab(page, address, folder):
    drop(page, SAMPLES / "coffee.jpg")
    pictures(page)
    until(lambda: "…" not in page.find_element("id", "facts").text)
    kept = [path for path in folder.rglob("*") if path.is_file() and "sessions" in path.parts]
    assert kept
    page.get("about:blank")
    until(lambda: not any(path.exists() for path in kept))
    assert list(folder.rglob("coffee.jpg")) == []
    assert [path for path in folder.rglob("uploads/*") if path.is_file()] == []
    icons = page_icons(page, address)
    assert len(icons) == 2
    assert min(icons) > 0, "the picture on the button of the same sample is no upload"


def test_all_is_removed_while_it_is_made(page, tmp_path):
    """`page_of` looks at what is logged."""
    write_clip(tmp_path / "clip.mp4", static(50, (240, 320)), sound=False)
    drop(page, tmp_path / "clip.mp4", SAMPLES / "coffee.jpg")
    pictures(page)
    click(page, "make")
    time.sleep(0.3)
    page.execute_script("arguments[0].click()", page.find_element("xpath", "//button[text()[contains(., 'Remove')]]"))
    until(lambda: "Drop photographs" in status(page))
    time.sleep(3)
    assert "Drop photographs" in status(page)
    assert page.find_elements("css selector", ".toast-body") == []


def test_nobody_can_read_the_files_of_this_machine(address):
    for path in ("/etc/passwd", str(Path(__file__).resolve())):
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(f"{address}gradio_api/file={path}")
        assert caught.value.code == 403


@pytest.mark.parametrize("width", [320, 390, 768])
def test_it_fits_a_phone(page, width):
    emulate(page, width, 800, mobile=True)
    drop(page, SAMPLES / "coffee.jpg")
    pictures(page)
    assert page.execute_script("return document.documentElement.scrollWidth") == width
    assert page.find_element("css selector", "#pictures img").size["width"] > 0.4 * width
    heights = page.execute_script("return [...document.querySelectorAll('button.lg')].map((one) => one.offsetHeight)")
    assert min(heights) >= 32, "large enough for a finger"


def test_every_control_is_reached_by_the_tab_key(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    reached = set()
    for _ in range(40):
        ActionChains(page).send_keys(Keys.TAB).perform()
        reached.add(
            page.execute_script(
                "return document.activeElement.closest('#drop, #divider, #strength, #method, #weights, #scale, #darker,"
                " #denoise, #make, #ask')?.id"
            )
        )
    wanted = {"drop", "divider", "strength", "method", "weights", "scale", "darker", "denoise", "make", "ask"}
    assert wanted <= reached


def test_the_picture_in_the_docs(page, tmp_path):
    """Drawn always, and written where it is asked for."""
    from selenium.webdriver.common.keys import Keys

    drop(page, SAMPLES / "coffee.jpg")
    press(page, "strength", Keys.ARROW_LEFT * 20)
    until(lambda: command_shown(page).endswith("0.8"))
    until(lambda: "…" not in page.find_element("id", "facts").text)
    pictures(page)
    emulate(page, 1280, page.execute_script("return document.documentElement.scrollHeight"))
    time.sleep(0.5)
    (tmp_path / "shot.png").write_bytes(page.get_screenshot_as_png())
    shot = cv2.imread(str(tmp_path / "shot.png"))
    small = cv2.resize(shot, None, fx=0.75, fy=0.75, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
    assert len(data) < 150_000
    if target := os.environ.get("SGLLIE_SCREENSHOT"):
        Path(target).write_bytes(data)
