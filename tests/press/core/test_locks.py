"""A file or a folder is held by one process at a time."""

import subprocess
import sys
from pathlib import Path

import pytest

from press.core import locks
from press.core.errors import UserError

pytestmark = pytest.mark.integration
HOLD = """
import sys
from pathlib import Path
from press.core import locks
with locks.alone(Path(sys.argv[1]), "unused"):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(params=["file", "folder"])
def held(request, tmp_path: Path) -> Path:
    """What is to be locked: a file that is not there yet, or a folder."""
    path = tmp_path / "deep" / "lock"
    if request.param == "folder":
        path.mkdir(parents=True)
    return path


def test_another_process_is_kept_out_until_the_first_ends(held):
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, str(held)], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"^wait for it$"), locks.alone(held, "wait for it"):
            pytest.fail("both have it")
        process.communicate()
    with locks.alone(held, "wait for it") as descriptor:
        assert descriptor > 2


def test_what_is_raised_while_it_is_held_is_left_as_it_is(held):
    with pytest.raises(BlockingIOError), locks.alone(held, "unused"):
        raise BlockingIOError


def test_without_fcntl_modules_load_and_a_lock_is_a_sentence(tmp_path):
    """As on Windows."""
    script = (
        "import sys; sys.modules['fcntl'] = None\n"
        "from pathlib import Path\n"
        "from press.core import errors, files\n"
        "try:\n"
        "    with files.replaced(Path(sys.argv[1])): print('no lock')\n"
        "except errors.UserError as error: print(error)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "file locks are not on Windows: build on Linux or macOS" in result.stdout
