"""The tiers are held by force: each thing that a unit test must not do is planted, and seen."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from projects import ROOT

pytestmark = pytest.mark.integration
MODEL = (
    "from transformers import LlamaConfig, LlamaForCausalLM\n"
    "    LlamaForCausalLM(LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=8))"
)
FAULTS = {
    "a program": "import subprocess\n    subprocess.run(['true'])",
    "a program that is spawned": "import os\n    os.posix_spawn('/bin/true', ['true'], {})",
    "a shell": "import os\n    os.system('true')",
    "a fork": "import os\n    os.fork() or os._exit(0)",
    "a process that is forked": "import multiprocessing\n"
    "    multiprocessing.get_context('fork').Process(target=print).start()",
    "a process that is spawned": "import multiprocessing\n"
    "    multiprocessing.get_context('spawn').Process(target=print).start()",
    "a program whose failure is expected": "import subprocess\n    try:\n        subprocess.run(['true'])\n"
    "    except Exception:\n        pass",
    "a model": MODEL,
    "olive": "import olive",
}
# What takes seconds to import, by its name, but empty and first in the path.
STAND_INS = ("olive.py", "transformers/__init__.py", "transformers/modeling_utils.py")


def run(folder: Path, text: str, *words: str) -> subprocess.CompletedProcess:
    (folder / "test_planted.py").write_text(text, encoding="utf-8")
    (folder / "conftest.py").write_text("pytest_plugins = ['tiers']\n", encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder)]
    command += ["-p", "no:cacheprovider", *words, str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def stand_in(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()


def test_what_a_unit_test_must_not_do_fails_it_and_nothing_else(tmp_path):
    stand_in(tmp_path, "olive.py")
    names = dict(zip(FAULTS, "abcdefghi", strict=True))
    planted = "".join(f"def test_{names[fault]}():\n    {body}\n\n\n" for fault, body in FAULTS.items())
    marked = planted.replace("def test_", "@pytest.mark.integration\ndef test_marked_")
    # A model once more, of what the marked tests have imported.
    last = f"def test_fine():\n    pass\n\n\ndef test_again():\n    {MODEL}\n"
    result = run(tmp_path, f"import pytest\n\n\n{planted}{marked}{last}")
    assert "test_again - Failed: a unit test calls transformers.modeling_utils.PreTrainedModel" in result.stdout
    assert result.stdout.count("Failed: a unit test ") == len(FAULTS) + 1, result.stdout
    for fault, name in names.items():
        assert f"test_{name} - Failed: a unit test " in result.stdout, fault
    assert f"{len(FAULTS) + 1} failed, {len(FAULTS) + 1} passed" in result.stdout


def test_what_a_fixture_does_counts_whatever_its_scope(tmp_path):
    text = (
        "import subprocess\n\nimport pytest\n\n\n@pytest.fixture(scope='session')\ndef made():\n"
        "    subprocess.run(['true'])\n\n\ndef test_it(made):\n    pass\n"
    )
    assert "1 error" in run(tmp_path, text).stdout


@pytest.mark.parametrize(("line", "imported"), [("pytestmark = pytest.mark.integration", False), ("", True)])
def test_a_file_of_another_tier_is_not_imported_for_unit_tests(tmp_path, line, imported):
    text = f"import pytest\n\n{line}\nprint('imported')\n\n\ndef test_it():\n    pass\n"
    result = run(tmp_path, text, "-m", "unit", "-s")
    assert ("imported" in result.stdout) is imported


def test_a_file_of_unit_tests_that_takes_seconds_to_import_is_named(tmp_path):
    stand_in(tmp_path, *STAND_INS)
    text = "import olive\nimport transformers.modeling_utils\n\n\ndef test_it():\n    pass\n"
    told = run(tmp_path, text, "-m", "unit").stdout
    assert "test_planted.py imports olive, transformers.modeling_utils, which takes seconds" in told


def test_every_test_is_in_one_tier(request):
    """And none that the commands do not run, of which two name their file."""
    counts = [
        sum(item.get_closest_marker(tier) is not None for tier in ("unit", "integration", "emulated", "default_model"))
        for item in request.session.items
    ]
    assert set(counts) == {1}
    for tier, name in (("emulated", "test_portable.py"), ("default_model", "test_default_model.py")):
        assert {item.path.name for item in request.session.items if item.get_closest_marker(tier)} <= {name}
