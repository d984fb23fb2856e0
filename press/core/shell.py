"""Other programs, such as git and DVC, and why they failed as a sentence."""

import subprocess
import sys
from pathlib import Path

from press.core.errors import UserError


def output(*command: str, folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command to its end and return what it printed, without the blank at its end.

    :raises UserError: with its last line of error if it fails
    """
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1].removeprefix("ERROR: ")
        # `python -m dvc` is known as dvc.
        words = command[2:] if command[0] == sys.executable else command
        raise UserError(f"`{' '.join(words)}` failed: {reason}")
    return result.stdout.rstrip()
