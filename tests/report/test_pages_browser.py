"""The pages in a real browser: pictures, sliders by key, mouse and finger, both colour schemes, a phone, no requests.

Needs Debian's packages chromium and chromium-driver.
"""

import json
from contextlib import contextmanager

import pytest

from browsers import emulate, started
from report_runs import ODD_NAMES, make_finished_run
from sgllie.cli import main

CONTRAST = """
const channel = (value) => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
const luminance = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const rgba = (colour) => colour.match(/[0-9.]+/g).map(Number);
const behind = (element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = rgba(getComputedStyle(at).backgroundColor);
    if (colour.length < 4 || colour[3] > 0.5) return colour;
  }
  return [255, 255, 255];
};
return [...document.querySelectorAll("h1, h2, p, a, dt, dd, th, td, label, summary, li, .quiet, .count, .range")]
  .filter((element) => element.checkVisibility())
  .map((element) => {
    const pair = [rgba(getComputedStyle(element).color), behind(element)].map(luminance).sort((a, b) => b - a);
    return (pair[0] + 0.05) / (pair[1] + 0.05);
  })
  .reduce((a, b) => Math.min(a, b));
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with started(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def addresses(ray_session, tmp_path_factory):
    """The report of a run, and the page of a comparison on the same images."""
    source, output = make_finished_run(tmp_path_factory.mktemp("browser"))
    compared = output.with_name("compared")
    few = ["--methods", "clahe,gamma", "--metrics", "niqe,brightness", "--shown", "20"]
    assert main(["compare", str(source), "--out", str(compared), *few]) == 3
    return {"report": (output / "report.html").as_uri(), "comparison": (compared / "compare.html").as_uri()}


@contextmanager
def opened(browser, address):
    """A page, opened anew on a desktop; at the end there must be no console message and no request but for it."""
    emulate(browser, 1280, 900)
    browser.get_log("performance")
    browser.get_log("browser")
    browser.get(address)
    yield browser
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    assert address in requests
    assert all(request == address or request.startswith("data:") for request in requests)


@pytest.fixture
def page(browser, addresses):
    """The report."""
    with opened(browser, addresses["report"]) as page:
        yield page


@pytest.fixture(params=["report", "comparison"])
def either(request, browser, addresses):
    """The report, or the comparison."""
    with opened(browser, addresses[request.param]) as page:
        yield page


def first(page):
    """The first comparison that is shown: its element, and its slider."""
    card = page.find_element("css selector", ".pictures li:not([hidden]) .compare")
    page.execute_script("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", card)
    return card, card.find_element("css selector", "input")


def cut(page, card):
    """Which share of the picture shows it before, in percent, as it is drawn."""
    drawn = page.execute_script("return getComputedStyle(arguments[0].querySelector('.before')).clipPath", card)
    return 100 - float(drawn.split()[1].rstrip("%"))  # inset(0px 40% 0px 0px)


def names(page):
    cards = page.find_elements("css selector", ".pictures li:not([hidden]) .name bdi")
    return [card.get_property("textContent") for card in cards]


def test_all_pictures_load(either):
    page = either
    widths = page.execute_script("return [...document.images].map((image) => image.naturalWidth)")
    assert len(widths) > 20
    assert min(widths) > 0
    assert page.execute_script("return [...document.images].every((image) => image.complete)")


def test_odd_names_are_shown_as_they_are(page):
    assert set(ODD_NAMES) <= set(names(page))


def test_the_slider_moves_by_keys(page):
    from selenium.webdriver.common.keys import Keys

    card, slider = first(page)
    assert cut(page, card) == 50
    page.execute_script("arguments[0].focus({focusVisible: true})", slider)
    slider.send_keys(Keys.ARROW_RIGHT * 10)
    assert cut(page, card) == 60
    assert slider.get_attribute("aria-valuetext") == "60 % before"
    slider.send_keys(Keys.HOME)
    assert cut(page, card) == 0
    assert page.execute_script("return getComputedStyle(arguments[0]).outlineStyle", card) == "solid"


@pytest.mark.parametrize("kind", ["mouse", "touch"])
def test_the_slider_follows_the_pointer(page, kind):
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    card, slider = first(page)
    actions = ActionBuilder(page, mouse=PointerInput(kind, kind))
    actions.pointer_action.move_to(card, 0, 0).pointer_down()
    actions.pointer_action.move_to(card, round(card.size["width"] * 0.3), 5).pointer_up()
    actions.perform()
    assert cut(page, card) == pytest.approx(80, abs=1)
    assert int(slider.get_property("value")) == pytest.approx(80, abs=1)


def test_one_slider_moves_all(page):
    from selenium.webdriver.common.keys import Keys

    page.find_element("id", "all").send_keys(Keys.END)
    cards = page.find_elements("css selector", ".compare")
    assert {cut(page, card) for card in cards} == {100}


def test_a_comparison_names_images_and_methods_as_they_are(browser, addresses):
    with opened(browser, addresses["comparison"]) as page:
        paths = page.find_elements("css selector", ".grid .path bdi")
        assert set(ODD_NAMES) <= {path.get_property("textContent") for path in paths}
        rows = page.find_elements("css selector", ".methods tbody th")
        assert [row.text for row in rows] == ["input", "clahe", "gamma"]
        assert len(page.find_elements("css selector", ".methods .best")) == 1, "brightness has no best value"


def test_groups_are_chosen_by_keys_and_in_order(page):
    from selenium.webdriver.common.keys import Keys

    random = names(page)
    page.find_element("id", "show-random").send_keys(Keys.ARROW_RIGHT)
    assert page.find_element("id", "show-darkest").is_selected()
    darkest = names(page)
    assert darkest != random
    assert len(darkest) == 6
    facts = page.find_elements("css selector", ".pictures li:not([hidden]) .facts div:first-child dd")
    values = [float(fact.text.split()[0]) for fact in facts]
    assert values == sorted(values)
    assert "lowest mean brightness" in page.find_element("id", "reason").text


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read_in_both_schemes(either, scheme):
    emulate(either, 1280, 900, scheme=scheme)
    paper = either.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (int(paper.split("(")[1].split(",")[0]) < 100) == (scheme == "dark")
    assert either.execute_script(CONTRAST) >= 4.5


@pytest.mark.parametrize("width", [320, 390, 768])
def test_they_fit_a_phone(either, width):
    emulate(either, width, 800, mobile=True)
    assert either.execute_script("return document.documentElement.scrollWidth") == width


@pytest.mark.parametrize("width", [320, 390, 768])
def test_a_finger_finds_its_place(page, width):
    emulate(page, width, 800, mobile=True)
    card, _ = first(page)
    assert card.size["width"] > 0.4 * width
    heights = page.execute_script(
        "return [...document.querySelectorAll('fieldset label, nav a, summary')].map((e) => e.offsetHeight)"
    )
    assert min(heights) >= 32, "large enough for a finger"
