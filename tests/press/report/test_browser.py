"""The page in a real browser: it asks nothing of a network, leaves nothing on the console, and fits a phone."""

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium here"),
]

# What sticks out of the screen and is in no box that scrolls.
OUTSIDE = """[...document.querySelectorAll("body *")]
    .filter((one) => !one.closest(".scroll") && one.getBoundingClientRect().right > innerWidth)
    .map((one) => one.outerHTML.slice(0, 80))"""
# Charts whose texts or lines have no colour of the page's.
BLACK = """[...document.querySelectorAll("svg.chart text, svg.chart line")]
    .filter((one) => getComputedStyle(one)[one.tagName == "text" ? "fill" : "stroke"] == "rgb(0, 0, 0)")
    .map((one) => one.outerHTML)"""
LIGHTNESS = "parseInt(getComputedStyle(document.body).backgroundColor.slice(4))"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator["browser.Browser"]:
    opened = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_opens_by_itself(chromium: "browser.Browser", written: Path, width: int, scheme: str):
    page = written / "cpu.html"
    chromium.open(page.as_uri(), width, scheme)
    assert chromium.requests() == [page.as_uri()]
    assert chromium.problems() == []
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert chromium.value(OUTSIDE) == []
    assert chromium.value(BLACK) == []
    assert (chromium.value(LIGHTNESS) > 127) == (scheme == "light")
