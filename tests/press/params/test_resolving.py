"""What params.yaml does not say has its default, and each mistake is told where it was written."""

from collections.abc import Iterator
from pathlib import Path
from typing import get_args, get_origin

import pytest
import yaml
from parameters import GATES, GIVEN, ROOT
from pydantic import BaseModel

from press.core import nested
from press.core.errors import UserError
from press.params import checks, resolving, schema, settings

DEFAULTS = yaml.safe_load(resolving.DEFAULTS.read_text(encoding="utf-8"))
COMMIT = "a" * 40
# The least that a params.yaml must say.
SHORT = """
seed: 42
threads: 2
device: auto
arithmetic: portable
base: {}
data_sets: {}
passes: {}
quantize: {calibration: {data: data/calibration.jsonl}}
every_adapter: {}
adapters:
  mine: {data: data/mine.jsonl}
targets:
  cpu: {}
evaluate: {general: {data: data/general.jsonl}, tasks: {folder: data/tasks}}
gates: {}
package: {}
"""


def written(folder: Path, *edits: tuple[str, str]) -> Path:
    """Write the shortest params.yaml with edits into a folder; return its path."""
    text = SHORT
    for old, new in edits:
        assert old in text
        text = text.replace(old, new, 1)
    path = folder / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> list[str]:
    with pytest.raises(UserError) as caught:
        settings.load(path)
    return str(caught.value).replace(f"{path}", "params.yaml").splitlines()


def own(text: str) -> tuple[str, str]:
    return "{data: data/mine.jsonl}", "{data: data/mine.jsonl, " + text + "}"


def shared(text: str) -> tuple[str, str]:
    return "every_adapter: {}", "every_adapter: {" + text + "}"


def test_an_adapter_needs_its_data_alone_and_a_target_its_name(tmp_path):
    params = settings.load(written(tmp_path))
    assert params.adapter("mine").model_dump() == {"data": "data/mine.jsonl", **DEFAULTS["every_adapter"]}
    assert params.target("cpu").model_dump() == DEFAULTS["every_target"]
    assert params.quantize.awq.model_dump() == DEFAULTS["quantize"]["awq"]
    assert params.package.model_dump() == DEFAULTS["package"]


def test_what_is_said_comes_before_what_all_adapters_have_and_that_before_the_default(tmp_path):
    other = ("targets:", "  other: {data: data/other.jsonl, lora: {rank: 3, alpha: 3}}\ntargets:")
    params = settings.load(written(tmp_path, shared("lora: {rank: 2}, template: chat"), other))
    assert [(each.lora.rank, each.lora.alpha) for each in params.adapters.values()] == [(2, 32), (3, 3)]
    assert "data" not in resolving._defaults()["every_adapter"]


@pytest.mark.parametrize("key", ["fields", "response_schema"])
def test_what_is_one_value_is_not_mixed_with_another(tmp_path, key):
    found = written(tmp_path, shared(f"{key}: {{prompt: a}}"), own(f"{key}: {{response: b}}"))
    assert resolving.Resolved(found).values["adapters"]["mine"][key] == {"response": "b"}


def test_another_wheel_has_nothing_of_the_default_one_s(tmp_path):
    path = written(tmp_path, ("base: {}", "base: {package: {name: other, version: 1.0.0, gguf: a.gguf}}"))
    expected = [f"params.yaml: base.package.{key} is missing" for key in ("sha256", "model", "license", "language")]
    assert refusal(path) == expected


def values_of(block: type[BaseModel]) -> Iterator[str]:
    """Yield the keys whose values are blocks of any keys."""
    for name, field in block.model_fields.items():
        found = [field.annotation, *get_args(field.annotation)]
        for kind in found:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from values_of(kind)
        members = [get_args(kind)[1] for kind in found if get_origin(kind) is dict]
        blocks = [kind for kind in members if isinstance(kind, type) and issubclass(kind, BaseModel)]
        for kind in blocks:
            yield from values_of(kind)
        if not blocks and any(kind is dict or get_origin(kind) is dict for kind in found):
            yield name


def test_the_types_have_no_other_blocks_that_are_one_value():
    assert set(values_of(settings.Settings)) == resolving.VALUES


def test_every_key_has_its_default_in_one_place_or_must_be_given(tmp_path):
    hub = ("data_sets: {}", f"data_sets: {{questions: {{id: a/b, revision: {COMMIT}}}}}")
    values = settings.load(written(tmp_path, hub)).model_dump()
    given = {
        "every_data_set.id",
        "every_data_set.revision",
        "seed",
        "threads",
        "device",
        "arithmetic",
        "adapters.mine.data",
        "quantize.calibration.data",
    }
    given |= {"evaluate.general.data", "evaluate.tasks.folder", "gates"}
    for block, name in {"data_sets": "questions", "adapters": "mine", "targets": "cpu"}.items():
        values[resolving.EVERY[block]] = values[block].pop(name)
    found = {name.replace("every_adapter.data", "adapters.mine.data") for name in nested.flat(values)}
    assert found - resolving.EVERY.keys() - given == set(nested.flat(DEFAULTS)) - {
        f"gates.{name}" for name in nested.flat(GATES)
    }


def test_the_blocks_are_those_of_the_types():
    assert set(resolving.BUILD) - {resolving.SHARED} == set(settings.Settings.model_fields)
    assert set(GIVEN) == {*resolving.BUILD, *resolving.OUTSIDE}
    assert resolving.DEFAULTS == ROOT / resolving.NAMED
    assert set(DEFAULTS["every_adapter"]) | {"data"} == set(schema.Adapter.model_fields)


@pytest.mark.parametrize(
    ("edits", "sentences"),
    [
        # in the file and under the key where it was written, and once for all adapters
        ([own("lora: {rank: two}")], ["params.yaml: adapters.mine.lora.rank is 'two', but must be an integer"]),
        (
            [shared("lora: {rank: two}"), ("targets:", "  other: {data: data/other.jsonl}\ntargets:")],
            ["params.yaml: every_adapter.lora.rank is 'two', but must be an integer"],
        ),
        (
            [shared("lora: {r: 2}")],
            ["params.yaml: every_adapter.lora.r is not a known key, only method, rank, alpha, dropout, target_modules"],
        ),
        (
            [shared("training: {max_steps: 4}")],
            [
                "params.yaml: every_adapter.training: warmup_steps is 8, but max_steps is 4, so that the learning rate "
                "would never get to its peak: choose fewer"
            ],
        ),
        (
            [shared("samples: [a, 3]")],
            ["params.yaml: every_adapter.samples.1 is 3, but must be text: put it in quotes"],
        ),
        (
            [shared("fields: {1: a}")],
            ["params.yaml: every_adapter.fields has the key 1, but a key must be text: put it in quotes"],
        ),
        (
            [("cpu: {}", "cpu: {bits: 4}")],
            ["params.yaml: targets.cpu.bits is not a known key, only device, provider, "],
        ),
        ([("cpu: {}", "cpu:")], ["params.yaml: targets.cpu is null, but must be a block of keys"]),
        ([own("lora: null")], ["params.yaml: adapters.mine.lora is null, but must be a block of keys"]),
        # what would take the place of a block, whose other keys would then be missing
        (
            [shared("lora: null, generation: 3"), own("lora: {rank: 2}, generation: {top_k: 1}")],
            [
                "params.yaml: every_adapter.generation is 3, but must be a block of keys",
                "params.yaml: every_adapter.lora is null, but must be a block of keys",
            ],
        ),
        ([("base: {}", "base: {package: null}")], ["params.yaml: base.package is null, but must be a block of keys"]),
        # a key without a default is missing in params.yaml, whatever the defaults have around it
        (
            [("general: {data: data/general.jsonl}, ", "")],
            ["params.yaml: evaluate.general.data is missing"],
        ),
        # blocks
        ([("every_adapter: {}", "every_adapter: 3")], ["params.yaml: every_adapter is 3, but must be a block of keys"]),
        (
            [shared("data: data/mine.jsonl")],
            ["params.yaml: every_adapter.data is not a known key: each of adapters names its own data"],
        ),
        ([("{data: data/mine.jsonl}", "{}")], ["params.yaml: adapters.mine.data is missing"]),
        ([("base: {}\n", "")], ["params.yaml: base is missing: write {} if it has nothing to say"]),
        (
            [("seed: 42\n", "sede: 42\n")],
            [
                f"params.yaml: sede is not a known key, only {', '.join(resolving.BUILD)}",
                "params.yaml: seed is missing",
            ],
        ),
        (
            [("every_adapter: {}", "every_target: {}")],
            [
                f"params.yaml: every_target is not a known key, only {', '.join(resolving.BUILD)}",
                "params.yaml: every_adapter is missing: write {} if it has nothing to say",
            ],
        ),
        ([("base: {}", "base: 3")], ["params.yaml: base is 3, but must be a block of keys"]),
        # gates
        ([("gates: {}", "gates: [a <= 1]")], ["params.yaml: gates is ['a <= 1'], but must be a block of keys"]),
        (
            [("gates: {}", "gates: {own: {mine: null}, losses: {learnt: null}}")],
            ["params.yaml: gates.losses.learnt is null, which drops it, but there is only learned, adapter, "],
        ),
        (
            [("gates: {}", "gates: {own: a.b <= 1}")],
            ["params.yaml: gates.own is 'a.b <= 1', but must be a block of keys"],
        ),
        (
            [("gates: {}", "gates: {own: {size: 3}}")],
            ["params.yaml: gates.own.size is 3, but must be text: put it in quotes"],
        ),
    ],
)
def test_a_mistake_is_told_where_it_was_written(tmp_path, edits, sentences):
    found = refusal(written(tmp_path, *edits))
    assert len(found) == len(sentences)
    assert all(line.startswith(sentence) for line, sentence in zip(found, sentences, strict=True)), found


def test_a_default_that_is_wrong_is_told_with_its_file(tmp_path, monkeypatch):
    defaults = yaml.safe_load(resolving.DEFAULTS.read_text(encoding="utf-8"))
    defaults["every_adapter"]["lora"]["rank"] = "two"
    monkeypatch.setattr(resolving, "_defaults", lambda: defaults)
    sentence = "press/params/defaults.yaml: every_adapter.lora.rank is 'two', but must be an integer"
    assert refusal(written(tmp_path)) == [sentence]


def test_a_gate_without_a_text_is_one_and_is_refused(tmp_path):
    found = resolving.Resolved(written(tmp_path, ("gates: {}", 'gates: {own: {a: ""}}')))
    with pytest.raises(UserError, match=r"params\.yaml: gates\.own\.a: '' is not a comparison"):
        checks.check_gates(settings.validated(found), found)


@pytest.mark.parametrize(
    ("edits", "sentence"),
    [
        (
            [shared("training: {objective: dpo, packing: true}")],
            "every_adapter.training.packing is true, but every_adapter.training.objective is dpo, which compares two ",
        ),
        (
            [shared("training: {packing: true}"), own("training: {objective: dpo}")],
            "every_adapter.training.packing is true, but adapters.mine.training.objective is dpo, which compares two ",
        ),
        # What params.yaml does not say is a default.
        (
            [own("format: preference")],
            "adapters.mine.format is preference, but adapters.mine.training.objective is sft: choose dpo, or another",
        ),
    ],
)
def test_what_does_not_go_with_an_objective_is_told_where_it_was_written(tmp_path, edits, sentence):
    path = written(tmp_path, *edits)
    found = resolving.Resolved(path)
    with pytest.raises(UserError) as caught:
        checks.check_objectives(settings.validated(found), found)
    assert str(caught.value).startswith(f"{path}: {sentence}")


def test_gates_come_as_sets_that_follow_the_adapters(tmp_path):
    standard = [gate for gates in GATES.values() for gate in gates.values()]
    assert settings.load(written(tmp_path)).gates == standard[:-1]
    structured = own("response_schema: {type: object}")
    assert settings.load(written(tmp_path, structured)).gates == [*standard[:-1], "mine.onnx.adapter.valid >= 0.95"]


@pytest.mark.parametrize(
    ("gates", "expected"),
    [
        ("losses: null, general: null", ["{adapter}.ended.adapter >= 0.95", "{adapter}.looping.adapter <= 0.02"]),
        ("losses: null, general: null, answers: {ended: null}", ["{adapter}.looping.adapter <= 0.02"]),
        # Those of the defaults stay in their order, the others come by name, whatever the order in the file.
        (
            "own: {b: b.c <= 2, a: a.b <= 1}, losses: null, answers: null, "
            "general: {zero: z.z <= 0, base: general.x <= 1}",
            [
                "general.onnx.bare.kl <= general.pytorch.head.kl + 0.02",
                "general.x <= 1",
                "z.z <= 0",
                "a.b <= 1",
                "b.c <= 2",
            ],
        ),
    ],
)
def test_a_set_or_a_gate_can_be_dropped_replaced_and_added(tmp_path, gates, expected):
    assert settings.load(written(tmp_path, ("gates: {}", f"gates: {{{gates}}}"))).gates == expected
