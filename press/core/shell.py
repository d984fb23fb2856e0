"""Other programs, such as git, DVC and pip, and why they failed as a sentence."""

import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from press.core.errors import UserError
from press.core.redaction import redacted, shortened

ERROR = "ERROR: "
# What git says in several lines: what a server answered, which ref it refused, and why.
GIT = re.compile(r"remote: |! \[|error: |fatal: ")
# DVC on a file of its own, in the first of many lines; the next one says where.
INVALID = re.compile(r"'[^']+' is invalid")
# Of a stage, and of DVC that ran it.
FAILED = re.compile(r"\berror: (.+)")
FAILED_BY_DVC = re.compile(r"ERROR: (.+)")
UNKNOWN = "no reason given"


@dataclass(frozen=True)
class Ended:
    """How a program ended.

    :param code: its exit code; None if it could not be started, or was late
    :param late: whether its time was up before it ended
    :param output: what it printed; empty where that was shown
    :param reason: why it failed, in one line; empty if it did not
    """

    code: int | None
    output: str
    reason: str
    late: bool = False

    @property
    def failed(self) -> bool:
        return self.code != 0


def run(
    *command: str,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    seconds: float | None = None,
    given: str | None = None,
    shown: Literal["nothing", "output", "all"] = "nothing",
) -> Ended:
    """Run a program to its end.

    :param folder: where; here by default
    :param environment: what it gets in place of this process's variables
    :param seconds: after which it is killed
    :param given: what it reads from its standard input; by default, it has this process's own
    :param shown: what goes where this process's own goes: nothing, what it prints, or its errors as well
    """
    streams = {
        "stdout": subprocess.PIPE if shown == "nothing" else None,
        "stderr": None if shown == "all" else subprocess.PIPE,
    }
    try:
        completed = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            input=given,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
            **streams,
        )
    except subprocess.TimeoutExpired:
        return Ended(None, "", f"no end after {seconds:.0f} s", late=True)
    except FileNotFoundError:
        return Ended(None, "", f"{command[0]} is not installed")
    except OSError as error:
        return Ended(None, "", f"{command[0]} cannot be run ({error.strerror})")
    reason = shortened(redacted(_reason(completed.stderr or ""))) if completed.returncode else ""
    return Ended(completed.returncode, completed.stdout or "", reason)


def output(*command: str, folder: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a program to its end and return what it printed, without the blank at its end.

    :raises UserError: with the reason if it fails
    """
    ended = run(*command, folder=folder, environment=environment)
    if ended.failed:
        # `python -m dvc` is known as dvc.
        words = command[2:] if command[0] == sys.executable else command
        raise UserError(f"`{' '.join(words)}` failed: {ended.reason}")
    return ended.output.rstrip()


def reason_in(log: str) -> str:
    """Return the sentence in a log that says why a pipeline failed: the stage's own, or else DVC's."""
    lines = re.split(r"[\r\n]+", log)
    for pattern in (FAILED, FAILED_BY_DVC):
        sentences = [match[1].strip() for line in lines if (match := pattern.search(line))]
        if sentences:
            return shortened(redacted(sentences[-1]))
    return UNKNOWN


def _reason(errors: str) -> str:
    """Return in a line why a program failed.

    That is the last line that pip and DVC mark as such, what git marks, the first two lines about a file that DVC
    cannot read, or else the last line.
    """
    lines = [" ".join(line.split()) for line in errors.splitlines() if line.strip()]
    marked = [number for number, line in enumerate(lines) if line.startswith(ERROR)]
    if marked:
        last = lines[marked[-1]].removeprefix(ERROR)
        # DVC names what it means by that below.
        return " ".join([last, *lines[marked[-1] + 1 :]]) if "following" in last else last
    if of_git := [line for line in lines if GIT.match(line)]:
        return "; ".join(of_git)
    if lines and INVALID.match(lines[0]):
        return " ".join(lines[:2])
    return (lines or [UNKNOWN])[-1]
