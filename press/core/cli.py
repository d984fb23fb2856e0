"""The frame around every stage's `main`: arguments, exit codes, one sentence for a user's mistake."""

import argparse
import atexit
import errno
import gc
import inspect
import sys
from collections.abc import Callable
from pathlib import Path

from press.core import code, environment, inputs, packages, paths
from press.core.errors import UserError

# What torch.save says instead of the system's message: of a large file, and of one that its buffer holds.
TORCH_FULL_DISK = ("unexpected pos", "basic_ios::clear: iostream error")
FULL_DISK = "no space left on the disk; free some and run this again: nothing was lost"
# New objects after which Python looks for reference cycles. Libraries make its default of 700 every few milliseconds
# while they are imported, and keep them all.
OBJECTS = 10_000
AGAIN = "run the same command again, it goes on from here"


def run(main: Callable[..., None], *, online: bool = False) -> None:
    """Run `main` with the command line's words as its parameters, then exit.

    A UserError or a full disk ends in a sentence on stderr and exit code 1, Ctrl-C in exit code 130; any
    other exception is a bug or a library's failure and keeps its traceback.

    :param main: the stage; each of its parameters is a required word on the command line
    :param online: whether the stage may reach a hub
    """
    words = _parse(main)
    environment.prepare(online=online)

    def work() -> None:
        stage = Path(main.__code__.co_filename).stem
        _check_built_with(stage)
        inputs.check(stage, words.values())
        main(**words)

    in_sentences(
        work,
        interrupted="nothing was lost; `dvc repro` goes on from here",
        full_disk="no space left on the disk; free some and run `dvc repro` again: nothing was lost",
    )


def in_sentences(work: Callable[[], None], interrupted: str = AGAIN, full_disk: str = FULL_DISK) -> None:
    """Do something, and say in a sentence on stderr what kept the user from it; exit as `run` does.

    :param interrupted: what to say after Ctrl-C
    :param full_disk: what to say where there is no space left
    """
    collect_rarely()
    try:
        work()
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        sys.exit(128 + 2)
    except Exception as error:
        if is_full_disk(error):
            sys.exit(f"error: {full_disk}")
        raise


def collect_rarely() -> None:
    """Let this process look for reference cycles rarely, and not at its end, when all its memory is given back anyway.

    Where PyTorch, transformers and Olive are imported, the search takes a third of a stage's processor time.
    """
    gc.set_threshold(OBJECTS, *gc.get_threshold()[1:])
    atexit.register(gc.freeze)


def _parse(main: Callable[..., None]) -> dict[str, str]:
    module = sys.modules[main.__module__]
    name = f"python -m {module.__spec__.name}" if module.__spec__ else None
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(name, description=module.__doc__, formatter_class=formatter)
    for parameter in inspect.signature(main).parameters:
        parser.add_argument(parameter, help=f"name of the {parameter} in params.yaml")
    return vars(parser.parse_args())


def _check_built_with(stage: str) -> None:
    """Refuse to run a stage with other libraries or other code than DVC takes it to run with."""
    libraries = paths.ENVIRONMENT / f"{stage}.txt"
    if libraries.exists():
        packages.check_installed(packages.read(libraries))
    code.check_recorded(stage)


def tells_of_full_disk(text: str) -> bool:
    """Whether a sentence says that there is no space left: a stage's, or the system's own."""
    return "no space left on" in text.lower()


def is_full_disk(error: BaseException | None) -> bool:
    """Whether an error says, in whatever way, that there is no space left on the disk."""
    # Libraries written in Rust and C++ raise their own types, with the system's message inside.
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        if any(message in str(error) for message in ("No space left on device", *TORCH_FULL_DISK)):
            return True
        error = error.__cause__ or error.__context__
    return False
