"""A preset is laid over the committed params.yaml, and never over a user's own changes."""

import copy
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from press.core.errors import UserError
from press.params import checks, preset, resolving, settings

ROOT = Path(__file__).parents[3]
MAX_STEPS = settings.load(ROOT / "params.yaml").adapter("travel").training.max_steps
PURPOSE = re.search(r"max_steps: \d+ +# (.*)", (ROOT / "params.yaml").read_text(encoding="utf-8"))[1]
PRESETS = sorted(path.stem for path in (ROOT / "presets").glob("*.yaml"))


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git repository with the project's params.yaml committed, and two presets."""
    monkeypatch.chdir(tmp_path)
    shutil.copyfile(ROOT / "params.yaml", "params.yaml")
    Path("presets").mkdir()
    Path("presets/quick.yaml").write_text("every_adapter:\n  training: {max_steps: 9}\n", encoding="utf-8")
    Path("presets/seeded.yaml").write_text("seed: 7  # another\n", encoding="utf-8")
    git("init", "--quiet")
    git("add", "params.yaml")
    git("-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "--quiet", "--message", "test")
    return tmp_path


def git(*words: str) -> None:
    subprocess.run(["git", *words], check=True, capture_output=True)


def lay(name: str) -> dict:
    """Lay a preset over params.yaml, as the command does, and return the parameters."""
    text = preset.apply(name)
    preset.write(text)
    return yaml.safe_load(text)


def command(*words: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "press.params.preset", *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.integration
def test_only_the_preset_s_values_change_and_comments_stay(repository):
    expected = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    expected["every_adapter"]["training"]["max_steps"] = 9
    before = lines()
    assert lay("quick") == expected
    pairs = [pair for pair in zip(before, lines(), strict=True) if pair[0] != pair[1]]
    assert pairs == [([f"max_steps: {MAX_STEPS}", PURPOSE], ["max_steps: 9", PURPOSE])]


def lines() -> list[list[str]]:
    """Return the value and the comment of each line of params.yaml; an explicit null is as good as none."""
    text = Path("params.yaml").read_text(encoding="utf-8").replace(": null", ": ")
    return [[part.strip() for part in line.split("#")] for line in text.splitlines()]


@pytest.mark.integration
def test_the_second_preset_alone_is_left_after_another(repository):
    committed = yaml.safe_load(Path("params.yaml").read_text(encoding="utf-8"))
    lay("quick")
    assert lay("seeded") == {**committed, "seed": 7}
    assert lay("seeded") == {**committed, "seed": 7}


@pytest.mark.integration
def test_an_unknown_preset_names_those_there_are(repository):
    for name in ("slow", "", "../params"):
        with pytest.raises(UserError) as caught:
            preset.apply(name)
        assert str(caught.value) == f"there is no preset {name!r} in presets, only quick, seeded"


@pytest.mark.integration
def test_changes_that_are_not_committed_are_refused_and_kept(repository):
    own = Path("params.yaml").read_text(encoding="utf-8") + "# mine\n"
    Path("params.yaml").write_text(own, encoding="utf-8")
    result = command("quick")
    assert result.returncode == 1
    assert result.stderr == (
        "error: params.yaml has changes that are not committed: commit them, or take them back with "
        "`git restore params.yaml`, before you lay a preset over\n"
    )
    assert Path("params.yaml").read_text(encoding="utf-8") == own


@pytest.mark.integration
def test_parameters_that_were_never_committed_are_refused(repository):
    shutil.rmtree(".git")
    with pytest.raises(UserError, match=r"^params\.yaml is not committed in git"):
        preset.apply("quick")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("seed: [", "is not valid YAML at line 1, column 8: "),
        ("seed: 1\nseed: 2\n", "line 2: seed is there twice"),
        ("- seed\n", "must be a block of keys, those of params.yaml that it changes"),
        ("false\n", "must be a block of keys, those of params.yaml that it changes"),
        ("0\n", "must be a block of keys, those of params.yaml that it changes"),
        ("''\n", "must be a block of keys, those of params.yaml that it changes"),
        ("null: 1\n", "line 1: it has a key that is null"),
    ],
)
def test_a_preset_that_is_no_yaml_mapping_is_refused(repository, text, reason):
    Path("presets/broken.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        preset.apply("broken")
    assert str(caught.value).startswith(f"presets/broken.yaml {reason}")


def test_committed_parameters_that_cannot_be_read_are_refused_in_a_sentence():
    with pytest.raises(UserError, match=r"^params\.yaml line 2: seed is there twice"):
        preset.edited("seed: 1\nseed: 2\n", {})


@pytest.mark.integration
def test_nothing_is_written_through_a_link(repository, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "file"
    other.write_text("theirs", encoding="utf-8")
    Path(".params.yaml.partial").symlink_to(other)
    lay("quick")
    assert other.read_text(encoding="utf-8") == "theirs"
    assert not Path("params.yaml").is_symlink()


@pytest.mark.integration
def test_the_command_says_what_is_wrong_with_the_resulting_parameters(repository):
    Path("presets/wrong.yaml").write_text("threads: none\n", encoding="utf-8")
    result = command("wrong")
    assert (result.returncode, result.stderr) == (
        1,
        "error: params.yaml with the preset: threads is 'none', but must be an integer\n",
    )


@pytest.mark.integration
@pytest.mark.parametrize("name", PRESETS)
def test_the_project_s_parameters_are_valid_with_each_of_its_presets(repository, name):
    shutil.copytree(ROOT / "presets", "presets", dirs_exist_ok=True)
    values = lay(name)
    found = resolving.Resolved()
    checks.check_gates(settings.validated(found), found)
    own = yaml.safe_load(Path(f"presets/{name}.yaml").read_text(encoding="utf-8"))
    assert resolving.overlay(copy.deepcopy(values), own) == values


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_is_short(name):
    lines = (ROOT / f"presets/{name}.yaml").read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line and not line.startswith("#")]) <= 10


REPLACING = """
adapters:
  travel: null
  hotel: {data: data/travel.jsonl, response_schema: {type: object}}
targets: {cpu: null, gpu: {device: gpu, provider: CUDAExecutionProvider}}
gates:
  losses: null
  general: null
  answers: {looping: null, ended: "{adapter}.ended.adapter >= 0.5"}
  own: {days: null, size: package.bytes <= 1e9, hotel: hotel.onnx.adapter.valid >= 0.9}
"""


@pytest.mark.integration
def test_a_preset_replaces_and_removes_adapters_targets_and_gates(repository):
    Path("presets/other.yaml").write_text(REPLACING, encoding="utf-8")
    values = lay("other")
    assert (list(values["adapters"]), list(values["targets"])) == (["packing", "hotel"], ["gpu"])
    params = settings.load()
    assert params.adapter("hotel").training.max_steps == MAX_STEPS
    assert params.target("gpu").provider == "CUDAExecutionProvider"
    assert params.gates == [
        "{adapter}.ended.adapter >= 0.5",
        "hotel.onnx.adapter.valid >= 0.95",
        "packing.onnx.adapter.valid >= 0.95",
        "hotel.onnx.adapter.valid >= 0.9",
        "package.bytes <= 1e9",
    ]


@pytest.mark.integration
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "adapters: {hotel: null}\n",
            "presets/wrong.yaml: adapters.hotel is null, which removes it, but there is only travel, packing",
        ),
        ("targets: {npu: null}\n", "presets/wrong.yaml: targets.npu is null, which removes it, but there is only cpu"),
        (
            "adapters: {travel: null, packing: null}\n",
            "presets/wrong.yaml: adapters would be empty, but must have at least one entry",
        ),
        (
            "adapters: {packing: null}\n",
            "params.yaml with the preset: gates.own.days: 'packing.fields.days >= 0.7': packing.fields.days is about "
            "'packing', but there are only the adapters travel",
        ),
        ("adapters: [travel]\n", "params.yaml with the preset: adapters is ['travel'], but must be a block of keys"),
        ("targets: null\n", "params.yaml with the preset: targets is null, but must be a block of keys"),
        (
            "gates: [package.bytes <= 1]\n",
            "params.yaml with the preset: gates is ['package.bytes <= 1'], but must be a",
        ),
    ],
)
def test_a_preset_that_leaves_something_out_of_place_is_refused(repository, text, sentence):
    before = Path("params.yaml").read_text(encoding="utf-8")
    Path("presets/wrong.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        preset.write(preset.apply("wrong"))
    assert str(caught.value).startswith(sentence)
    assert Path("params.yaml").read_text(encoding="utf-8") == before


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_says_how_it_is_run_and_stands_in_the_docs(name):
    header = (ROOT / f"presets/{name}.yaml").read_text(encoding="utf-8").partition("\n\n")[0]
    assert header.splitlines()[-1] == f"#   make repro PRESET={name}"
    assert f"\n| `{name}` | " in (ROOT / "docs/models.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in PRESETS if name not in ("tiny", "int8")])
def test_each_preset_of_another_model_pins_it_and_says_what_it_fetches(name):
    text = (ROOT / f"presets/{name}.yaml").read_text(encoding="utf-8")
    base = yaml.safe_load(text)["base"]
    assert base["source"] == "hub"
    assert re.fullmatch(r"[0-9a-f]{40}", base["hub"]["revision"])
    assert re.search(r"Fetches (# )?\d\.\d GB", text.partition("\n\n")[0].replace("\n", " "))


@pytest.mark.integration
def test_an_edited_preset_does_not_lock_out_the_next(repository):
    preset.write(preset.apply("quick"))
    Path("presets/quick.yaml").write_text("seed: 8\n", encoding="utf-8")
    preset.write(preset.apply("seeded"))
    assert settings.load().seed == 7


@pytest.mark.integration
def test_a_preset_that_does_not_fit_leaves_params_as_they_were(repository):
    before = Path("params.yaml").read_text(encoding="utf-8")
    Path("presets/wrong.yaml").write_text("threads: none\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"^params\.yaml with the preset: threads is"):
        preset.write(preset.apply("wrong"))
    assert Path("params.yaml").read_text(encoding="utf-8") == before
    assert not list(Path().glob(".params*"))
