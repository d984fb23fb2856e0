"""A function in a process of its own may crash there, never end, or ask for all memory."""

import os
import time
from collections.abc import Callable

import pytest

from press.core.apart import Apart, ApartError

pytestmark = pytest.mark.integration


def maker(refused: str = "") -> Callable[[str], object]:
    if refused:
        raise ApartError(refused)
    return work


def work(what: str) -> object:
    match what:
        case "refuse":
            raise ApartError("no")
        case "crash":
            os._exit(1)
        case "go on":
            return len(str(9 ** (9**9)))
        case "take all":
            return "a" * 10**10
    return what


@pytest.fixture
def own():
    found = Apart(maker, seconds=2)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("refuse", "no"),
        ("crash", "it crashes"),
        ("go on", "it takes more than 2 s"),
        ("take all", "it takes more than 2 GiB"),
    ],
)
def test_what_goes_wrong_is_said_and_the_next_answer_comes(own, what, reason):
    assert own("yes") == "yes"
    began = time.monotonic()
    with pytest.raises(ApartError) as caught:
        own(what)
    assert str(caught.value) == reason
    assert time.monotonic() - began < 10
    assert own("again") == "again"


def test_what_keeps_it_from_beginning_is_said():
    with pytest.raises(ApartError, match=r"^not here$"):
        Apart(maker, "not here", seconds=2).start()
    # Who has asked meanwhile is told where they wait.
    wait = Apart(maker, "not here", seconds=2).begin("yes")
    with pytest.raises(ApartError, match=r"^not here$"):
        wait()
