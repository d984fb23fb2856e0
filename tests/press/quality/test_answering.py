"""What the captured model is asked, and what is told of its answers."""

from collections.abc import Mapping, Sequence

import pytest

from press.core import files
from press.data.examples import Example
from press.params import settings
from press.quality import answering


class Runtime:
    """Answers with what it is asked."""

    def answers(self, prompts: Sequence[str], adapter: str | None, *_, **__) -> list[tuple[str, bool]]:
        return [(f"{adapter}: {prompt}", True) for prompt in prompts]


class Steps:
    """Notes down what is judged."""

    def __init__(self, texts: Mapping[str, list[Example]]) -> None:
        self.texts = texts
        self.judged: dict[str, dict[int, str]] = {}

    def judge(self, name: str, given: Mapping[int, str], _about: Mapping) -> None:
        self.judged[name] = dict(given)


@pytest.mark.parametrize(
    ("template", "prompts", "asked"),
    [
        ("<s>{prompt}{response}</s>", ["<s>"] * 3, ["<s>"]),
        ("{prompt}{response}</s>", [""] * 3, [""]),
        ("<s>{prompt}:{response}</s>", ["<s>a:", "<s>b:"], ["<s>a:", "<s>b:"]),
    ],
)
def test_plain_text_is_begun_once_and_what_is_written_of_it_is_no_answer(
    tmp_path, monkeypatch, template, prompts, asked
):
    params = settings.load().evaluate
    monkeypatch.chdir(tmp_path)
    about = {"template": template, "samples": ["sample"], "response_schema": None, "generation": {}}
    (tmp_path / "prepared/own").mkdir(parents=True)
    files.write_json(tmp_path / "prepared/own/adapter.json", about)
    examples = [Example(prompt=each, completion="x</s>", input_ids=[1, 2], prompt_tokens=1) for each in prompts]
    steps = Steps({"own": examples, "general": []})
    table, cases = answering.answer(steps, Runtime(), "own", params)
    assert [row["prompt"] for row in table] == ["sample", *asked]
    assert [row["adapter"] for row in table] == ["own: sample", *(f"own: {each}" for each in asked)]
    assert len(cases) == len(table)
    judged = {f"own.onnx.{rung}": len(asked) for rung in ("bare", "adapter")} if len(asked) > 1 else {}
    assert {name: len(own) for name, own in steps.judged.items()} == judged
    assert answering.figures("own", cases)["ended"]["adapter"] == 1
