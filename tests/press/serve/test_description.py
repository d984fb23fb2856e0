"""A fuzzer asks all that the OpenAPI description allows, and what it does not: the server does as it says meanwhile."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("schemathesis", reason="needs `make install-serve`")

import httpx2
from serving import SECONDS, Served

from press.serve.answering import Package
from press.serve.api import Limits

pytestmark = pytest.mark.integration
ADMIN = "fedcba9876543210"
# Enough for each parameter's bounds, and for half a minute.
EXAMPLES = 5


@pytest.fixture(scope="module")
def served(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    shelf = tmp_path_factory.mktemp("shelf")
    shutil.copytree(package / "adapters" / "travel", shelf / "hotels")
    served = Served(Package(package, context=96, shelf=shelf), Limits(at_once=2, admin_keys=(ADMIN,)))
    yield served
    served.close()


def answer(served: Served, number: int) -> str:
    question = [{"role": "user", "content": f"question {number}"}]
    given = served.client().chat.completions.create(model="base", messages=question, max_tokens=8)
    return given.choices[0].message.content


def test_it_does_what_its_description_says_and_others_are_answered_as_before(served, tmp_path):
    expected = [answer(served, number) for number in range(5)]
    came, done = [], threading.Event()

    def ask() -> None:
        while not done.wait(0.5):
            came.append([answer(served, number) for number in range(5)])

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        words = ["--header", f"Authorization: Bearer {ADMIN}", "--max-examples", str(EXAMPLES), "--seed", "1"]
        words += ["--phases", "examples,coverage,fuzzing"]
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json", *words]
        # No schema says how many tokens a prompt may have.
        command += ["--exclude-checks", "positive_data_acceptance"]
        # Whoever fuzzes shares the machine with the server, which is no sign of anything.
        command += ["--suppress-health-check", "all", "--request-timeout", str(SECONDS), "--no-color"]
        ended = subprocess.run(
            command, cwd=tmp_path, env={**os.environ, "CI": "true"}, capture_output=True, text=True, check=False
        )
    finally:
        done.set()
        asking.join(SECONDS)
    assert ended.returncode == 0, ended.stdout
    assert "returned only 401" not in ended.stdout
    assert len(came) >= 2
    assert all(each == expected for each in came)


def test_what_a_path_may_be_asked_by_is_said_in_full(served):
    headers = {"Authorization": f"Bearer {ADMIN}"}
    refused = httpx2.put(f"{served.url}/v1/adapters", headers=headers, timeout=SECONDS)
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, POST")
