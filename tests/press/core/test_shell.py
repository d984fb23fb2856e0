"""A program that ends, and each way in which one does not do what it should."""

import sys
from pathlib import Path

import pytest

from press.core import shell
from press.core.errors import UserError

pytestmark = pytest.mark.integration


def python(code: str, **options) -> shell.Ended:
    return shell.run(sys.executable, "-c", code, **options)


def failing(errors: str, exit_code: int = 3) -> shell.Ended:
    return python(f"import sys; sys.stderr.write({errors!r}); sys.exit({exit_code})")


def test_a_program_that_succeeds_gives_what_it_printed_and_no_reason():
    ended = python("import sys; print('done'); print('a warning', file=sys.stderr)")
    assert ended == shell.Ended(code=0, output="done\n", reason="")


def test_a_program_that_fails_gives_its_last_line_as_the_reason_and_its_output():
    ended = python("import sys; print('half'); sys.exit('first\\n\\n  it is broken  \\n\\n')")
    assert ended == shell.Ended(code=1, output="half\n", reason="it is broken")


@pytest.mark.parametrize(
    ("errors", "reason"),
    [
        ("ERROR: no such package\nnote: upgrade pip\n", "no such package"),
        ("ERROR: first\nnote\nERROR: last\nthe end\n", "last"),
        ("  ERROR: indented\nthe end\n", "indented"),
        ("an ERROR: in a line\nthe end\n", "the end"),
        (
            "remote: no tags today        \nremote: ask the owner\nTo /origin.git\n"
            " ! [remote rejected] a -> a (pre-receive hook declined)\n"
            "error: failed to push some refs to '/origin.git'\n",
            "remote: no tags today; remote: ask the owner; ! [remote rejected] a -> a (pre-receive hook declined); "
            "error: failed to push some refs to '/origin.git'",
        ),
        (
            " ! [rejected]        a -> a (already exists)\nerror: failed to push some refs\n"
            "hint: Updates were rejected because the tag already exists in the remote.\n",
            "! [rejected] a -> a (already exists); error: failed to push some refs",
        ),
        (
            "'./dvc.lock' is invalid (possible merge conflicts).\n\nWhile scanning a key, in line 6, column 1\n"
            "  6 <<<<<<< HEAD\n\nCould not find ':', in line 7\n  7 │   - path: press\n",
            "'./dvc.lock' is invalid (possible merge conflicts). While scanning a key, in line 6, column 1",
        ),
        ("fatal: unable to access 'https://me:secret@host/x?token=y'\n", "fatal: unable to access 'https://host/x'"),
        ("ERROR: Can't remove the following files.\npackages/cpu\n", "Can't remove the following files. packages/cpu"),
        ("ERROR: no https://me:secret@host\n", "no https://host"),
        ("no https://me:secret@host\n", "no https://host"),
        ("\n \n", shell.UNKNOWN),
        ("", shell.UNKNOWN),
    ],
)
def test_the_reason_is_what_is_marked_as_an_error_or_else_the_last_line_and_tells_no_password(errors, reason):
    assert failing(errors).reason == reason


def test_bytes_that_are_no_letters_are_replaced():
    ended = python("import os; os.write(1, b'caf\\xe9'); os.write(2, b'fatal: caf\\xe9\\n'); os._exit(1)")
    assert (ended.output, ended.reason) == ("caf\ufffd", "fatal: caf\ufffd")


def test_a_program_that_is_not_installed_or_no_program_is_named(tmp_path):
    assert shell.run("no-such-program") == shell.Ended(code=None, output="", reason="no-such-program is not installed")
    (tmp_path / "text").touch()
    ended = shell.run(str(tmp_path / "text"))
    assert (ended.failed, ended.reason) == (True, f"{tmp_path / 'text'} cannot be run (Permission denied)")


def test_a_program_that_is_late_is_ended():
    ended = python("import time; time.sleep(60)", seconds=0.2)
    assert (ended.failed, ended.late, ended.output) == (True, True, "")
    assert ended.reason == "no end after 0 s"


def test_it_runs_where_and_with_what_it_is_told(tmp_path):
    code = "import os; print(os.getcwd(), sorted(name for name in os.environ if name.startswith('PRESS')))"
    ended = python(f"{code}; print(input())", folder=tmp_path, environment={"PRESS_ONE": "1"}, given="told")
    assert ended.output == f"{tmp_path} ['PRESS_ONE']\ntold\n"


@pytest.mark.parametrize(("shown", "out", "err"), [("nothing", "", ""), ("output", "o\n", ""), ("all", "o\n", "e\n")])
def test_what_is_shown_goes_where_this_process_s_own_goes(capfd, shown, out, err):
    ended = python("import sys; print('o'); print('e', file=sys.stderr); sys.exit(1)", shown=shown)
    assert capfd.readouterr() == (out, err)
    assert ended.output == ("" if out else "o\n")
    assert ended.reason == (shell.UNKNOWN if err else "e")


def test_output_comes_without_the_blank_at_its_end():
    assert shell.output(sys.executable, "-c", "print(' a b \\n')") == " a b"


def test_output_of_a_program_that_fails_is_a_sentence_with_the_command_as_a_user_knows_it(tmp_path: Path):
    (tmp_path / "tool.py").write_text("import sys; sys.exit('no luck')", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        shell.output(sys.executable, "-m", "tool", "go", folder=tmp_path)
    assert str(caught.value) == "`tool go` failed: no luck"
    with pytest.raises(UserError) as caught:
        shell.output("no-such-program", "go")
    assert str(caught.value) == "`no-such-program go` failed: no-such-program is not installed"


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("50%|##\rerror: a width\nERROR: failed to reproduce 'quantize': exited with 1\n", "a width"),
        (
            "Traceback\nValueError: no\nERROR: failed to reproduce 'x': exited with 1\n",
            "failed to reproduce 'x': exited with 1",
        ),
        ("", "no reason given"),
        ("ERROR: no https://me:secret@host/x\n", "no https://host/x"),
        (f"ERROR: {'x' * 1001}\n", f"{'x' * 500} [... 1 more characters ...] {'x' * 500}"),
    ],
)
def test_why_a_pipeline_failed_is_the_stage_s_sentence(log, reason):
    assert shell.reason_in(log) == reason
