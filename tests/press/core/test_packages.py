"""The lock file and the installed packages agree, or `make install` is named."""

from importlib import metadata
from pathlib import Path

import pytest

from press.core import packages
from press.core.errors import UserError

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["ruamel.yaml", "Ruamel_YAML", "ruamel-yaml", "RUAMEL-_.yaml"])
def test_names_are_compared_as_the_registry_does(name):
    assert packages.normalize(name) == "ruamel-yaml"


def test_a_local_version_is_a_build_of_the_same_release():
    assert packages.public("2.13.0+cpu") == "2.13.0"
    assert packages.public("2.13.0") == "2.13.0"


def test_reading_skips_comments_and_normalizes(tmp_path):
    path = tmp_path / "requirements.lock"
    path.write_text("# a comment\nPyYAML==6.0.3\n\nzc.lockfile==4.0\n", encoding="utf-8")
    assert packages.read(path) == {"pyyaml": "6.0.3", "zc-lockfile": "4.0"}


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
        packages.check_installed({"sacrebleu": "0.1"})
    assert str(caught.value).startswith(f"the environment differs from {packages.TASKS} (sacrebleu is ")
    assert str(caught.value).endswith("run `make install-tasks`")


def test_many_differences_are_cut_to_three():
    with pytest.raises(UserError) as caught:
        packages.check_installed({f"no-such-package-{index}": "1" for index in range(9)})
    assert str(caught.value).count("is missing") == 3


def test_requirements_lock_and_installation_agree():
    packages.check_requirements(ROOT / "requirements.txt", ROOT / "requirements.lock")
    packages.check_installed(packages.read(ROOT / "requirements.lock"))


@pytest.mark.parametrize("line", ["pytest==0.1", "pytest>=9", "pytest", "no-such-package==1.0"])
def test_a_requirement_that_the_lock_does_not_have_is_refused(tmp_path, line):
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"# a comment\n{line}\n", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        packages.check_requirements(requirements, ROOT / "requirements.lock")
    assert f"({line}): run `make lock`" in str(caught.value)


def test_the_lock_file_is_sorted_and_has_each_package_once():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines(keepends=True)
    assert lines[0] == packages.HEADER
    assert lines[1:] == sorted(lines[1:])
    assert len(packages.read(ROOT / "requirements.lock")) == len(lines) - 1
