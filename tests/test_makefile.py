"""The Makefile chooses an interpreter that works, pip installs only what is locked, and a value is no command."""

import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from projects import ROOT

from press.model import nodes

pytestmark = pytest.mark.integration
NEEDED = ("awk", "grep", "make", "sed", "sh", "touch")
# What a pyenv shim is, for a version that is installed but not chosen.
SHIM = "#!/bin/sh\necho 'pyenv: python3.13: command not found' >&2\nexit 127\n"
WORKS = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
# Debian's python3 without python3-venv.
BARE = f'#!/bin/sh\ncase "$*" in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n'

# Writes down what it is given.
SAYS = "#!/bin/sh\nprintf '%s\\0' \"$@\" >> said\n"
# Each makes the file `ran` where make or the shell takes a part of it for a command.
COMMANDS = [
    "`touch ran`$(shell touch ran)${shell touch ran}$$(touch ran)$$$$(touch ran)$`touch ran`$(eval $(shell touch ran))",
    '"; touch ran; "',
    "'; touch ran; ' | touch ran",
    "x\ntouch ran\nall: ; touch ran\n",
    "$(value PATH a  b\\ # c",
]
# Targets with a variable and the word that its program gets; None where the value is several words.
TAKEN = [
    ("repro", "PRESET", "{}"),
    ("repro", "PROMPT", "{}"),
    ("ask", "TARGET", "--target={}"),
    ("ask", "ADAPTER", "--adapter={}"),
    ("verify", "STAGE", None),
    ("verify-package", "PACKAGE", "{}"),
    ("promote", "VERSION", "--version={}"),
    ("promote", "STAGE", "--stage={}"),
    ("fetch-model", "VERSION", "--version={}"),
    ("fetch-model", "STAGE", "--stage={}"),
    ("fetch-model", "TO", "--to={}"),
    ("deploy", "TO", "--to={}"),
    ("undeploy", "INTO", "--into={}"),
    ("report", "TARGET", "{}"),
    ("report", "SINCE", "--since={}"),
    ("test", "TESTS", None),
    ("test-unit", "WORKERS", "{}"),
    ("test", "TIERS", "{}"),
    ("bench", "BENCH", None),
    ("search", "APPLY", "{}"),
    ("serve", "PACKAGE", "{}"),
    ("serve", "SERVE", None),
    ("lock", "UPGRADE", None),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the Makefile and its locks, whose `bin` is all that the PATH has."""
    for path in (ROOT / "Makefile", ROOT / "pyproject.toml", *ROOT.glob("requirements*")):
        shutil.copyfile(path, tmp_path / path.name)
    (tmp_path / "bin").mkdir()
    for name in NEEDED:
        (tmp_path / "bin" / name).symlink_to(shutil.which(name))
    return tmp_path


def program(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


def make(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    environment = {"PATH": str(folder / "bin"), "HOME": str(folder), **environment}
    return subprocess.run(
        [shutil.which("make"), *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    ("there", "chosen"),
    [
        ({"python3.13": WORKS, "python3.12": WORKS, "python3.11": WORKS}, "python3.13"),
        ({"python3.13": SHIM, "python3.12": WORKS, "python3.11": WORKS}, "python3.12"),
        ({"python3.13": SHIM, "python3.12": BARE, "python3.11": WORKS}, "python3.11"),
        ({".venv/python": WORKS, "python3.13": WORKS}, ".venv/bin/python"),
        ({".venv/python": SHIM, "python3.13": WORKS}, "python3.13"),
    ],
)
def test_the_newest_interpreter_that_works_makes_the_environment(folder, there, chosen):
    for name, text in there.items():
        program(folder / name.replace("/", "/bin/") if "/" in name else folder / "bin" / name, text)
    result = make(folder, "--dry-run", "install")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[0] == f"{chosen} -m venv .venv"
    named = make(folder, "--dry-run", "install", PYTHON="/opt/python")
    assert named.stdout.splitlines()[0] == "/opt/python -m venv .venv"


@pytest.mark.parametrize("target", ["install", "doctor"])
def test_without_an_interpreter_that_works_a_sentence_says_what_to_do(folder, target):
    program(folder / "bin/python3.13", SHIM)
    program(folder / "bin/python3.11", BARE)
    result = make(folder, target)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert "no Python 3.11, 3.12 or 3.13 here can make an environment: install one with its venv module" in line


def test_all_that_is_installed_is_checked_by_its_hash(folder):
    targets = ("install", "install-tasks", "install-serve")
    text = make(folder, "--dry-run", *targets, PYTHON="python").stdout.replace("\\\n", " ")
    # All but the project itself.
    installs = [line for line in text.splitlines() if "pip install" in line and "--editable" not in line]
    assert len(installs) == 6
    assert all("--require-hashes --no-deps --no-build-isolation" in line for line in installs)
    for part in ("", "-cuda", "-serve", "-tasks"):
        assert f"--requirement requirements{part}.lock" in text


@pytest.mark.parametrize("fault", [False, True])
def test_a_file_with_another_hash_is_refused(folder, fault):
    wheel = folder / "thing-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("thing-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
        file.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("thing-1.0.dist-info/RECORD", "")
    digest = "0" * 64 if fault else hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = folder / "requirements-tasks.lock"
    lock.write_text(f"thing==1.0 \\\n    --hash=sha256:{digest}\n", encoding="utf-8")
    program(folder / ".venv/bin/python", WORKS)
    (folder / ".venv/.installed").touch()
    os.utime(folder / ".venv/.installed", (2**32, 2**32))
    target = folder / "target"
    pip = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder), "PIP_TARGET": str(target)}
    result = make(folder, "install-tasks", **pip)
    assert (result.returncode != 0) == fault
    assert ("DO NOT MATCH THE HASHES" in result.stderr) == fault
    assert target.exists() != fault


def said(folder: Path, target: str, *words: str, **environment: str) -> list[str]:
    """Run a target with programs that write down what they are given, and return that."""
    for name in (".venv/bin/python", "bin/python", "bin/uv", "bin/dvc"):
        program(folder / name, SAYS)
    (folder / ".venv/.installed").touch()
    os.utime(folder / ".venv/.installed", (2**32, 2**32))
    (folder / "said").unlink(missing_ok=True)
    result = make(folder, target, *words, **environment)
    assert result.returncode == 0, result.stderr
    return (folder / "said").read_text(encoding="utf-8").split("\0")


@pytest.mark.parametrize("value", COMMANDS)
@pytest.mark.parametrize(("target", "variable", "word"), TAKEN)
def test_a_value_is_no_command_and_reaches_its_program_as_it_stands(folder, target, variable, word, value):
    for words, environment in (([f"{variable}={value}"], {}), ([], {variable: value})):
        given = said(folder, target, *words, **environment)
        assert not (folder / "ran").exists()
        if word:
            assert word.format(value) in given
        else:
            assert set(value.split()) <= {each.removeprefix("--upgrade-package=") for each in given}


@pytest.mark.parametrize("value", COMMANDS)
@pytest.mark.parametrize(
    ("target", "variable", "flag"),
    [("publish", "DRY_RUN", "--dry-run"), ("verify", "BUILT", "--built"), ("repro", "ANYWAY", "--anyway")],
)
def test_what_only_switches_is_no_command_either(folder, target, variable, flag, value):
    assert flag in said(folder, target, f"{variable}={value}", *(["PRESET=tiny"] if target == "repro" else []))
    assert not (folder / "ran").exists()


@pytest.mark.parametrize(
    ("target", "variable"), [(t, v) for t, v, word in TAKEN if word == "{}" and not t.startswith("test")]
)
def test_a_value_that_begins_with_a_hyphen_is_no_option(folder, target, variable):
    given = said(folder, target, f"{variable}=--help")
    before = given[given.index("--help") - 1]
    assert before == "--" or "press.params.preset" in before


@pytest.mark.parametrize(
    ("words", "why"), [(["PRESET=x", "ENGINE=ray"], "PRESET changes params.yaml"), ([], "dvc repro")]
)
def test_what_shall_only_be_shown_is_not_done(folder, words, why):
    with pytest.raises(AssertionError, match=why):
        said(folder, "repro", "DRY_RUN=1", *words)
    assert not (folder / "said").exists()
    ran = " ".join(said(folder, "repro", "DRY_RUN=1", "ENGINE=ray")).split()
    assert ran == ["-m", "stages.check", "-m", "press.cluster", "run", "--dry-run", "--", "ray"]


def test_check_knows_that_an_engine_starts_the_nodes_of_a_training(folder):
    words = ("--dry-run", "INSTALLED=", "repro")
    check = "python -m stages.check"
    assert f"{nodes.CLUSTER}=1 {check}" in make(folder, *words, "ENGINE=ray").stdout.splitlines()
    assert check in make(folder, *words).stdout.splitlines()


def test_what_is_not_given_is_no_word(folder):
    assert said(folder, "lock")[-3:] == ["--output-file", "requirements-tasks.lock", ""]
    assert said(folder, "lock", "UPGRADE=all")[-2:] == ["--upgrade", ""]
    assert said(folder, "verify") == ["-m", "press.verify", ""]
    assert said(folder, "search") == ["-m", "press.search", ""]
    assert said(folder, "serve") == ["-m", "press.serve", "--", "packages/cpu", ""]
    assert said(folder, "test-unit")[-5:] == ["--no-loadscope-reorder", "-m", "unit", "tests", ""]
