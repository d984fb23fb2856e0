"""docs/review.md holds: its commands, as they stand there, pass for a release of ours and refuse what was changed.

They need cosign and oras, which Debian has packages of that name for (13 and later).
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from projects import ROOT, Project

from .conftest import with_remotes
from .container_registry import REPOSITORY, ContainerRegistry

pytestmark = pytest.mark.integration
TOOLS = ("oras", "cosign", "jq", "openssl", "git")
# Not to be had from the registries of packages that are reached here.
ABSENT = ("cyclonedx",)
BLOCK = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
OTHER_KEY = "openssl ecparam -name prime256v1 -genkey -noout | openssl ec -pubout -out signing.pub"
# What each change lets fail, with what was done before, and a word of the tool's refusal.
FAULTS = {
    "another key": ("cosign verify-attestation", OTHER_KEY, "accepted signatures do not match"),
    "another key, openssl": ("openssl dgst", OTHER_KEY, "Verification failure"),
    "another statement": ("openssl dgst", "printf x >> signed", "Verification failure"),
    "another artifact": ("cosign verify-attestation", "DIGEST=$REFERRER", "no matching attestations|no attestation"),
    "a damaged file": ("model_signing verify", "printf x >> release/model.onnx", "[Hh]ash mismatch"),
    "a file too much": ("model_signing verify", "printf x > release/more", "Extra files"),
}


def commands(page: str) -> list[str]:
    """Return the commands of a page, each with the lines that continue it."""
    found = "\n".join(BLOCK.findall(page)).removeprefix("$ ").split("\n$ ")
    return [each for each in found if not each.startswith(ABSENT)]


COMMANDS = commands((ROOT / "docs/review.md").read_text(encoding="utf-8"))


@pytest.fixture
def reviewer(pushed_once: Project, holding: ContainerRegistry, tmp_path: Path) -> Project:
    """A clone with the public key, from which version 0.1.0 was published."""
    if missing := [tool for tool in TOOLS if not shutil.which(tool)]:
        pytest.skip(f"docs/review.md needs {', '.join(missing)}")
    project = with_remotes(pushed_once, tmp_path)
    project.environment |= holding.environment
    return project


def reviewed(reviewer: Project, registry: ContainerRegistry, *steps: str) -> subprocess.CompletedProcess:
    """Run commands one after another in a shell, which ends with the first one that fails."""
    address = f"{registry.host}/{REPOSITORY}"
    script = "\n".join(["set -euo pipefail", *steps]).replace("ghcr.io/owner/olive-press", address)
    return reviewer.run("bash", "-c", script, check=False, timeout=120)


def test_every_command_passes_for_a_release_of_ours(reviewer, holding):
    result = reviewed(reviewer, holding, *COMMANDS)
    assert result.returncode == 0, result.stderr[-3000:]
    for said in ("Verified OK", "Verification succeeded", "https://slsa.dev/provenance/v1"):
        assert said in result.stdout, result.stdout[-3000:]
    digest = json.loads((reviewer.folder / "statement.json").read_text())["subject"][0]["digest"]["sha256"]
    assert f"sha256:{digest}" == holding.tag("0.1.0").read_text()
    # The last command, which looks for what could load code, finds nothing.
    *_, last = result.stdout.splitlines()
    assert "release/" in last


@pytest.mark.parametrize("fault", FAULTS)
def test_what_was_changed_is_refused(reviewer, holding, fault):
    command, change, refusal = FAULTS[fault]
    at = next(number for number, each in enumerate(COMMANDS) if each.startswith(command))
    needed = [each for each in COMMANDS[: at + 1] if not each.startswith("cosign") or each.startswith(command)]
    if "$REFERRER" in change:
        needed = [*needed[:-1], next(each for each in COMMANDS if each.startswith("REFERRER")), needed[-1]]
    assert reviewed(reviewer, holding, *needed).returncode == 0
    shutil.rmtree(reviewer.folder / "release", ignore_errors=True)
    result = reviewed(reviewer, holding, *needed[:-1], change, needed[-1])
    assert result.returncode != 0
    assert re.search(refusal, result.stdout + result.stderr), result.stderr[-3000:]
