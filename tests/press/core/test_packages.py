"""The locks and the installed packages agree, or `make install` is named; each locked file is named by its hash."""

import re
from importlib import metadata
from pathlib import Path

import pytest

from press.core import packages
from press.core.errors import UserError

ROOT = Path(__file__).parents[3]
LOCKS = [ROOT / f"requirements{part}.lock" for part in ("", "-cuda", "-tasks")]
PYTHONS = ("3.11", "3.12", "3.13")
PLATFORMS = [("linux", "Linux", "x86_64"), ("linux", "Linux", "aarch64"), ("darwin", "Darwin", "arm64")]


def locked_for(path: Path, python: str, platform: tuple[str, str, str]) -> set[str]:
    """Return the names that a lock has for a version of Python and a platform."""
    names = dict(zip(("sys_platform", "platform_system", "platform_machine"), platform, strict=True))
    here = {"python_version": python, "python_full_version": f"{python}.1", **names}
    return {each.name for each in packages.requirements(path) if not each.marker or each.marker.evaluate(here)}


@pytest.mark.parametrize("name", ["ruamel.yaml", "Ruamel_YAML", "ruamel-yaml", "RUAMEL-_.yaml"])
def test_names_are_compared_as_the_registry_does(name):
    assert packages.normalize(name) == "ruamel-yaml"


def test_a_local_version_is_a_build_of_the_same_release():
    assert packages.public("2.13.0+cpu") == "2.13.0"
    assert packages.public("2.13.0") == "2.13.0"


def test_reading_skips_comments_and_hashes_and_normalizes(tmp_path):
    path = tmp_path / "requirements.lock"
    path.write_text(
        "# a comment\nPyYAML==6.0.3\n\nzc.lockfile==4.0 \\\n    --hash=sha256:12 \\\n    --hash=sha256:34\n"
        "    # via dvc\nsix==1.17.0  # also\n",
        encoding="utf-8",
    )
    assert packages.read(path) == {"pyyaml": "6.0.3", "zc-lockfile": "4.0", "six": "1.17.0"}


def test_what_another_platform_or_python_needs_is_not_demanded(tmp_path):
    path = tmp_path / "requirements.lock"
    path.write_text(
        "pywin32==312 ; sys_platform == 'win32' \\\n    --hash=sha256:12\n"
        "backport==1 ; python_full_version < '3.11'\npytest==9.2.0 ; python_full_version >= '3.11'\n",
        encoding="utf-8",
    )
    assert packages.read(path) == {"pytest": "9.2.0"}
    packages.check_installed(packages.read(path) | {"pytest": metadata.version("pytest")})
    # The planted fault: without its marker it is demanded.
    path.write_text("pywin32==312\n", encoding="utf-8")
    with pytest.raises(UserError, match="pywin32 is missing, locked 312"):
        packages.check_installed(packages.read(path))


def test_a_line_that_is_no_requirement_is_named(tmp_path):
    path = tmp_path / "requirements.lock"
    path.write_text("six==1.17.0\n<<<<<<< HEAD\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        packages.read(path)
    assert str(caught.value) == f"{path} has a line that is no requirement ('<<<<<<< HEAD'): run `git restore {path}`"


def test_the_installed_versions_are_accepted_with_a_local_part_too():
    packages.check_installed(
        {name: packages.public(metadata.version(name)) for name in ("torch", "pytest", "ruamel-yaml")}
    )


def test_a_missing_and_another_version_are_refused():
    locked = {"pytest": "0.1", "no-such-package": "1.0", "numpy": metadata.version("numpy")}
    with pytest.raises(UserError) as caught:
        packages.check_installed(locked)
    assert str(caught.value) == (
        f"the environment differs from requirements.lock (pytest is {metadata.version('pytest')}, locked 0.1; "
        "no-such-package is missing, locked 1.0): run `make install`"
    )


def test_what_only_lm_eval_needs_has_its_own_command(monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(UserError) as caught:
        packages.check_installed({"rouge-score": "0.1"})
    assert str(caught.value).startswith(f"the environment differs from {packages.TASKS} (rouge-score is ")
    assert str(caught.value).endswith("run `make install-tasks`")


def test_many_differences_are_cut_to_three():
    with pytest.raises(UserError) as caught:
        packages.check_installed({f"no-such-package-{index}": "1" for index in range(9)})
    assert str(caught.value).count("is missing") == 3


def test_requirements_lock_and_installation_agree():
    for name in ("requirements", "requirements-serve", "requirements-tasks"):
        packages.check_requirements(ROOT / f"{name}.txt", ROOT / f"{name}.lock")
    packages.check_installed(packages.read(ROOT / "requirements.lock"))


@pytest.mark.parametrize("line", ["pytest==0.1", "pytest>=9", "pytest", "no-such-package==1.0"])
def test_a_requirement_that_the_lock_does_not_have_is_refused(tmp_path, line):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"# a comment\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        packages.check_requirements(requirements, ROOT / "requirements.lock")
    assert f"({line}): run `make lock`" in str(caught.value)


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_each_package_once_with_hashes_and_no_address(path):
    text = path.read_text(encoding="utf-8")
    lines = text.replace("\\\n", " ").splitlines()
    assert lines[:2] == ["# This file was autogenerated by uv via the following command:", "#    make lock"]
    assert all(re.search(r" --hash=sha256:[0-9a-f]{64}(?: |$)", line) for line in lines[2:])
    names = [packages.normalize(each.name) for each in packages.requirements(path)]
    assert len(names) == len(set(names)) == len(lines) - 2
    assert "://" not in text
    assert " @ " not in text


def test_the_lock_is_the_same_for_every_python_and_platform_that_is_promised():
    one, *others = [locked_for(LOCKS[0], python, platform) for python in PYTHONS for platform in PLATFORMS]
    assert {"torch", "onnxruntime-genai", "pytest"} <= one
    assert all(other == one for other in others)


def test_what_only_the_registry_s_torch_needs_has_a_lock_of_its_own():
    wanted = {each.name for each in packages.requirements(ROOT / "requirements-cuda.txt")}
    for python in PYTHONS:
        cuda, linux = locked_for(LOCKS[1], python, PLATFORMS[0]), locked_for(LOCKS[0], python, PLATFORMS[0])
        assert wanted <= cuda
        assert not cuda & linux
        # A library of NVIDIA's that only asks the driver, and has a few kilobytes.
        assert {name for name in linux if name.startswith(("cuda-", "nvidia-", "triton"))} == {"nvidia-ml-py"}
        assert not locked_for(LOCKS[1], python, PLATFORMS[2])


def test_torch_has_the_hash_of_its_build_for_the_cpu_beside_the_registry_s():
    (cpu,) = re.findall(r"^TORCH_CPU := (sha256:[0-9a-f]{64})$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    (line,) = re.findall(r"^torch==.*", LOCKS[0].read_text("utf-8").replace("\\\n", " "), re.MULTILINE)
    assert f"--hash={cpu}" in line
    assert line.count("--hash=") > 3 * len(PYTHONS)
