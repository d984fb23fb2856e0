"""A killed training is taken up only under the same inputs: data, base, parameters, libraries and code."""

from pathlib import Path

import pytest

from press.core import files
from press.training import finetuning

FILES = {
    "base/model.safetensors": "weights",
    "prepared/train.jsonl": "{}",
    "prepared/heldout.jsonl": "{}",
    "reports/environment/finetune.txt": "torch==1\n",
    "reports/code/finetune.txt": "0" * 64,
}
TRAINER = {"type": "LoRAOnQuantized", "seed": 1}


@pytest.fixture(autouse=True)
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with all that a training depends on."""
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")


def fingerprint(trainer: dict = TRAINER, mode: str = "portable", processes: int = 1) -> str:
    return finetuning.fingerprint(trainer, mode, processes, files.folder_digest(Path("base")), Path("prepared"))


@pytest.mark.parametrize("name", FILES)
def test_each_file_counts(name):
    before = fingerprint()
    Path(name).write_text("something else", encoding="utf-8")
    assert fingerprint() != before


@pytest.mark.parametrize("change", [{"trainer": {**TRAINER, "seed": 2}}, {"mode": "native"}, {"processes": 2}])
def test_each_parameter_counts(change):
    assert fingerprint(**change) != fingerprint()


def test_checkpoints_of_the_same_inputs_stay_and_those_of_others_go():
    resumed = Path("resumed")
    finetuning.discard_other_checkpoints(resumed, fingerprint())
    (resumed / "trainer").mkdir()
    finetuning.discard_other_checkpoints(resumed, fingerprint())
    assert (resumed / "trainer").exists()
    Path("reports/code/finetune.txt").write_text("1" * 64, encoding="utf-8")
    finetuning.discard_other_checkpoints(resumed, fingerprint())
    assert not (resumed / "trainer").exists()
