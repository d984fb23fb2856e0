"""The tiers of the tests, held by force: a unit test that starts a process or makes a model fails.

A hook of CPython's (https://docs.python.org/3/library/audit_events.html) hears of every process that is started, from
whatever library. What makes a model is replaced while a unit test runs.
"""

import re
import sys
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

from press.core import apart

UNIT = "unit"
TIERS = (UNIT, "integration", "emulated", "default_model")
# A file all of whose tests are of another tier says so in such a line.
OTHER_TIER = re.compile(rf"^pytestmark = \[?pytest\.mark\.({'|'.join(TIERS[1:])})\b", re.MULTILINE)

# Fixtures of conftest.py that make a model or start git and DVC: what takes one is no unit test.
MADE = {"tiny_base", "tiny_quantized", "default_project"}

PROCESSES = {"subprocess.Popen", "os.posix_spawn", "os.fork", "os.forkpty", "os.system", "os.exec"}
# What makes a model, or starts a process without a word to the hook, by the module that has it.
MAKERS = {
    "transformers.modeling_utils": ("PreTrainedModel", "__init__"),
    "onnxruntime_genai": ("Model", "__init__"),
    "multiprocessing.util": ("spawnv_passfds",),
}
MODELS = {"transformers.modeling_utils", "onnxruntime_genai", "olive"}
# What a file with unit tests must not import either, since `make test-unit` waits for it in each worker.
SLOW = {"transformers.modeling_utils", "olive"}


class Guard:
    """What refuses a unit test what it must not do; `name` is that of the test while one runs."""

    name: str | None = None

    def refuse(self, what: str) -> NoReturn:
        # Derived from BaseException, so that the code under test does not take it for a failure of its own.
        pytest.fail(f"a unit test {what}: mark it with pytest.mark.integration ({self.name})", pytrace=False)

    def hear(self, event: str, arguments: tuple) -> None:
        if self.name is None:
            return
        if event in PROCESSES:
            self.refuse(f"starts a process ({event} {arguments[0] if arguments else ''})")
        if event == "import" and arguments[0] in MODELS:
            self.refuse(f"imports {arguments[0]}, which takes seconds")


GUARD = Guard()


def pytest_configure() -> None:
    # A hook cannot be taken away again.
    sys.addaudithook(GUARD.hear)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import a file without unit tests where only those are asked for: it may take seconds."""
    if config.option.markexpr == UNIT and collection_path.suffix == ".py":
        return True if OTHER_TIER.search(collection_path.read_text(encoding="utf-8")) else None
    return None


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, object, pytest.CollectReport]:
    """Fail a file with unit tests that imports what takes seconds, where only those are asked for."""
    before = SLOW.intersection(sys.modules)
    report = yield
    if collector.config.option.markexpr == UNIT and (found := sorted(SLOW.intersection(sys.modules) - before)):
        report.outcome = "failed"
        report.longrepr = (
            f"{collector.nodeid} imports {', '.join(found)}, which takes seconds: let the tests that need it do that, "
            "or mark the file with pytest.mark.integration"
        )
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Make a unit test of what is not marked otherwise."""
    for item in items:
        if not any(item.get_closest_marker(tier) for tier in TIERS):
            item.add_marker(TIERS[1] if MADE.intersection(item.fixturenames) else UNIT)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _guarded(item))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    return (yield from _guarded(item))


def _guarded(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker(UNIT) is None:
        return (yield)
    GUARD.name = item.nodeid
    try:
        with pytest.MonkeyPatch.context() as patch:
            # What has a process of its own does the same here, in this one.
            patch.setattr(apart.Apart, "begin", lambda self, *asked: partial(self._make(*self._given), *asked))
            for name, (*parents, member) in MAKERS.items():
                if name in sys.modules:
                    owner = sys.modules[name]
                    for parent in parents:
                        owner = getattr(owner, parent)
                    patch.setattr(owner, member, _refusing(name, *parents))
            return (yield)
    finally:
        GUARD.name = None


def _refusing(*names: str):
    def refuse(*_: object, **__: object) -> NoReturn:
        GUARD.refuse(f"calls {'.'.join(names)}")

    return refuse
