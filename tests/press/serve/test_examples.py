"""Each client of examples/ is short, and answers as the server does; C# is not compiled here."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("fastapi_offline", reason="needs `make install-serve`")

from projects import ROOT
from serving import Served

from press.serve.answering import Package
from press.serve.api import Limits

pytestmark = pytest.mark.integration
EXAMPLES = ROOT / "examples"
NPM = Path(__file__).parent / "npm"
QUESTION = "a week in Rome"


@pytest.fixture(scope="module")
def served(package: Path) -> Iterator[Served]:
    served = Served(Package(package), Limits())
    yield served
    served.close()


@pytest.fixture(scope="module")
def modules() -> Path:
    """The packages of npm/package-lock.json."""
    if not (shutil.which("npm") and shutil.which("node")):
        pytest.skip("it needs npm and node")
    with (NPM / "package.json").open("rb") as file:
        # The test processes beside this one want it as well.
        fcntl.flock(file, fcntl.LOCK_EX)
        if not (NPM / "node_modules/openai").exists():
            command = ["npm", "ci", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]
            ended = subprocess.run(command, cwd=NPM, capture_output=True, text=True, check=False, timeout=300)
            assert ended.returncode == 0, ended.stderr
    return NPM / "node_modules"


def expected(served: Served, model: str) -> str:
    question = [{"role": "user", "content": QUESTION}]
    return served.client().chat.completions.create(model=model, messages=question).choices[0].message.content


def said(command: list[str | Path], **changes: object) -> str:
    ended = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, timeout=300, **changes)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.parametrize("path", sorted(EXAMPLES.iterdir()), ids=lambda path: path.name)
def test_an_example_is_short_and_tells_the_runtimes_makers_nothing(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert path.suffix == ".mjs" or "ORT_DISABLE_TELEMETRY" in text


@pytest.mark.parametrize("model", ["travel", "packing"])
def test_the_device_answers_as_the_server_does(served, package, model):
    command = [sys.executable, EXAMPLES / "device.py", package, model, QUESTION]
    environment = {**os.environ, "PYTHONIOENCODING": "utf-8:replace"}
    assert said(command, env=environment) == expected(served, model) + "\n"


def test_the_official_client_for_node_streams_the_answer(served, modules, tmp_path):
    script = Path(shutil.copy(EXAMPLES / "client.mjs", tmp_path))
    (tmp_path / "node_modules").symlink_to(modules)
    assert said(["node", script, served.url, "packing", QUESTION]) == expected(served, "packing") + "\n"
