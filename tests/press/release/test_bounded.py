"""A call in another process: what it returns, what it raises, and what becomes of one that never returns."""

import errno
import os
import signal
import time

import pytest

from press import command
from press.errors import UserError
from press.release import bounded


def call(function, *arguments: object, seconds: float = 60) -> object:
    return bounded.call(function, *arguments, seconds=seconds, whom="the server")


def fails(kind: str) -> None:
    raise {"user": UserError("mend it"), "library": ValueError("a\nb"), "disk": OSError(errno.ENOSPC, "full")}[kind]


def never_returns() -> None:
    while True:
        time.sleep(1)


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_the_answer_comes_back():
    assert call(divmod, 7, 2) == (3, 1)


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("user", "mend it"),
        ("library", "the server could not be asked: ValueError: a b"),
        ("disk", command.FULL_DISK),
    ],
)
def test_each_failure_is_a_sentence(kind, sentence):
    with pytest.raises(UserError) as caught:
        call(fails, kind)
    assert str(caught.value) == sentence


def test_what_never_returns_is_ended():
    with pytest.raises(UserError, match="the server gave no answer in 3 s"):
        call(never_returns, seconds=3)


def test_a_process_that_dies_is_a_sentence():
    with pytest.raises(UserError, match="the process that did was ended"):
        call(dies)
