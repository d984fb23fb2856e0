"""The model card states what is in the package, in words that nothing in them can change the meaning of."""

import re

import pytest

from press.params import gates, schema
from press.quality import vocabulary


def test_the_same_package_has_the_same_card(metrics, render):
    results = [gates.Result("a.b <= 1", True, "0.5 against 1")]
    text = render(metrics, results=results)
    assert render(metrics, results=results) == text
    assert text.endswith(".\n")
    assert not re.search(r"[ \t]$|\n{3}|[{%}]{2}", text, re.MULTILINE)


def test_figures_are_called_as_in_the_vocabulary(metrics, render):
    columns = " | ".join(figure.short for figure in vocabulary.FIGURES.values())
    table = f"| text | model | {columns} |\n|---|---|{'---|' * len(vocabulary.FIGURES)}\n| packing | PyTorch, base |"
    assert table in render(metrics)


def test_every_rung_has_its_line(metrics, render):
    lines = render(metrics).splitlines()
    for line in (
        "| packing | PyTorch, base | 1.000 | 101.00 | – | – | – | – | – | – |",
        "| packing | PyTorch, quantized | 1.125 | 101.12 | 0.0112 | 88.8% | – | – | – | – |",
        "| packing | PyTorch, lm_head | 1.250 | 101.25 | 0.0125 | 87.5% | – | – | – | – |",
        "| packing | ONNX, bare | 1.500 | 101.50 | 0.0150 | 85.0% | 3.0% | 0.0% | 2.0% | – |",
        "| packing | PyTorch, adapter | 1.375 | 101.38 | 0.0138 | 86.2% | 97.0% | 11.0% | 64.0% | – |",
        "| packing | ONNX, adapter | 1.625 | 101.62 | 0.0163 | 83.8% | 97.0% | 11.0% | 64.0% | – |",
        "| travel | ONNX, adapter | 2.625 | 102.62 | 0.0262 | 73.8% | – | – | – | 31.0% |",
        "| general | ONNX, bare | 3.375 | 103.38 | 0.0338 | 66.2% | – | – | – | – |",
        "| general | ONNX, packing | 2.125 | 102.12 | 0.0213 | 78.8% | – | – | – | – |",
    ):
        assert line in lines
    # The general text's come last, those with adapters behind the others.
    assert [line.split(" | ")[1] for line in lines if line.startswith("| general |")][3:] == [
        "ONNX, bare",
        "PyTorch, packing",
        "ONNX, packing",
        "PyTorch, travel",
        "ONNX, travel",
    ]
    assert sum(" | PyTorch, " in line or " | ONNX, " in line for line in lines) == 6 + 6 + 4 + 2 + 2


def test_what_an_adapter_of_pairs_prefers_is_said_where_there_is_one(metrics, render):
    assert "prefers" not in render(metrics)
    for engine, accuracy in (("onnx", 0.9), ("pytorch", 0.875)):
        metrics["packing"][engine]["adapter"] |= {"reward_accuracy": accuracy, "reward_margin": 1.25}
    lines = render(metrics).splitlines()
    for engine, share in (("ONNX", "90%"), ("PyTorch", "88%")):
        assert (
            f"- packing: in {engine}, it prefers the chosen answer of {share} of the held-out pairs; mean reward "
            "margin +1.250 (beta 0.1)."
        ) in lines


def test_each_step_is_named_with_its_cost(metrics, render):
    lines = render(metrics).splitlines()
    for line in (
        "- packing: weights (int4) +0.5000, embedding and lm_head (int8) +0.2500, activations -0.1250, "
        "adapter's conversion +0.0010.",
        "- general: weights (int4) +0.1000, embedding and lm_head (int8) +0.0100, activations +0.0010.",
    ):
        assert line in lines


def test_shares_of_answers_and_what_was_forgotten_are_said(metrics, render):
    lines = render(metrics).splitlines()
    assert "- travel: 100% of the answers end by themselves, of the bare model's 50%." in lines
    assert "- travel: 0% of the answers loop, of the bare model's 25%." in lines
    forgot = "+0.750 nats a token against the model without it (perplexity 102.1, 103.4); above 0, it forgot."
    metrics["packing"]["general"]["onnx"]["adapter"] |= {"loss": 4.125}
    lines = render(metrics).splitlines()
    assert f"- packing: on the general text, the adapter's loss is {forgot}" in lines


def test_right_fields_are_told(metrics, render):
    metrics["packing"]["fields"] = {"days": 0.888889, "clothes": {"socks": 0.611111}}
    line = "- packing: of the adapter's answers, 89% have the right `days`, 61% have the right `clothes.socks`."
    assert line in render(metrics).splitlines()


def test_it_says_by_which_settings_answers_were_given_and_which_are_held_to_a_schema(metrics, render):
    lines = render(metrics).splitlines()
    assert "- packing: greedy, repetition_penalty 1.1, at most 160 tokens." in lines
    assert [line.split("`")[1] for line in lines if "`set_guidance` holds them" in line] == ["packing"]


def test_benchmark_tasks_have_a_table_where_any_were_run(metrics, render):
    assert "Benchmark tasks" not in render(metrics)
    metrics["tasks"] = {"arc_easy": {"acc": {"bare": 0.5, "travel": 0.25}}}
    lines = render(metrics).splitlines()
    assert "| task | metric | bare | packing | travel |" in lines
    assert "| arc_easy | acc | 0.5000 | – | 0.2500 |" in lines


def test_sizes_are_in_megabytes(metrics, render):
    lines = render(metrics).splitlines()
    for line in (
        "| base checkpoint | 2.0 |",
        "| ONNX model | 0.6 |",
        "| adapter travel | 0.2 |",
        "| package | 0.9 |",
    ):
        assert line in lines


def test_without_onnx_figures_their_lines_are_left_out(metrics, render):
    for name in ("packing", "travel"):
        for key in ("ended", "looping", "onnx"):
            metrics[name].pop(key, None)
        del metrics[name]["general"]["onnx"]
    del metrics["general"]["onnx"]
    text = render(metrics)
    assert "ONNX, " not in text
    assert "of the answers" not in text
    assert "- travel: on the general text, the adapter's loss is -0.125 nats" in text


def test_the_card_names_base_model_quantization_and_adapters(metrics, params, render):
    text = render(metrics)
    quantize, lora = params.quantize, params.adapter("travel").lora
    assert f"quantized to {quantize.bits} bits by {quantize.algorithm} (group size {quantize.group_size})" in text
    assert f"- `travel`: LoRA of rank {lora.rank} (alpha {lora.alpha:g}) on {', '.join(lora.target_modules)}; " in text
    assert f"{params.adapter('travel').training.max_steps} steps on {params.adapter('travel').data}." in text
    first = next(iter(params.adapters))
    assert f'adapters.load("cpu/adapters/{first}/adapter.onnx_adapter", "{first}")' in text


def test_the_card_names_the_method(metrics, params, render):
    travel = params.adapter("travel")
    travel = travel.model_copy(update={"lora": travel.lora.model_copy(update={"method": "rslora"})})
    params = params.model_copy(update={"adapters": {**params.adapters, "travel": travel}})
    assert f"- `travel`: rsLoRA of rank {travel.lora.rank}" in render(metrics, params)


def test_a_description_with_a_full_stop_or_braces_is_kept_as_it_is(metrics, params, render):
    package = params.package.model_copy(update={"description": "A {tiny} model."})
    text = render(metrics, params.model_copy(update={"package": package}))
    assert "A {tiny} model.\n" in text


def test_each_gate_is_said_to_be_passed_or_not(metrics, render):
    results = [
        gates.Result("a.b <= 1", True, "0.5 against 1"),
        gates.Result("a.c <= 1", False, "2; on '`*x*`'"),
    ]
    lines = render(metrics, results=results).splitlines()
    assert "- passed: `a.b <= 1` (0.5 against 1)" in lines
    assert "- NOT passed: `a.c <= 1` (`2; on ''*x*''`)" in lines


PROMPTS = (
    "`*x*` **bold** | a | b |",
    "<script>alert('x')</script> <!-- & &lt;",
    "![i](http://evil.example/i.png) [[link]] <http://evil.example>",
    "---\\n# title\\n```python",
    "{{ 7 * 7 }} {% raw %} {x} $x$ \\",
)


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_prompt_that_looks_like_markdown_is_shown_as_it_is(metrics, render, prompt):
    passed = gates.Result("a.b <= 1", True, "0.5 against 1")
    failed = gates.Result("a.c <= 1", False, f"2 against 1, 1 too much; on {prompt!r} (2 against 1)")
    text, plain = (render(metrics, results=[passed, result]) for result in (failed, passed))
    shown = failed.reason.replace("`", "'")
    (line,) = set(text.splitlines()) - set(plain.splitlines())
    # One line, all of it in a span of code, which nothing but a ` ends.
    assert line == f"- NOT passed: `a.c <= 1` (`{shown}`)"
    assert line.count("`") == 4


def test_without_gates_the_card_says_so(metrics, render):
    assert "## Gates\n\nNone.\n" in render(metrics)


def test_terms_are_where_the_licence_files_are(metrics, render, base):
    assert ", embedding and lm_head in int8.\nSee LICENSE in the package for its terms.\n" in render(metrics)
    (base / "LICENCE.txt").touch()
    assert "\nSee LICENCE.txt and LICENSE in the package for its terms.\n" in render(metrics)
    for path in base.iterdir():
        path.unlink()
    (base / "LICENSES").mkdir()
    assert "for its terms" not in render(metrics)


def test_the_use_of_merged_adapters_is_that_of_models(metrics, params, render):
    target = params.target("cpu").model_copy(update={"adapters": "merged"})
    text = render(metrics, params.model_copy(update={"targets": {"cpu": target}}))
    assert 'og.Model("cpu/adapters/packing")' in text
    assert "og.Adapters" not in text
    assert "og.Adapters" in render(metrics)


def test_passes_of_olive_s_own_are_told(metrics, params, render):
    assert "Olive's" not in render(metrics)
    given = {
        "before_quantize": [{"type": "QuaRot"}],
        "after_quantize": [],
        "after_capture": [{"type": "GraphSurgeries"}],
    }
    text = render(metrics, params.model_copy(update={"passes": schema.Passes.model_validate(given)}))
    assert "in int8; Olive's QuaRot before quantize; GraphSurgeries after capture.\n" in text


def test_layers_of_higher_precision_are_told(metrics, params, render):
    precision = params.quantize.mixed_precision.model_copy(update={"method": "k_quant_down"})
    quantize = params.quantize.model_copy(update={"mixed_precision": precision})
    text = render(metrics, params.model_copy(update={"quantize": quantize}))
    assert "quantized to 4 bits (8 in the layers that k_quant_down chooses) by awq" in " ".join(text.split())
    assert "weights (int4 and int8) " in text
