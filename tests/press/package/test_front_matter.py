"""The front matter is what the library of the Hugging Face hub reads back, and has the figures of what is shipped."""

import logging
import math
from pathlib import Path

import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard
from huggingface_hub.utils import validate_repo_id

from press.quality.vocabulary import FIGURES


@pytest.fixture
def card(metrics, render, tmp_path) -> ModelCard:
    """The card, as the hub's library loads it."""
    return loaded(render(metrics), tmp_path)


def loaded(text: str, folder: Path) -> ModelCard:
    path = folder / "README.md"
    path.write_text(text, encoding="utf-8")
    return ModelCard.load(path)


def values(card: ModelCard, data: str) -> dict[tuple[str, str], float]:
    """Map the type and the name of each figure on a data set to its value."""
    some = [each for each in card.data.eval_results if each.dataset_config == data]
    return {(each.metric_type, each.metric_name): each.metric_value for each in some}


def test_the_hub_s_library_reads_what_was_written(card, metrics, render, params, caplog):
    data = card.data.to_dict()
    results = data.pop("model-index")
    assert data == {
        "base_model": "HuggingFaceTB/SmolLM2-135M-Instruct",
        "base_model_relation": "quantized",
        "language": ["en"],
        "library_name": "onnxruntime-genai",
        "license": "apache-2.0",
        "pipeline_tag": "text-generation",
        "tags": ["onnx", f"int{params.quantize.bits}", "lora"],
    }
    validate_repo_id(card.data.base_model)
    assert [each["name"] for each in results] == [params.package.name]
    # Nothing is lost on the way: the same bytes come out again.
    assert str(card) == render(metrics)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_figures_are_those_of_the_shipped_model_on_each_text(card, metrics, params):
    assert {each.dataset_config: each.dataset_args for each in card.data.eval_results} == {
        "packing": {"data_files": params.adapter("packing").data},
        "travel": {"data_files": params.adapter("travel").data},
        "general": {"data_files": params.evaluate.general.data},
    }
    assert {(each.task_type, each.dataset_type) for each in card.data.eval_results} == {("text-generation", "json")}
    for name in params.adapters:
        assert values(card, name) == {
            (figure, f"{FIGURES[figure].label} (ONNX, {rung})"): value
            for rung, score in metrics[name]["onnx"].items()
            for figure, value in score.items()
        }
    models = {"bare": metrics["general"]["onnx"]["bare"]}
    models |= {name: metrics[name]["general"]["onnx"]["adapter"] for name in params.adapters}
    assert values(card, "general") == {
        (figure, f"{FIGURES[figure].label} (ONNX, {name})"): score[figure]
        for name, score in models.items()
        for figure in ("loss", "perplexity", "kl", "agreement")
    }


def test_the_model_index_has_the_form_of_the_hub_s_specification(metrics, render):
    """https://github.com/huggingface/hub-docs/blob/main/modelcard.md"""
    _, block, _ = render(metrics).split("---\n", 2)
    (index,) = yaml.safe_load(block)["model-index"]
    assert len(index["results"]) == 3
    for result in index["results"]:
        assert set(result) == {"task", "dataset", "metrics"}
        assert set(result["dataset"]) == {"type", "name", "config", "args"}
        for metric in result["metrics"]:
            assert set(metric) == {"type", "value", "name"}
            assert isinstance(metric["value"], float)
        assert len({metric["name"] for metric in result["metrics"]}) == len(result["metrics"])


def test_without_a_runtime_there_are_no_results(metrics, render, tmp_path):
    for name in ("packing", "travel"):
        del metrics[name]["onnx"], metrics[name]["general"]["onnx"]
    del metrics["general"]["onnx"]
    card = loaded(render(metrics), tmp_path)
    assert card.data.eval_results is None
    assert not {"model-index", "model_name"} & card.data.to_dict().keys()


def test_what_is_no_number_is_no_result(metrics, render, tmp_path):
    metrics["packing"]["onnx"]["bare"] |= {"loss": math.nan, "perplexity": math.inf}
    found = values(loaded(render(metrics), tmp_path), "packing")
    assert ("loss", "loss (ONNX, adapter)") in found
    assert not {("loss", "loss (ONNX, bare)"), ("perplexity", "perplexity (ONNX, bare)")} & found.keys()


def test_a_base_model_of_which_nothing_is_known_adds_nothing(metrics, params, render, base, tmp_path):
    (base / "LICENSE").unlink()
    unknown = params.base.package.model_copy(update={"model": None, "license": None, "language": []})
    params = params.model_copy(update={"base": params.base.model_copy(update={"package": unknown})})
    card = loaded(render(metrics, params), tmp_path)
    assert set(card.data.to_dict()) == {"library_name", "model-index", "pipeline_tag", "tags"}
    assert "for its terms" not in card.text


def test_the_hub_s_facts_are_those_of_its_card(metrics, params, render, base, tmp_path):
    # YAML 1.1 takes a bare `no` for false.
    text = "---\nlicense: other\nlicense_name: a-b\nlicense_link: LICENSE\nlanguage: ['no', en]\n---\n# A model\n"
    (base / "README.md").write_text(text, encoding="utf-8")
    hub = params.base.hub.model_copy(update={"id": "owner/model"})
    params = params.model_copy(update={"base": params.base.model_copy(update={"source": "hub", "hub": hub})})
    data = loaded(render(metrics, params), tmp_path).data
    assert (data.license, data.license_name, data.license_link) == ("other", "a-b", "LICENSE")
    assert (data.base_model, data.language) == ("owner/model", ["no", "en"])


@pytest.mark.parametrize("path", ["data/täglich: #1.jsonl", "--- data.jsonl", "x" * 300])
def test_names_that_look_like_yaml_are_kept(metrics, params, render, tmp_path, path):
    adapters = {**params.adapters, "travel": params.adapter("travel").model_copy(update={"data": path})}
    card = loaded(render(metrics, params.model_copy(update={"adapters": adapters})), tmp_path)
    travel: list[EvalResult] = [each for each in card.data.eval_results if each.dataset_config == "travel"]
    assert {each.dataset_args["data_files"] for each in travel} == {path}
