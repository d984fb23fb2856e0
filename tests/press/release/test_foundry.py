"""A release in Foundry Local's cache: each model by its name, with its prompt."""

import shutil
from pathlib import Path

import pytest

from press.core import files
from press.core.errors import UserError
from press.release import foundry
from press.release.package import Package

pytestmark = pytest.mark.integration
ADAPTER = {"template": "<q>{question}</q>{response}", "response_schema": None}
# A template's last line has no end.
PROMPT = "<|im_start|>user\n{Content}<|im_end|>\n<|im_start|>assistant"
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}<|im_start|>assistant"
)


@pytest.fixture
def released(tiny_quantized: Path, tmp_path: Path) -> Package:
    """A package's files without weights: with the adapters travel, and packing, which is merged."""
    folder = tmp_path / "release"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (tiny_quantized / name).exists():
            shutil.copyfile(tiny_quantized / name, folder / name)
    (folder / "chat_template.jinja").write_text(TEMPLATE)
    for name in ("travel", "packing"):
        (folder / "adapters" / name).mkdir(parents=True)
        files.write_json(folder / "adapters" / name / "adapter.json", ADAPTER)
    decoder = {"filename": "model.onnx", "inputs": {"input_ids": "i"}, "outputs": {"logits": "o"}}
    config = {"model": {"type": "llama", "context_length": 8, "vocab_size": 300, "decoder": decoder}}
    for place in (folder, folder / "adapters/packing"):
        files.write_json(place / "genai_config.json", config)
        (place / "model.onnx").write_text(f"the graph of {place.name}")
        (place / "model.onnx.data").write_text("its weights")
    files.write_json(folder / "manifest.json", {"name": "trips"})
    return Package(folder, {}, files.digests(folder))


def test_each_model_is_there_by_its_name_with_its_prompt(released, tmp_path):
    written = foundry.write(released, tmp_path / "cache", "trips")
    # The adapter that is not merged is none of Foundry Local's models.
    assert sorted(each.name for each in written.iterdir()) == ["trips", "trips-packing"]
    for name, prompt, graph in (("trips", PROMPT, "release"), ("trips-packing", "<q>{Content}</q>", "packing")):
        model = written / name
        described = files.read_json(model / "inference_model.json")
        assert described == {"Name": name, "PromptTemplate": {"assistant": "{Content}", "prompt": prompt}}
        assert {"genai_config.json", "tokenizer.json", "model.onnx.data"} <= {each.name for each in model.iterdir()}
        assert (model / "model.onnx").read_text() == f"the graph of {graph}"
    assert foundry.is_ours(written)
    assert foundry.write(released, tmp_path / "cache", "trips") == written


def test_a_folder_of_somebody_elses_stays(released, tmp_path):
    (tmp_path / "cache/trips").mkdir(parents=True)
    (tmp_path / "cache/trips/model.onnx").write_text("theirs")
    with pytest.raises(UserError, match="is not what"):
        foundry.write(released, tmp_path / "cache", "trips")
    assert (tmp_path / "cache/trips/model.onnx").read_text() == "theirs"


def test_a_model_without_a_chat_template_is_given_the_question_alone(released):
    (released.folder / "chat_template.jinja").unlink()
    config = files.read_json(released.folder / "tokenizer_config.json")
    config.pop("chat_template", None)
    files.write_json(released.folder / "tokenizer_config.json", config)
    assert foundry.prompt(released.folder) == "{Content}"
    (released.folder / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="cannot be loaded"):
        foundry.prompt(released.folder)
