"""A call in another process: what it returns, what it raises, and what becomes of one that never returns."""

import argparse
import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from projects import ROOT

from press.core import cli
from press.core.errors import UserError
from press.release import bounded

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("text", ["nan", "inf", "0", "-1"])
def test_a_time_limit_is_above_0_and_ends(text):
    assert bounded.time_limit("0.5") == 0.5
    with pytest.raises(argparse.ArgumentTypeError, match=r"is no number of seconds above 0$"):
        bounded.time_limit(text)


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
        ("disk", cli.FULL_DISK),
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


def test_an_answer_that_breaks_off_is_a_sentence_and_the_next_one_comes(monkeypatch):
    def breaks_off() -> None:
        raise OSError("got end of file during message")

    process = bounded.Process("the server")
    first = process.call(os.getpid, seconds=60)
    monkeypatch.setattr(process._connection, "recv", breaks_off)
    with pytest.raises(UserError, match="the process that did was ended"):
        process.call(os.getpid, seconds=60)
    assert process.call(os.getpid, seconds=60) != first
    process.end()


def test_a_process_takes_several_calls_and_is_replaced_when_it_was_ended():
    process = bounded.Process("the server")

    def identity() -> int:
        return process.call(os.getpid, seconds=60)

    first = identity()
    with pytest.raises(UserError, match="mend it"):
        process.call(fails, "user", seconds=60)
    assert identity() == first != os.getpid()
    with pytest.raises(UserError, match="gave no answer"):
        process.call(never_returns, seconds=3)
    second = identity()
    assert second != first
    with pytest.raises(UserError, match="was ended"):
        process.call(dies, seconds=60)
    assert identity() not in (first, second)
    process.end()


def test_a_process_ends_with_the_program():
    program = "import os; from press.release import bounded; print(bounded.Process('x').call(os.getpid, seconds=60))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(result.stdout), 0)
