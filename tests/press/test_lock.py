"""The lock file and the installed packages agree, or `make install` is named."""

from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from press import lock
from press.errors import UserError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["ruamel.yaml", "Ruamel_YAML", "ruamel-yaml", "RUAMEL-_.yaml"])
def test_names_are_compared_as_the_registry_does(name):
    assert lock.normalize(name) == "ruamel-yaml"


def test_a_local_version_is_a_build_of_the_same_release():
    assert lock.public("2.13.0+cpu") == "2.13.0"
    assert lock.public("2.13.0") == "2.13.0"


def test_reading_skips_comments_and_normalizes(tmp_path):
    path = tmp_path / "requirements.lock"
    path.write_text("# a comment\nPyYAML==6.0.3\n\nzc.lockfile==4.0\n", encoding="utf-8")
    assert lock.read(path) == {"pyyaml": "6.0.3", "zc-lockfile": "4.0"}


def test_the_installed_versions_are_accepted_with_a_local_part_too():
    lock.check_installed({name: lock.public(metadata.version(name)) for name in ("torch", "pytest", "ruamel-yaml")})


def test_a_missing_and_another_version_are_refused():
    locked = {"pytest": "0.1", "no-such-package": "1.0", "numpy": metadata.version("numpy")}
    with pytest.raises(UserError) as caught:
        lock.check_installed(locked)
    assert str(caught.value) == (
        f"the environment differs from requirements.lock (pytest is {metadata.version('pytest')}, locked 0.1; "
        "no-such-package is missing, locked 1.0): run `make install`"
    )


def test_many_differences_are_cut_to_three():
    with pytest.raises(UserError) as caught:
        lock.check_installed({f"no-such-package-{index}": "1" for index in range(9)})
    assert str(caught.value).count("is missing") == 3


def test_every_requirement_is_pinned_to_the_locked_version():
    locked = lock.read(ROOT / "requirements.lock")
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [Requirement(line) for line in lines if line and not line.startswith("#")]
    assert len(wanted) > 20
    assert {str(each.specifier) for each in wanted if not str(each.specifier).startswith("==")} == set()
    assert {each.name: str(each.specifier) for each in wanted} == {
        each.name: f"=={locked.get(lock.normalize(each.name))}" for each in wanted
    }


def test_the_lock_file_is_sorted_and_has_each_package_once():
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines(keepends=True)
    assert lines[0] == lock.HEADER
    assert lines[1:] == sorted(lines[1:])
    assert len(lock.read(ROOT / "requirements.lock")) == len(lines) - 1
