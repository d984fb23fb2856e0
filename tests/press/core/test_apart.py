"""A function in a process of its own may crash there, never end, or ask for all memory."""

import os
import signal
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
        case "be killed":
            os.kill(os.getpid(), signal.SIGKILL)
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
        ("be killed", "it was killed, by the system for want of memory or by somebody"),
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


def test_one_that_was_killed_while_it_waited_begins_again(own, monkeypatch):
    assert own("yes") == "yes"
    os.kill(own._process.pid, signal.SIGKILL)
    own._process.join()
    # As long as nobody has seen it end, as where it ends between the look and the question.
    monkeypatch.setattr(own._process, "is_alive", lambda: True)
    assert own("again") == "again"


class Broken:
    """A pipe that fails where an answer is waited for."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    def send(self, asked: tuple) -> None:
        pass

    def poll(self, seconds: float) -> bool:
        raise self._error

    def close(self) -> None:
        pass


@pytest.mark.parametrize("error", [OSError(9, "Bad file descriptor"), ConnectionResetError(), EOFError()])
def test_a_pipe_that_fails_is_an_answer_for_all_who_wait(own, error, monkeypatch):
    own.start()
    monkeypatch.setattr("press.core.apart.ENDING", 0.1)
    own._pipe = Broken(error)
    wait = own.begin("yes")
    for _ in range(2):
        with pytest.raises(ApartError, match=r"^it crashes$"):
            wait()
    assert own("again") == "again"


def test_after_an_interruption_nobody_waits_for_ever_nor_gets_another_one_s_answer(own):
    own.start()
    own._pipe = Broken(KeyboardInterrupt())
    wait = own.begin("yes")
    with pytest.raises(KeyboardInterrupt):
        wait()
    with pytest.raises(ApartError, match=r"^it was interrupted$"):
        wait()
    assert own("again") == "again"


def test_where_no_process_can_begin_is_said(own, monkeypatch):
    def fails(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr("multiprocessing.context.SpawnProcess._Popen", fails)
        for _ in range(2):
            with pytest.raises(ApartError, match=r"^no process can begin for it \(Cannot allocate memory\)$"):
                own("yes")
    assert own("again") == "again"
