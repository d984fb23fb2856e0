"""What deploy/ names is there, and its image has all that the server imports; the workflow builds it."""

import re
import shlex
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from projects import ROOT

from press.serve.__main__ import PACKAGE

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
# What the server imports by name.
IMPORTED = {"fastapi", "fastapi-offline", "numpy", "onnx", "onnxruntime", "onnxruntime-genai", "prometheus-client"}
IMPORTED |= {"pydantic", "pyyaml", "uvicorn"}


def listed() -> list[str]:
    return (DEPLOY / "packages.txt").read_text(encoding="utf-8").split()


def test_the_image_has_what_the_server_imports_and_what_that_requires():
    pytest.importorskip("fastapi_offline", reason="needs `make install-serve`")
    needed, seen = set(IMPORTED), set()
    while new := needed - seen:
        seen |= new
        for name in new:
            for requirement in map(Requirement, metadata.requires(name) or []):
                if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                    needed.add(canonicalize_name(requirement.name))
    assert needed <= set(listed())
    assert listed() == sorted(set(listed()))


def test_all_of_its_packages_are_locked():
    locks = "".join(
        (ROOT / name).read_text(encoding="utf-8") for name in ("requirements.lock", "requirements-serve.lock")
    )
    locked = set(re.findall(r"^([a-z0-9-]+)==", locks, re.MULTILINE))
    assert set(listed()) <= locked


def test_the_image_is_pinned_and_not_roots_and_takes_files_that_are_there():
    (base,) = re.findall(r"^FROM (.+)$", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", base)
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    assert int(user) > 0
    for copied in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE):
        assert all((ROOT / name).exists() for name in copied.split())


def test_the_container_writes_nowhere_and_its_server_has_the_options_that_it_is_given():
    service = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]["serve"]
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert service["volumes"][0].endswith(":/package:ro")
    assert service["ports"][0].startswith("127.0.0.1:")
    assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).samefile(DEPLOY / "Dockerfile")
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", DOCKERFILE, re.MULTILINE)
    # The package is named by the environment, so that another one can be where the words cannot be changed.
    assert _check_options(yaml.safe_load(entry)) is None
    assert f"{PACKAGE}=/package" in DOCKERFILE


def test_the_units_server_has_the_options_that_it_is_given():
    unit = (DEPLOY / "olive-press.service").read_text(encoding="utf-8")
    (command,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    assert _check_options(shlex.split(command)) == Path("/srv/olive-press")
    for setting in ("DynamicUser=yes", "NoNewPrivileges=yes", "ProtectSystem=strict"):
        assert setting in unit.splitlines()


def _check_options(words: list[str]) -> Path | None:
    from press.serve.__main__ import _parser

    place = words.index("press.serve")
    assert words[place - 1] == "-m"
    return _parser().parse_args(words[place + 1 :]).package
