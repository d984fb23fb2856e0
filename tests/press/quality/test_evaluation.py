"""The ladder of a tiny model, from prepared examples to the package: the same bytes every time, and what they say."""

import json
import shutil
from pathlib import Path

import parity
import pytest
from projects import ROOT
from transformers import AutoTokenizer

from press.core import files
from press.core.errors import UserError
from press.data import answers, jsonl
from press.model import checkpoints, device_tokenizer, packaged
from press.params import settings
from press.quality import evaluation, heldout, ladder, vocabulary
from press.training import asking, preparation

pytestmark = pytest.mark.integration
TARGET = "cpu"
BARE = 2
ALL = {"pytorch_answers": True, "pytorch_forgetting": True, "pytorch_head": True}
NOTHING = dict.fromkeys(ALL, False)
PROMPTS = [f"{days} days in {place}" for days in (2, 3, 5) for place in ("Rome", "the Alps", "Tromsø")]


@pytest.fixture(scope="module")
def params() -> settings.Settings:
    """The default parameters with one adapter, a short text, and a target that computes what PyTorch does."""
    given = settings.load(ROOT / "params.yaml")
    general = given.evaluate.general.model_copy(update={"rows": 3, "row_tokens": 32})
    changes = {"data": "trips.jsonl", "heldout": 0.5, "samples": PROMPTS[:1], "response_schema": {"type": "object"}}
    return given.model_copy(
        update={
            "adapters": {"packing": given.adapter("packing").model_copy(update=changes)},
            "targets": {TARGET: parity.TARGET.model_copy(update={"precision": "int8"})},
            "evaluate": given.evaluate.model_copy(update={"bare_answers": BARE, "general": general, **ALL}),
        }
    )


@pytest.fixture(scope="module")
def built(tiny_base: Path, tiny_quantized: Path, params: settings.Settings, tmp_path_factory) -> Path:
    """A folder with all that `evaluate` reads, of a model whose tables of embedding and head are in int8."""
    folder = tmp_path_factory.mktemp("built")
    captured, converted = folder / "models/captured" / TARGET, folder / "models/converted" / TARGET / "packing"
    for path in (captured.parent, converted, folder / "prepared/packing"):
        path.mkdir(parents=True)
    for name, source in (("base", tiny_base), ("quantized", tiny_quantized)):
        (folder / "models" / name).symlink_to(source)
    for name in ("data", "passes"):
        (folder / name).symlink_to(ROOT / name)
    lines = [json.dumps({"prompt": prompt, "response": '{"days": 2}'}) + "\n" for prompt in PROMPTS]
    (folder / "trips.jsonl").write_text("".join(lines), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        shutil.move(parity.captured_to(folder, tiny_quantized, "int8"), captured)
        adapter = parity.random_adapter(tiny_quantized, folder / "models/adapters/packing", 4, ["q_proj", "down_proj"])
        parity.converted(adapter, captured / "lora_inputs.json", converted / "adapter.onnx_adapter")
        spec = params.adapter("packing")
        tokenizer = AutoTokenizer.from_pretrained(tiny_base)
        heldout = preparation.prepare(spec, tokenizer, checkpoints.eos_ids(tiny_base)).heldout
    jsonl.write(folder / "prepared/packing/heldout.jsonl", heldout)
    about = {
        "template": spec.template,
        "samples": asking.render_samples(spec, spec.template),
        "response_schema": {"type": "object"},
        "generation": packaged.generation({"max_new_tokens": 4}),
    }
    files.write_json(folder / "prepared/packing/adapter.json", about)
    return folder


@pytest.fixture
def evaluated(built: Path, params: settings.Settings, monkeypatch, tmp_path) -> tuple[dict, Path]:
    """The metrics, and the folder with the other reports."""
    monkeypatch.chdir(built)
    folder = tmp_path / "reports"
    folder.mkdir()
    return evaluation.evaluate(TARGET, params, folder), folder


def test_the_same_inputs_give_the_same_bytes_and_nothing_else_stays(evaluated, params, tmp_path):
    metrics, folder = evaluated
    again = tmp_path / "again"
    again.mkdir()
    assert evaluation.evaluate(TARGET, params, again) == metrics
    assert files.digests(again) == files.digests(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["answers.json", "cases.jsonl", "ladder.csv"]


def test_what_onnx_does_otherwise_is_in_the_tables_alone(evaluated):
    """The target computes in fp32, so that only the weights and the int8 tables are rounded."""
    metrics, _ = evaluated
    for text in ("packing", "general"):
        costs = metrics[text]["attribution"]
        assert min(abs(costs["weights"]), abs(costs["lm_head"])) > 1e-3
        assert abs(costs["activations"]) < 2e-5
        head, bare = metrics[text]["pytorch"]["head"], metrics[text]["onnx"]["bare"]
        assert bare["kl"] == pytest.approx(head["kl"], abs=2e-5)
        assert bare["agreement"] == head["agreement"] < 1


def test_figures_of_single_inputs_are_named_by_what_their_prompts_say(evaluated, built):
    metrics, folder = evaluated
    cases = ladder.read_cases(folder / "cases.jsonl")
    lines = jsonl.read(built / "prepared/packing/heldout.jsonl")
    answered = [case for case in cases if "packing.ended.adapter" in case]
    scored = [case for case in cases if "packing.onnx.bare.loss" in case]
    assert {case["input"] for case in scored} == {case["input"] for case in answered[1:]} < set(PROMPTS)
    assert [case["input"] for case in answered] == [PROMPTS[0], *(case["input"] for case in scored)]
    assert len(answered) == 1 + len(lines)
    share = sum(case["packing.ended.adapter"] for case in answered) / len(answered)
    assert metrics["packing"]["ended"]["adapter"] == pytest.approx(share, abs=1e-6)
    # The bare model answers the sample and some of the others.
    for some, figure, count in ((answered, "ended.bare", 1 + BARE), (scored, "onnx.bare.valid", BARE)):
        assert sum(f"packing.{figure}" in case for case in some) == count
    # Noise is no JSON, and the sample has no right answer to be valid.
    assert [case["packing.onnx.adapter.valid"] for case in scored] == [False] * len(lines)
    assert [case["packing.onnx.adapter.fields"] for case in scored] == [0.0] * len(lines)
    assert not [name for name in answered[0] if name.endswith((".valid", ".exact", ".fields"))]


def test_every_rung_s_own_answers_are_held_against_the_schema_and_the_right_ones(built, params, monkeypatch, tmp_path):
    """Noise is no JSON, so that the judge is another one here: every rung has its own shares."""
    monkeypatch.chdir(built)
    judged = []

    def judge(answer: str, reference: str, schema: dict) -> dict[str, bool | float]:
        judged.append((reference, schema))
        return {"valid": len(judged) % 2 == 0, "exact": False, "fields": 0.25}

    monkeypatch.setattr(answers, "judge", judge)
    metrics = evaluation.evaluate(TARGET, params, tmp_path)
    lines = jsonl.read(built / "prepared/packing/heldout.jsonl")
    assert judged == [('{"days": 2}', {"type": "object"})] * (4 * len(lines) + BARE)
    scores = metrics["packing"]["pytorch"] | {f"onnx {rung}": of for rung, of in metrics["packing"]["onnx"].items()}
    assert not set(vocabulary.JUDGED) & scores.pop("head").keys()
    assert len(scores) == 5
    assert all(0 < score["valid"] < 1 for score in scores.values())
    assert [(score["exact"], score["fields"]) for score in scores.values()] == [(0.0, 0.25)] * 5
    assert "valid" not in metrics["general"]["onnx"]["bare"]
    cases = [case for case in ladder.read_cases(tmp_path / "cases.jsonl") if "packing.onnx.adapter.loss" in case]
    share = sum(case["packing.pytorch.quantized.valid"] for case in cases) / len(cases)
    assert metrics["packing"]["pytorch"]["quantized"]["valid"] == pytest.approx(share, abs=1e-6)
    assert {case["packing.pytorch.quantized.fields"] for case in cases} == {0.25}


def test_plain_text_is_scored_and_held_against_no_answer(built, params, monkeypatch, tmp_path):
    """Its loss and perplexity are those of the held-out texts, whose first token may have nothing before it."""
    folder, reports = Path(shutil.copytree(built, tmp_path / "own", symlinks=True)), tmp_path / "reports"
    reports.mkdir()
    monkeypatch.chdir(folder)
    lines = [json.dumps({"text": f"We spent {prompt}, and it rained."}) + "\n" for prompt in PROMPTS]
    (folder / "texts.jsonl").write_text("".join(lines), encoding="utf-8")
    changes = {"data": "texts.jsonl", "format": "text", "template": "chat", "samples": [], "response_schema": None}
    spec = params.adapter("packing").model_copy(update=changes)
    base = Path("models/base")
    result = preparation.prepare(spec, AutoTokenizer.from_pretrained(base), checkpoints.eos_ids(base))
    jsonl.write(folder / "prepared/packing/heldout.jsonl", result.heldout)
    about = {"template": result.template, "samples": [], "response_schema": None}
    files.write_json(
        folder / "prepared/packing/adapter.json", about | {"generation": packaged.generation({"max_new_tokens": 4})}
    )
    metrics = evaluation.evaluate(TARGET, params.model_copy(update={"adapters": {"packing": spec}}), reports)
    for rung in metrics["packing"]["pytorch"].values(), metrics["packing"]["onnx"].values():
        for figures in rung:
            assert {"loss", "perplexity"} <= figures.keys() <= {"loss", "perplexity", "kl", "agreement"}
    assert len(files.read_json(reports / "answers.json")["packing"]) == 1
    assert metrics["packing"]["ended"].keys() == {"bare", "adapter"}


def test_answers_of_text_are_held_against_the_right_ones_and_all_of_them_are_asked_for(
    built, params, monkeypatch, tmp_path
):
    monkeypatch.chdir(built)
    about = heldout.about("packing") | {"response_schema": None}
    monkeypatch.setattr(heldout, "about", lambda _: about)
    metrics = evaluation.evaluate(TARGET, params, tmp_path)["packing"]
    rows = files.read_json(tmp_path / "answers.json")["packing"]
    asked = 1 + len(jsonl.read(built / "prepared/packing/heldout.jsonl"))
    assert (len(rows), sum("adapter" in row for row in rows), sum("bare" in row for row in rows)) == (
        asked,
        asked,
        1 + BARE,
    )
    assert {"chrf"} == set(metrics["onnx"]["adapter"]) - {"loss", "perplexity", "kl", "agreement"}
    # Noise has hardly a letter of the right answer.
    assert 0 <= metrics["onnx"]["adapter"]["chrf"] < 0.2
    assert set(metrics["ended"]) == set(metrics["looping"]) == {"bare", "adapter"}


def test_a_schema_s_fields_have_their_shares(built, params, monkeypatch, tmp_path):
    monkeypatch.chdir(built)
    schema = {"type": "object", "properties": {"days": {"type": "integer"}, "name": {"type": "string"}}}
    about = heldout.about("packing") | {"response_schema": schema}
    monkeypatch.setattr(heldout, "about", lambda _: about)
    few = params.model_copy(update={"evaluate": params.evaluate.model_copy(update=NOTHING)})
    metrics = evaluation.evaluate(TARGET, few, tmp_path)
    assert metrics["packing"]["fields"] == {"days": 0.0}
    # What the adapter forgot is told by ONNX alone, what the tables cost on the general text alone.
    assert set(metrics["packing"]["general"]) == {"onnx"}
    assert set(metrics["packing"]["attribution"]) == {"weights", "graph", "adapter_conversion"}
    assert set(metrics["general"]["attribution"]) == {"weights", "lm_head", "activations"}


def test_a_prompt_that_the_device_reads_otherwise_is_told_before_anything_is_scored(
    built, params, monkeypatch, tmp_path
):
    """Wherever it stands: here it is the last."""
    monkeypatch.chdir(built)
    last = jsonl.read(built / "prepared/packing/heldout.jsonl")[-1]["prompt"]

    real = device_tokenizer.of_model

    def of_model(folder: Path) -> device_tokenizer.Encode:
        device = real(folder)
        return lambda text: device(text)[1:] if text == last else device(text)

    monkeypatch.setattr(device_tokenizer, "of_model", of_model)
    monkeypatch.setattr(checkpoints, "load", lambda *_: pytest.fail("a model was loaded"))
    with pytest.raises(UserError, match=r"onnxruntime-genai has the token .* where transformers has the token"):
        evaluation.evaluate(TARGET, params, tmp_path)


def test_a_target_whose_runtime_is_not_here_has_all_that_pytorch_can_tell(built, params, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(built)
    cuda = params.target(TARGET).model_copy(update={"provider": "CUDAExecutionProvider", "device": "gpu"})
    changes = {"targets": {TARGET: cuda}, "evaluate": params.evaluate.model_copy(update=NOTHING)}
    metrics = evaluation.evaluate(TARGET, params.model_copy(update=changes), tmp_path)
    assert "note: CUDAExecutionProvider is not on this machine" in capsys.readouterr().out
    # What the adapter forgot, and what the tables cost, is told here by PyTorch, though nobody asked.
    assert set(metrics["packing"]) == {"pytorch", "general", "attribution"}
    assert set(metrics["packing"]["attribution"]) == {"weights", "lm_head"}
    assert not [score for score in metrics["packing"]["pytorch"].values() if "valid" in score]
    assert set(metrics["general"]["attribution"]) == {"weights", "lm_head"}


def test_rows_longer_than_the_context_are_refused(built, params, monkeypatch, tmp_path):
    monkeypatch.chdir(built)
    general = params.evaluate.general.model_copy(update={"row_tokens": 4096})
    longer = params.evaluate.model_copy(update={"general": general})
    with pytest.raises(UserError, match=r"row_tokens is 4096, but the base model's context is 512 tokens"):
        evaluation.evaluate(TARGET, params.model_copy(update={"evaluate": longer}), tmp_path)
    assert not list(tmp_path.iterdir())
