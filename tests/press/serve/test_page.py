"""The page at `/` in a real browser: asked by the keyboard alone, it shows an answer and asks this server."""

import json
from collections.abc import Iterator
from pathlib import Path

import browser
import pytest

pytest.importorskip("fastapi_offline", reason="needs `make install-serve`")

import httpx2
from serving import Served, StandIn, eventually

from press.serve.api import Limits
from press.serve.errors import RefusedError

pytestmark = pytest.mark.integration
needs_browser = pytest.mark.skipif(browser.CHROMIUM is None, reason="there is no Chromium here")
KEY = "0123456789abcdef"
LIGHTNESS = "parseInt(getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0])"


class Answering(StandIn):
    """In place of a package: its answer is a JSON object, in two pieces; its adapter is `travel`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[list[str]] = []
        self.single = False

    def read(self, asked):
        if self.single and len(asked.messages) > 1:
            raise RefusedError("it answers single questions", param="messages", code="one_question")
        self.asked.append([asked.model, *(each.text() for each in asked.messages)])
        return super().read(asked)

    def turns(self, answer):
        for piece in ('{"weather": "mild", "days": [3', ', "<b>4</b>"]}'):
            answer.written += 1
            yield piece


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    served = Served(Answering(), Limits(keys=(KEY,)))
    yield served
    served.close()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Browser]:
    opened = browser.Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_the_page_is_there_without_a_key_and_names_what_its_browser_may_do(served):
    came = httpx2.get(served.url)
    assert (came.status_code, came.headers["content-type"]) == (200, "text/html; charset=utf-8")
    policy = dict(each.split(" ", 1) for each in came.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert all(policy[name].startswith("'sha256-") for name in ("script-src", "style-src"))
    assert "http" not in came.text.replace("http-equiv", "")


@needs_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_the_page_is_asked_by_the_keyboard_and_shows_a_form(chromium, served, width, scheme, tmp_path: Path):
    chromium.open(served.url, width, scheme)
    eventually(lambda: chromium.value("document.activeElement.id") == "question")
    chromium.press("Tab", shift=True)
    assert chromium.value("document.activeElement.id") == "key"
    chromium.write(KEY)
    chromium.press("Tab", shift=True)
    assert chromium.value("document.activeElement.id") == "model"
    eventually(lambda: chromium.value("document.querySelectorAll('option').length") == 2)
    for _ in range(2):
        chromium.press("Tab")
    assert chromium.value("document.activeElement.id") == "question"
    chromium.write("a week <i>in</i> Rome")
    chromium.press("Enter", text="\r")
    eventually(lambda: chromium.value("document.querySelectorAll('fieldset').length") == 2)
    shown = chromium.value("[...document.querySelectorAll('fieldset label')].map((each) => each.textContent)")
    values = chromium.value("[...document.querySelectorAll('fieldset input')].map((each) => each.value)")
    assert (shown, values) == (["weather", "1", "2"], ["mild", "3", "<b>4</b>"])
    assert "2 tokens" in chromium.value("document.querySelector('article.assistant small').textContent")
    assert chromium.value("document.querySelector('article.user').textContent") == "a week <i>in</i> Rome"
    assert served.package.asked[-1] == ["base", "a week <i>in</i> Rome"]
    assert chromium.value("document.documentElement.scrollWidth") <= width
    assert (chromium.value(LIGHTNESS) > 127) == (scheme == "light")
    assert {each.removeprefix(served.url) for each in chromium.requests()} <= {
        *("/", "/v1/models", "/v1/chat/completions", "data:,"),
    }
    # The first list of models is refused, as it has no key yet.
    assert [json.dumps(each) for each in chromium.problems() if "401" not in json.dumps(each)] == []
    chromium.picture(tmp_path / "page.png")


@needs_browser
def test_what_was_asked_and_answered_is_sent_again_to_models_that_have_conversations(chromium, served):
    chromium.open(served.url, 1200, "light")
    chromium.value(f"one('key').value = '{KEY}'; refresh()")
    eventually(lambda: chromium.value("document.querySelectorAll('option').length") == 2)
    for model, sent in (("base", 3), ("travel", 1)):
        served.package.single = sent == 1
        chromium.value(f"one('model').value = '{model}'; anew()")
        for number in (1, 2):
            chromium.write(f"question {number}")
            chromium.press("Enter", text="\r")
            eventually(lambda number=number: chromium.value("document.querySelectorAll('small').length") == number)
        assert len(served.package.asked[-1]) == 1 + sent
