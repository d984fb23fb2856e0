"""Answers end at a stop text, and texts are measured by the model's own context."""

import shutil
from pathlib import Path

import pytest
from parameters import SCHEMA
from parity import captured_to, converted, random_adapter

from press.core import files
from press.core.errors import UserError
from press.data import answers
from press.model import graphs, packaged
from press.model import runtime as runtime_module
from press.model.runtime import Runtime

pytestmark = pytest.mark.integration
LENGTH = packaged.generation({"max_new_tokens": 12})


@pytest.fixture
def runtime(tiny_quantized: Path, in_root: Path) -> Runtime:
    return Runtime(captured_to(in_root, tiny_quantized), {}, threads=2)


def test_an_answer_ends_at_the_first_stop_text_that_comes_up(runtime):
    prompts = [f"To pack {index}" for index in range(40)]
    whole_answers = {prompt: runtime.answer(prompt, None, LENGTH)[0] for prompt in prompts}
    # Random weights write bytes, of which few are letters.
    prompt, whole = next((key, text) for key, text in whole_answers.items() if text[:3].isascii() and len(text) > 8)
    stop = whole[1:3]
    answer, ended = runtime.answer(prompt, None, LENGTH | {"stop": ["never written", stop]})
    assert ended
    assert answer == whole[: whole.index(stop)]
    assert runtime.answer(prompt, None, LENGTH | {"stop": ["never written"]})[0] == whole


def test_an_adapter_with_a_response_schema_is_held_to_it_unless_it_may_be_free(tiny_quantized, in_root, tmp_path):
    """Random weights, which never write JSON of themselves, do so here every time."""
    model = captured_to(in_root, tiny_quantized)
    adapter = random_adapter(tiny_quantized, tmp_path / "trained", 4, ["q_proj", "down_proj"])
    (tmp_path / "packing").mkdir()
    path = converted(adapter, model / "lora_inputs.json", tmp_path / "packing/adapter.onnx_adapter")
    files.write_json(path.with_name("adapter.json"), {"template": "{prompt}{response}", "response_schema": SCHEMA})
    runtime = Runtime(model, {"packing": path}, threads=2)
    given = packaged.generation({"max_new_tokens": 60})
    for prompt in ("a week in Rome", "two days", "?"):
        answer, ended = runtime.answer(prompt, "packing", given)
        assert ended
        assert answers.complaint(answer, SCHEMA) is None
        free, _ = runtime.answer(prompt, "packing", given, free=True)
        assert answers.complaint(free, SCHEMA)
        assert answers.complaint(runtime.answer(prompt, None, given)[0], SCHEMA)
    answer, ended = runtime.answer("a week", "packing", packaged.generation({"max_new_tokens": 8}))
    assert not ended
    assert answers.complaint(answer, SCHEMA)


@pytest.mark.parametrize("settings", [{}, {"repetition_penalty": 1.5}, {"stop": ["a", "e", "t"]}])
def test_prompts_answered_together_are_answered_as_one_by_one(tiny_quantized, in_root, settings):
    """Of several lengths, so that shorter ones are padded; in fp32, in which rows do not meet."""
    model, given = captured_to(in_root, tiny_quantized), LENGTH | settings
    prompts = [f"To pack {'now ' * (index % 5)}{index}" for index in range(23)]
    one, several = Runtime(model, {}, threads=2), Runtime(model, {}, threads=2, batch=8)
    expected = [one.answer(prompt, None, given) for prompt in prompts]
    assert several.answers(prompts, None, given) == expected
    assert len(set(expected)) > 10


def test_answers_together_end_at_the_context_each_as_alone(tiny_quantized, in_root):
    model = captured_to(in_root, tiny_quantized)
    one, several = Runtime(model, {}, threads=2), Runtime(model, {}, threads=2, batch=8)
    prompts = ["x" * length for length in (500, 505, 505, 3)]
    assert several.answers(prompts, None, LENGTH) == [one.answer(prompt, None, LENGTH) for prompt in prompts]


@pytest.mark.parametrize(
    ("rows", "penalty", "expected"),
    [
        # Padding is 9.
        ([[1], [1, 2], [1]], 1.0, [[0, 2, 1]]),
        ([[1], [1, 2], [1]], 1.1, [[0, 2], [1]]),
        ([[9, 1], [9, 1, 2], [9, 2]], 1.1, [[0, 2, 1]]),
        ([[9, 1], [3, 1], [9, 1, 2]], 1.1, [[0, 1], [2]]),
        ([[1, 9], [1, 2], [1, 2, 3], [1, 2, 9]], 1.0, [[0], [1, 2], [3]]),
        ([[1]] * 5, 1.0, [[0, 1, 2], [3, 4]]),
        ([[1], [2] * 16, [3] * 17, [4] * 17], 1.0, [[0, 1], [2, 3]]),
    ],
)
def test_prompts_go_together_where_padding_changes_no_answer(rows, penalty, expected):
    given = packaged.generation({"max_new_tokens": 4, "repetition_penalty": penalty})
    assert list(runtime_module._batches(rows, 3, given, 20, 9, padded=True)) == expected


def test_where_padding_is_remembered_only_prompts_of_one_length_go_together():
    rows = [[1], [1, 2], [1], [3, 4]]
    assert list(runtime_module._batches(rows, 3, LENGTH, 20, 9, padded=False)) == [[0, 2], [1, 3]]


def test_a_prompt_of_no_tokens_is_what_stands_before_a_text(tiny_quantized, in_root):
    """As of plain text, where the base model puts no token before it."""
    runtime = Runtime(captured_to(in_root, tiny_quantized), {}, threads=2, batch=2)
    (answer,) = runtime.answers([""], None, LENGTH)
    assert answer == runtime.answer("", None, LENGTH) == runtime.answer("", None, LENGTH, before=[runtime.start])


def test_the_base_s_own_settings_reach_the_runtime_s_config(tiny_quantized, in_root, tmp_path):
    """The builder takes all but the penalty."""
    own = {"temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.1, "do_sample": True}
    checkpoint = Path(shutil.copytree(tiny_quantized, tmp_path / "checkpoint"))
    path = checkpoint / "generation_config.json"
    files.write_json(path, files.read_json(path) | own)
    assert files.read_json(captured_to(in_root, checkpoint) / "genai_config.json")["search"].items() >= own.items()


def test_a_text_that_the_runtime_would_cut_off_is_refused(runtime):
    for ask in (runtime.encode, lambda text: runtime.answer(text, None, LENGTH)):
        with pytest.raises(UserError, match=r"U\+0000"):
            ask("a\0b")


def test_the_context_is_the_checkpoint_s(runtime):
    assert runtime.context == 512
    assert len(runtime.logits([65] * (runtime.context - 1), None)) == runtime.context - 1


@pytest.mark.parametrize(
    "load",
    [lambda model: Runtime(model, {}, threads=2), lambda model: graphs.check_loads(model, "CPUExecutionProvider")],
)
def test_a_model_that_names_code_is_refused_before_it_is_loaded(tmp_path, load):
    session = {"custom_ops_library": "evil.so"}
    files.write_json(tmp_path / "genai_config.json", {"model": {"decoder": {"session_options": session}}})
    with pytest.raises(UserError, match=r"sets model\.decoder\.session_options\.custom_ops_library"):
        load(tmp_path)
