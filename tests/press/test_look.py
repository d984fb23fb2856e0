"""A few examples are shown as the model reads them: control tokens, what is learned, and what does not fit."""

import json
from pathlib import Path

import pytest
import yaml

from press import look
from press.core.errors import UserError
from press.data.examples import Example
from press.sources import tokenizers
from press.training import looking

ROOT = Path(__file__).parents[2]
TOKENIZER = tokenizers.of_bytes()


def example(text: str, prompt_tokens: int, **more: object) -> Example:
    ids = TOKENIZER(text, add_special_tokens=False)["input_ids"]
    return Example(prompt="", completion="", input_ids=ids, prompt_tokens=prompt_tokens, **more)


def test_what_is_learned_is_marked_and_control_tokens_are_seen():
    shown = example("<|im_start|>a\nbc<|im_end|>d<|im_end|>", 6, learned=[(3, 6)])
    learned = looking.flags(shown, response_only=True)
    assert learned == [False] * 3 + [True] * 5
    assert look.text(TOKENIZER, shown, learned, colour=False) == "<|im_start|>a⏎\n⟦bc<|im_end|>d<|im_end|>⟧"
    coloured = look.text(TOKENIZER, shown, learned, colour=True)
    assert coloured == (
        "\033[36m<|im_start|>\033[0ma⏎\n\033[32mbc\033[0m\033[36m<|im_end|>\033[0m\033[32md\033[0m"
        "\033[36m<|im_end|>\033[0m"
    )
    assert looking.flags(shown, response_only=False) == [True] * 8
    alone = example("ab", 1)
    assert look.text(TOKENIZER, alone, looking.flags(alone, response_only=True), colour=False) == "a⟦b⟧"


@pytest.mark.parametrize(
    ("text", "seen"),
    [("\033[31mred", "\\x1b[31mred"), ("a\r\tb", "a\\r\\tb"), ("\u202ea", "\\u202ea"), ("é 🌍\n", "é 🌍⏎\n")],
)
def test_no_character_is_a_command_to_the_terminal(text, seen):
    assert looking.visible(text) == seen


@pytest.fixture
def project(tmp_path, tiny_base, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "base").symlink_to(tiny_base)
    params = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    params["adapters"]["travel"] |= {"template": "chat", "samples": []}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    (tmp_path / "data").mkdir()
    return tmp_path


@pytest.mark.integration
def test_examples_lengths_and_what_does_not_fit_are_shown(project):
    lines = [json.dumps({"instruction": f"question {index}", "output": "yes"}) for index in range(30)]
    lines[4:6] = ["[]", json.dumps({"instruction": "a" * 300, "output": "yes"})]
    lines += [json.dumps({"instruction": f"more {index}", "output": "no"}) for index in range(2000)]
    (project / "data/travel.jsonl").write_text("\n".join(lines), encoding="utf-8")
    shown = list(look.shown("travel", colour=False))
    assert shown[0] == "── to train: 33 tokens, 4 of them learned"
    assert shown[1] == "<|im_start|>user⏎\nquestion 0<|im_end|>⏎\n<|im_start|>assistant⏎\n⟦yes<|im_end|>⟧"
    assert "── line 5: a JSON list, not an object" in shown
    assert any(each.startswith("── line 6: 323 tokens, more than max_seq_len 256") for each in shown)
    assert shown[-3] == "── of the first 1000 lines:"
    assert shown[-2] == "data/travel.jsonl is read as format alpaca, by its fields instruction, output"
    assert len([each for each in shown if each.startswith("── to train")]) == look.SHOWN


@pytest.mark.integration
def test_both_answers_of_a_pair_are_shown(project):
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params["adapters"]["travel"]["training"] = {"objective": "dpo"}
    (project / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False), encoding="utf-8")
    lines = [json.dumps({"prompt": f"question {index}", "chosen": "yes", "rejected": "never"}) for index in range(30)]
    lines[4] = json.dumps({"prompt": "question 4", "chosen": "yes", "rejected": "yes"})
    (project / "data/travel.jsonl").write_text("\n".join(lines), encoding="utf-8")
    shown = list(look.shown("travel", colour=False))
    asked = "<|im_start|>user⏎\nquestion 0<|im_end|>⏎\n<|im_start|>assistant⏎\n"
    assert shown[:4] == [
        "── to train, chosen: 33 tokens, 4 of them compared",
        f"{asked}⟦yes<|im_end|>⟧",
        "── to train, rejected: 35 tokens, 6 of them compared",
        f"{asked}⟦never<|im_end|>⟧",
    ]
    assert "── line 5: chosen and rejected are the same, so that nothing is preferred" in shown


@pytest.mark.integration
def test_without_a_base_model_or_such_an_adapter_that_is_said(project):
    with pytest.raises(UserError, match=r"adapters has no 'cooking', only "):
        list(look.shown("cooking", colour=False))
    (project / "models/base").unlink()
    with pytest.raises(
        UserError, match=r"^models/base is not there, whose tokenizer reads the data: run `dvc repro fet"
    ):
        list(look.shown("travel", colour=False))
